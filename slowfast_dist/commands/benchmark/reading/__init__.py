"""From a file to a batch: what the reading of clips takes."""
