"""`evaluate`: the scores of a trained model on videos whose labels are known."""
