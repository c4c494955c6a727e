"""What a trained model says of videos, long videos and live sources."""
