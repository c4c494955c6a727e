"""The command ``check-data``: what is wrong with a dataset, before hours are spent on it."""
