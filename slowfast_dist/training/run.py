"""A training from its settings to its results: `run_training` is the table of contents."""

from dataclasses import replace
from typing import Any, Literal

from accelerate import Accelerator

from slowfast_dist.config.checks import validate
from slowfast_dist.config.training import Config
from slowfast_dist.data.loaders import VideoSet, end_workers, find_videos
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.distributed.collectives import any_process, on_main, only_main
from slowfast_dist.distributed.failures import at_loss_of_a_process, faults_as_run_errors, leave
from slowfast_dist.runs.checkpoint import load_checkpoint
from slowfast_dist.runs.folder import RunFolder, Start, describe_environment, open_run
from slowfast_dist.system import signals
from slowfast_dist.system.log import logger
from slowfast_dist.system.signals import StopRequested
from slowfast_dist.training.recorder import Recorder, preempted_words
from slowfast_dist.training.trainer import Trainer
from slowfast_dist.video.reader import decoder_reasons


def run_training(config: Config) -> dict[str, Any]:
    """Train as ``config`` says and leave the run folder; returns its place and its best epoch.

    Collective: every process calls it with the same config. Raises UserError for mistakes of the
    user's and RunError for what ends a run from outside; the run's status file then says failed.
    """
    validate(config)
    with faults_as_run_errors():
        distributed = config.distributed
        accelerator = make_accelerator(
            config.mixed_precision, distributed.timeout, distributed.compression
        )
        start = on_main(accelerator, lambda: open_run(config.output_dir, config.resume))
        for message in start.messages:
            logger.info(message)
        if start.finished:
            summary = {"output_dir": str(start.folder.root), "status": "finished"}
        else:
            summary = _run(replace(config, output_dir=start.folder.root), accelerator, start)
        leave(accelerator)
    return summary


def _run(config: Config, accelerator: Accelerator, start: Start) -> dict[str, Any]:
    folder = start.folder
    if accelerator.is_main_process:
        at_loss_of_a_process(lambda: folder.set_status("failed"))
    recorder = trainer = None
    try:
        videos = on_main(accelerator, lambda: find_videos(config.data, config.seed))
        _announce(accelerator, videos, config.data.decoder)
        _end_if_asked(accelerator)
        checkpoint = load_checkpoint(start.checkpoint) if start.checkpoint else None
        trainer = Trainer(config, accelerator, videos, checkpoint)
        if checkpoint is not None:
            # A smaller one than the checkpoint's is what `auto` is for.
            free = ("micro_batch_size",) if config.micro_batch_size == "auto" else ()
            trainer.state.restore(checkpoint, accelerator, free)
        state = checkpoint.state if checkpoint else None
        environment = describe_environment(
            str(accelerator.device), accelerator.mixed_precision, accelerator.num_processes
        )
        recorder = only_main(
            accelerator, lambda: Recorder(trainer.config, folder, videos, environment, state)
        )
        _end_if_asked(accelerator)
        return trainer.fit(recorder)
    except StopRequested:
        return on_main(accelerator, lambda: _stopped_early(folder, recorder))
    except BaseException:
        if recorder is not None:
            recorder.fail()
        elif accelerator.is_main_process:
            start.release()
            folder.remove_if_empty()
        raise
    finally:
        start.release()
        if trainer is not None:
            end_workers(trainer.loaders.train, trainer.loaders.val)


def _end_if_asked(accelerator: Accelerator) -> None:
    """Collective: raise StopRequested on every process if any was asked to stop."""
    if any_process(accelerator, signals.received() is not None):
        raise StopRequested


def _stopped_early(folder: RunFolder, recorder: Recorder | None) -> dict[str, Any]:
    """On the main process: the run was asked to stop before its first step; nothing is lost."""
    at_loss_of_a_process(None)
    if recorder is not None:
        return recorder.preempt()
    folder.set_status("preempted")
    logger.info(preempted_words(folder))
    return {"output_dir": str(folder.root), "status": "preempted"}


def _announce(
    accelerator: Accelerator, videos: VideoSet, decoder: Literal["auto", "decord", "pyav"]
) -> None:
    for warning in videos.warnings:
        logger.warning(warning)
    for line in decoder_reasons(videos.train.kinds() + videos.val.kinds(), decoder):
        logger.info(line)
    logger.info(
        f"{len(videos.train)} training and {len(videos.val)} validation videos of "
        f"{len(videos.classes)} classes; processes: {accelerator.num_processes}, device: "
        f"{accelerator.device.type}, mixed precision: {accelerator.mixed_precision}",
    )
