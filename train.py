"""Fine-tune SlowFast: ``python train.py --data.root my_videos``; ``--help`` shows every flag."""

import sys

from slowfast_dist.cli.start import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
