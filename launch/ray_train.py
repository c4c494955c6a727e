"""A training by Ray Train, each of whose workers is a process of it. In the repository's folder, in
an environment that also has Ray (pip install 'ray[train]'), on one host or a Ray cluster:

    python launch/ray_train.py --workers 2 demo --micro-batch-size 8
    python launch/ray_train.py --workers 4 --gpus --data.root /all/videos --output-dir /all/mine

What follows --workers and --gpus is train.py's. On several hosts, videos and runs lie in a folder
that all see, under the same name, and slowfast_dist is installed on each (pip install -e .). With
--resume auto the same command goes on with a training; Ray's own checkpoints are not used.
"""

import argparse
import os
import sys
from typing import Any

import ray
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer

from slowfast_dist import UserError, load_config


def train_worker(settings: dict[str, Any]) -> None:
    """One process of the training, in Ray's own process group; Ray runs it in a thread."""
    import slowfast_dist
    from slowfast_dist.system.log import log_to_console

    log_to_console()
    os.chdir(settings["folder"])
    result = slowfast_dist.train(settings["config"])
    if ray.train.get_context().get_world_rank() == 0:
        print(f"{result['status']}: {result['output_dir']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train by Ray Train.", allow_abbrev=False)
    parser.add_argument("--workers", type=int, default=1, help="processes of the training")
    parser.add_argument("--gpus", action="store_true", help="give each of them a GPU")
    own, words = parser.parse_known_args()
    preset = [words.pop(0)] if words and not words[0].startswith("-") else []
    try:
        config = load_config(*preset, flags=words)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": config, "folder": os.getcwd()},
        scaling_config=ScalingConfig(num_workers=own.workers, use_gpu=own.gpus),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
