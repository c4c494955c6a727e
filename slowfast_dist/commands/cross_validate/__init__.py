"""The command ``cross-validate``: each video predicted by a model that never saw its group."""
