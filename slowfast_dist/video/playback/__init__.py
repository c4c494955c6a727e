"""What a browser can play of a video, at the times that the lists of segments count in."""
