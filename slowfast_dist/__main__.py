"""``python -m slowfast_dist COMMAND``."""

import sys

from slowfast_dist.cli.start import main


def run() -> None:
    """The installed command."""
    main(sys.argv[1:])


if __name__ == "__main__":
    run()
