"""Cross-validation from its settings to its result: one training after the other, then the scores.

Each training is an ordinary run in a folder of its own, which every command takes.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slowfast_dist.commands.cross_validate.plan import Training, all_trainings
from slowfast_dist.commands.cross_validate.result import write_result
from slowfast_dist.config.checks import validate
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import FINAL, USUAL_FOLDS
from slowfast_dist.config.training import Config
from slowfast_dist.data.listing.folds.dealing import count_folds
from slowfast_dist.data.listing.manifest import list_root
from slowfast_dist.data.synthetic import make_demo_videos
from slowfast_dist.data.workers import prepare_workers
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.distributed.collectives import run_on_main
from slowfast_dist.distributed.environment import rank
from slowfast_dist.distributed.failures import faults_as_run_errors, shutdown
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.videos import with_start
from slowfast_dist.system.log import logger
from slowfast_dist.training.run import run_training


def run_cross_validation(config: Config) -> dict[str, Any]:
    """Train for each fold as ``config`` says, and write the result once all are done.

    Returns the summary of the last training, or the place and the scores of all. Collective, as
    `run_training`. Raises UserError for mistakes of the user's.
    """
    config = replace(config, folds=config.folds or USUAL_FOLDS)
    validate(config)
    if (own := _of_own_folder(config)) is not None:
        return run_training(config_of(own, config))
    config = _placed(config)
    count, tested = _count_on_main(config)  # before anything is trained
    trainings = all_trainings(config, count, tested)
    chosen = [one for one in trainings if config.fold in (None, one.fold)]
    if not chosen and config.fold == FINAL:
        raise UserError(
            "--fold final: the list has no rows of split test, which its model would score: leave "
            "it out"
        )
    if not chosen:
        raise UserError(f"--fold {config.fold}: there are {count} folds; give one of 1 to {count}")
    if rank() == 0:
        _announce(config, trainings, chosen)
    for number, training in enumerate(chosen, 1):
        if rank() == 0:
            logger.info(f"training {number} of {len(chosen)}: {training.title(count)}")
        summary = run_training(config_of(training, config))
        if summary["status"] != "finished":
            return summary
    left = [one for one in trainings if RunFolder(one.folder).status() != "finished"]
    if left:
        if rank() == 0:
            names = ", ".join(str(one.folder.relative_to(config.output_dir)) for one in left[:5])
            more = f" and {len(left) - 5} others" if len(left) > 5 else ""
            logger.info(f"the result is written once all are done; not yet: {names}{more}")
        return {"output_dir": str(config.output_dir), "status": "running"}
    scores: dict[str, Any] = {}
    if rank() == 0:
        recall = config.evaluation.unknown_recall
        scores = write_result(config.output_dir, trainings, count, recall, config)
    return {"output_dir": str(config.output_dir), "status": "finished", **scores}


def _count_on_main(config: Config) -> tuple[int, bool]:
    """How many folds there are, and whether there are rows of split test. Collective: one process
    reads the list, which may be another tool's with videos to look at. Raises UserError."""
    if int(os.environ.get("WORLD_SIZE") or "1") == 1:
        return _count(config)
    with faults_as_run_errors():
        prepare_workers(config.data.num_workers)  # before other threads start
        accelerator = make_accelerator(
            config.mixed_precision, config.distributed.timeout, config.distributed.compression,
            config.output_dir,
        )  # fmt: skip
        found = run_on_main(accelerator, lambda: _count(config))
        shutdown(accelerator)  # each training makes a group of its own
    return found


def _count(config: Config) -> tuple[int, bool]:
    assert config.folds is not None and config.data.root is not None
    if config.data.synthetic:
        make_demo_videos(config.data.root)
    data = config.data
    listing = list_root(with_start(data))
    count = count_folds(listing, config.folds, data.background)
    return count, listing.tested is not None


def _of_own_folder(config: Config) -> Training | None:
    """The one training in whose folder it lies that ``config`` names, as its config.yaml does.

    The result of all is not written then: its seeds and shares stand in no such file.
    """
    folder, fold = config.output_dir.absolute(), config.fold
    name = FINAL if fold == FINAL else f"fold_{fold}"
    if fold is None or folder.name != name or not RunFolder(folder).holds_run():
        return None
    if rank() == 0:
        logger.info(
            f"{RunFolder(folder).shown}: this fold alone; the result of all is written by the "
            "command that they began with, with --resume auto"
        )
    return Training(fold, config.seed, config.data.train_fraction, folder)


def _placed(config: Config) -> Config:
    """With a folder without {timestamp}. Raises UserError where that, or --resume, cannot be."""
    if config.resume not in ("never", "auto"):
        raise UserError(
            f"--resume {config.resume}: goes on with one training; with --folds give --resume "
            "auto, which goes on with each where it stopped"
        )
    if "{timestamp}" not in str(config.output_dir):
        return replace(config, output_dir=config.output_dir.absolute())
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several or config.fold is not None or config.resume == "auto":
        flag = "--resume auto" if config.resume == "auto" else f"--folds {config.folds}"
        raise UserError(
            f"{flag} --output-dir {config.output_dir}: all trainings need one folder: give an "
            "--output-dir without {timestamp}"
        )
    name = str(config.output_dir).replace("{timestamp}", time.strftime("%Y%m%d-%H%M%S"))
    return replace(config, output_dir=Path(name).absolute())


def config_of(training: Training, config: Config) -> Config:
    """Settings of one training. It is validated once, after its last epoch, which then is its best:
    an epoch chosen by the videos that are then scored would flatter the score."""
    return replace(
        config, output_dir=training.folder, fold=training.fold, seed=training.seed, seeds=1,
        learning_curve=False, data=replace(config.data, train_fraction=training.share),
        evaluation=replace(config.evaluation, every=config.epochs),
        checkpoint=replace(config.checkpoint, monitor="val/loss", mode="min"),
    )  # fmt: skip


def _announce(config: Config, trainings: Sequence[Training], chosen: Sequence[Training]) -> None:
    what = f"cross-validation: {len(trainings)} trainings of {config.epochs} epochs"
    if len(chosen) < len(trainings):
        what += f", of which this does {len(chosen)}"
    logger.info(
        f"{what}, below {RunFolder(config.output_dir).shown}; each is validated after its last "
        "epoch alone, whose model predicts the videos held out"
    )
    if trainings[-1].is_final:
        logger.info(
            "the last one is on all folds: its model scores the rows of split test, once, with the "
            "temperature of all out-of-fold predictions"
        )
