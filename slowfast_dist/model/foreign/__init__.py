"""Weights of other programs: files read without running anything in them, names made ours."""
