"""The command ``serve``: a small web page where a video is dropped and the model says what it sees.

Anyone who reaches the port may send anything: what comes in is bounded in size, time and number,
decoded in processes that may die, and never lies on the disk under a name.
"""
