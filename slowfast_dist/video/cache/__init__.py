"""Decoded frames that are kept for the next epoch, as the decoder gave them."""
