"""Which clips' frames are kept decoded, how much memory they get, and how processes share them."""
