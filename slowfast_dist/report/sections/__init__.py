"""Parts of a run's page beyond its scores and curves: calibration, labels in doubt, folds, time."""
