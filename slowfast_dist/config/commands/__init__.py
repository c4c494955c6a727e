"""Every setting of the commands beside ``train``. No torch here, so that ``--help`` is fast."""
