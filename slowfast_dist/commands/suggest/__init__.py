"""The command ``suggest``: which videos to label next."""
