"""The command ``embed``: features of videos, in a file."""
