"""``python -m slowfast_dist COMMAND``."""

from slowfast_dist.cli import main

if __name__ == "__main__":
    main()
