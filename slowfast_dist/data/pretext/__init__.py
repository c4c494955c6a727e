"""Labels that need no people: in which way a clip is shown, which a network learns to tell."""
