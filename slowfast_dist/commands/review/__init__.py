"""The command ``review``: a page on which labels are mended, video after video.

The run or list that it begins with is only read; what is answered is in a list of its own.
"""
