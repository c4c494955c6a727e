"""What is done once, when a training is over."""
