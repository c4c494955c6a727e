"""The best model of a training: which epoch it is of, and what models/ tells of it."""
