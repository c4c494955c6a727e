"""The command ``tune``: trials of a few settings, each a cross-validation, chosen by Optuna."""
