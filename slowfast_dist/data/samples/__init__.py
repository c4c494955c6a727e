"""Clips of videos for training and evaluation, and the batches they form."""
