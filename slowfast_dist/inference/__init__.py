"""A trained model, ready to answer: a run's best model, or the files that export wrote."""
