"""What computes a model's answers in place of torch, and which of them does."""
