"""Scores, intervals and summaries: numbers in, numbers out."""
