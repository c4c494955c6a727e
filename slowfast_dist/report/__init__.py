"""One self-contained HTML page about a run, or one that compares several."""
