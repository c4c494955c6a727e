"""Names of files and classes, which may hold anything, as a terminal or a page shows them."""

JOINERS = "\u200c\u200d"
"""Without which words of Persian or Hindi, and some emoji, are spelled wrong."""


def clean(text: str) -> str:
    """``text`` with its control characters, lone surrogates and bidi overrides made visible.

    Whatever bytes a class or a path has, the result is UTF-8 text that steers nothing.
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign in JOINERS else ascii(sign)[1:-1] for sign in text
    )
