"""The run folder: the writer and the reader of each of its files, its lock, its checkpoints."""
