"""The command ``export``: a run's best model as one file for other programs, checked."""
