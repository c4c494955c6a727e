"""What a linear layer or the nearest neighbours make of a network's features."""
