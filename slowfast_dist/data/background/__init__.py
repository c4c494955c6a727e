"""The class of what lies between segments: where it is, and which clips are drawn from it."""
