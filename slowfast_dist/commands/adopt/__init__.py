"""The command ``adopt``: weights of another program become a run; its settings become flags."""
