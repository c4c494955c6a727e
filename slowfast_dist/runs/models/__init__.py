"""What lies in models/ of a run: the checks of best_model.json, and its later changes."""
