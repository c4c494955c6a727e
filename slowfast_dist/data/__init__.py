"""From files on disk to batches of clips."""
