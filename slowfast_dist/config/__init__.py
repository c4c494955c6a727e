"""Every setting of every command, its help and its bounds."""
