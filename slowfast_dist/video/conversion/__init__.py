"""Decoded frames, as FFmpeg stores them -> RGB, upright."""
