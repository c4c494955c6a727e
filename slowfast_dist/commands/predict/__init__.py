"""What a trained model says of videos: files, long ones by a window, live sources."""
