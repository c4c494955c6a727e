"""From words on the command line to checked settings and one function to call."""
