"""One file: the right frames of it, and a file of frames. No torch."""
