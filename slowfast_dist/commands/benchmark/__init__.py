"""Measurements on this machine: the commands behind ``benchmark``."""
