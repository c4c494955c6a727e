"""From the data settings to the usable videos: list, probe, split."""
