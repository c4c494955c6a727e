"""Processes that work on this one's Python objects: how they start, and what goes to and fro."""
