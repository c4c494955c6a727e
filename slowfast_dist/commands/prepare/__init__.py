"""The command ``prepare``: a dataset rewritten once, to be read fast ever after."""
