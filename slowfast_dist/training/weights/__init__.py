"""Weights beside those of the last step: averages of many steps, and where a head starts."""
