"""A folder of numbered images as a video: which images, in what order, when, and their pixels."""
