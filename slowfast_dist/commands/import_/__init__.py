"""The command ``import``: annotations of other tools and datasets become one CSV."""
