"""What lies in models/ of a run: the checks of best_model.json, what is written there, and later
changes."""
