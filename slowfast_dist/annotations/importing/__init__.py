"""Annotation files of other tools become rows of our own list: found, converted, checked, told."""
