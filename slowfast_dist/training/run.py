"""A training from its settings to its results: `run_training` is the table of contents."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator

from slowfast_dist.annotations.importing.writing import LEFT_OUT
from slowfast_dist.annotations.labels import log_remarks
from slowfast_dist.config.checks import validate
from slowfast_dist.config.errors import RunError, UserError, WorkerError
from slowfast_dist.config.training import Config
from slowfast_dist.data.cache.plan import BESIDE_STEPS, MEMORY_SHARE
from slowfast_dist.data.cache.sharing import share_caches
from slowfast_dist.data.listing.folds.parts import Part
from slowfast_dist.data.loaders import make_loaders
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.data.workers import end_workers, prepare_workers
from slowfast_dist.distributed.accelerator import local_processes, make_accelerator
from slowfast_dist.distributed.collectives import (
    any_process,
    gather_list,
    on_each_host,
    run_on_main,
)
from slowfast_dist.distributed.environment import asks_to_compile, lone_launch
from slowfast_dist.distributed.failures import faults_as_run_errors, on_peer_loss, shutdown
from slowfast_dist.distributed.launchers import parent_words
from slowfast_dist.model.batchnorm import RunningStatistics
from slowfast_dist.model.description import network_defaults
from slowfast_dist.model.hub import hub_file
from slowfast_dist.model.slowfast import SlowFast, live_batchnorms, starts_pretrained
from slowfast_dist.runs.checkpoint import Checkpoint, load_checkpoint, tensor_bytes
from slowfast_dist.runs.folder import Length, RunFolder, Start, describe_environment, open_run
from slowfast_dist.runs.reading import mapping
from slowfast_dist.runs.run import stored_classes
from slowfast_dist.runs.space import check_space
from slowfast_dist.runs.videos import with_start
from slowfast_dist.system import signals
from slowfast_dist.system.interrupts import output_is_closed
from slowfast_dist.system.log import logger
from slowfast_dist.system.memory import freed_memory_kept
from slowfast_dist.system.signals import StopRequested
from slowfast_dist.system.workers.shared import shared_copy
from slowfast_dist.training.at_end.closing import preempted_message
from slowfast_dist.training.at_end.panels import bring_shown
from slowfast_dist.training.best.tracker import Run, best_so_far, bring_best
from slowfast_dist.training.data_health import frame_rate_notes
from slowfast_dist.training.micro_batch import largest_micro_batch
from slowfast_dist.training.network import check_frames, set_up_network
from slowfast_dist.training.optim import build_optimizer, build_schedule, values_per_parameter
from slowfast_dist.training.recorder import Recorder
from slowfast_dist.training.start_weights import started_from
from slowfast_dist.training.state import TrainingState, as_it_began
from slowfast_dist.training.step import TrainingStep
from slowfast_dist.training.trainer import Trainer
from slowfast_dist.training.weights.averaged import AveragedWeights
from slowfast_dist.training.weights.frozen import with_freeze
from slowfast_dist.training.weights.precise_norm import clips_measured
from slowfast_dist.training.weights.probe import require_backbone, start_head
from slowfast_dist.video.pictures import picture_notes
from slowfast_dist.video.reader import decoder_reasons
from slowfast_dist.video.views import reads_stored


def run_training(config: Config) -> dict[str, Any]:
    """Train as ``config`` says and leave the run folder; returns its place and its best epoch.

    Collective: every process calls it with the same config. Raises UserError for mistakes of the
    user's and RunError for what ends a run from outside; the run's status file then says failed.
    """
    if asks_to_compile(os.environ) and not config.model.compile:
        config = replace(config, model=replace(config.model, compile=True))
        logger.info("the launcher's dynamo backend is taken as --model.compile")
    if line := lone_launch(parent_words()):
        logger.warning(line)
    validate(config)
    with faults_as_run_errors(), _closed_output_said(), _resume_named():
        # First: before other threads start, as those of the heartbeat and of torch.
        prepare_workers(config.data.num_workers)
        timeout, compression = config.distributed.timeout, config.distributed.compression
        accelerator = make_accelerator(
            config.mixed_precision, timeout, compression, config.output_dir
        )
        length = Length(config.epochs, config.hours, config.patience)
        start = run_on_main(
            accelerator, lambda: open_run(config.output_dir, config.resume, length)
        )
        config = replace(config, data=with_start(config.data))
        for message in start.messages:
            logger.info(message)
        if start.finished:
            summary = {"output_dir": str(start.folder.root), "status": "finished"}
        else:
            with freed_memory_kept(accelerator.device.type == "cpu"):
                summary = _train(replace(config, output_dir=start.folder.root), accelerator, start)
        shutdown(accelerator)
    return summary


def _train(config: Config, accelerator: Accelerator, start: Start) -> dict[str, Any]:
    """From the videos to the last epoch's evaluation; the folder's status tells how it ended."""
    folder = start.folder
    if accelerator.is_main_process:
        on_peer_loss(lambda: folder.set_status("failed"))
    recorder = trainer = None
    try:
        if not start.checkpoint:
            require_backbone(config.model)
        if config.model.weights is None and not start.checkpoint:
            check_frames(network_defaults(config.model.name), config.data.num_frames)
        begins = not (config.model.weights or start.checkpoint)
        if starts_pretrained(config.model) and begins and (data := config.model.published):
            # Before the videos are looked at, which may take long.
            run_on_main(accelerator, lambda: str(hub_file(data, config.model.name)))
        order = stored_classes(start.checkpoint) if start.checkpoint else None
        several = config.loss.name == "bce"
        part = Part(config.folds, config.fold) if config.folds and config.fold else None
        videos = run_on_main(accelerator, lambda: find_videos(
            config.data, config.seed, order, several, part, folder.root
        ))  # fmt: skip
        videos = shared_copy(videos)  # with the loaders' workers
        checkpoint = load_checkpoint(start.checkpoint) if start.checkpoint else None
        config = as_it_began(config, checkpoint)
        if accelerator.is_main_process:  # which alone says it
            _announce(videos, config, accelerator)
        _end_if_asked(accelerator)
        trainer = build_trainer(config, accelerator, videos, checkpoint)
        if checkpoint is not None:
            # A smaller one than the checkpoint's is what `auto` is for.
            free = ("micro_batch_size",) if config.micro_batch_size == "auto" else ()
            trainer.state.restore(checkpoint, accelerator, free)
            _require_epochs_left(config, start, trainer.state.position.epoch)
        elif config.model.probe:
            start_head(trainer.config, accelerator, videos, trainer.state.network)
        environment = describe_environment(
            str(accelerator.device), accelerator.mixed_precision, accelerator.num_processes
        )
        model = config.model
        environment |= run_on_main(accelerator, lambda: started_from(model, start, trainer.loaded))
        run_on_main(accelerator, lambda: _check_space(config, trainer.state.network, start))
        state = checkpoint.state if checkpoint else None
        head = mapping(state["recorder"]).get("head") if state else trainer.head
        run = Run(trainer.config, folder, videos, environment, head)
        recorder = run_on_main(accelerator, lambda: _open_recorder(run, start, state), share=False)
        _end_if_asked(accelerator)
        return trainer.fit(recorder)
    except StopRequested:
        return run_on_main(accelerator, lambda: _stopped_early(folder, recorder))
    except BaseException:
        if recorder is not None:
            recorder.fail()
        elif accelerator.is_main_process:
            start.release()
            if not folder.holds_run():  # which has a list of what it left out itself
                (folder.root / LEFT_OUT).unlink(missing_ok=True)
            folder.remove_if_empty()
        raise
    finally:
        start.release()
        if trainer is not None:
            end_workers(trainer.loaders.train, trainer.loaders.val)
            trainer.loaders.let_go_of_frames()


def _require_epochs_left(config: Config, start: Start, epoch: int) -> None:
    """Raise UserError where a new folder would be one in which nothing is trained."""
    assert start.checkpoint is not None
    elsewhere = start.checkpoint.parent != start.folder.checkpoints
    if elsewhere and epoch >= config.epochs:
        raise UserError(
            f"--resume {config.resume}: all of --epochs {config.epochs} are behind it, so nothing "
            "is left to train: give more --epochs"
        )


@contextmanager
def _closed_output_said() -> Iterator[None]:
    """A training whose standard output is closed ends as one that fails, so that its folder says
    how it stands; other commands end without a word."""
    try:
        yield
    except BrokenPipeError as error:
        if not output_is_closed():
            raise
        raise RunError(
            "standard output was closed (| head?); trainings go on with --resume auto"
        ) from error


@contextmanager
def _resume_named() -> Iterator[None]:
    try:
        yield
    except WorkerError as error:
        again = "--resume auto goes on from the last checkpoint"
        raise WorkerError(f"{error}; {again}") from error


def _check_space(config: Config, network: SlowFast, start: Start) -> None:
    model = tensor_bytes(network.state_dict())
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    checkpoint = model + tensor_bytes(trained) * values_per_parameter(config.optimizer)
    line = check_space(
        start.folder.root, checkpoint, model, config.checkpoint.keep, start.checkpoint is not None,
        start.folder.shown,
    )  # fmt: skip
    if line is not None:
        logger.warning(line)


def _open_recorder(run: Run, start: Start, state: Mapping[str, Any] | None) -> Recorder:
    """On the main process; ``state``: that of the checkpoint of ``start``, if it has one."""
    line, models = None, run.folder.models
    had_models = models.exists()
    if start.checkpoint is not None and state is not None:
        best = best_so_far(start.checkpoint, state["recorder"]["best"])
        state = {**state, "recorder": {**state["recorder"], "best": best}}
        line = bring_best(start.checkpoint, best, run)
    if line is not None:
        logger.warning(line)
    try:
        recorder = Recorder(run, state)
        if start.checkpoint is not None:
            bring_shown(start.checkpoint, run.folder)
        return recorder
    except BaseException:
        if not had_models:  # they are copies, and would be in the way of the next start
            shutil.rmtree(models, ignore_errors=True)
            run.folder.predictions.unlink(missing_ok=True)
            run.folder.neighbours.unlink(missing_ok=True)
        raise


def build_trainer(
    config: Config, accelerator: Accelerator, videos: VideoSet, checkpoint: Checkpoint | None = None
) -> Trainer:
    """Collective: model, loaders and optimizer, ready to train from the first step.

    Weights come from ``checkpoint`` where there is one, for `TrainingState.restore`. The trainer's
    config has a number in place of a micro-batch size ``auto``, and stages in place of a freeze
    ``auto``.
    """
    config = replace(config, model=with_freeze(config.model, videos, checkpoint))
    torch.manual_seed(config.seed)
    network, loaded = set_up_network(
        config.model, videos.classes, accelerator, checkpoint, config.data
    )
    share = MEMORY_SHARE
    if config.micro_batch_size == "auto":
        share = BESIDE_STEPS if accelerator.device.type == "cpu" else share
        most = checkpoint.state["config"]["micro_batch_size"] if checkpoint else None
        size, line = largest_micro_batch(network, config, accelerator, most)
        logger.info(line)
        config = replace(config, micro_batch_size=size)
        config.check_mixing()
    rank, world_size = accelerator.process_index, accelerator.num_processes
    device, pin = accelerator.device, accelerator.device.type == "cuda"
    together = partial(on_each_host, accelerator), partial(gather_list, accelerator)
    caches = share_caches(config, videos, *together, share)
    loaders = make_loaders(config, videos, rank, world_size, local_processes(), pin, caches)
    # Accelerate does not notice when a fused optimizer skips a step for fp16's scaler.
    fused = accelerator.mixed_precision != "fp16"
    optimizer = build_optimizer(network, config.optimizer, fused)
    steps = loaders.sampler.steps_per_epoch
    schedule = build_schedule(optimizer, config.schedule, steps, config.epochs)
    # Loaders and schedule stay out: prepared, they would be sharded again and step W times.
    model, prepared = accelerator.prepare(network, optimizer)
    layers = list(live_batchnorms(network)) if network.norm == "local" else []
    statistics = RunningStatistics(layers, rank, world_size)
    state = TrainingState(config, videos, network, prepared, schedule, statistics)
    if config.optimizer.ema:
        state.averages["ema"] = AveragedWeights(network, config.optimizer.ema)
    if config.optimizer.average_last:
        state.averages["last"] = AveragedWeights(network)
    if config.loss.name == "bce":
        state.history.width += len(videos.classes)
    weights = torch.ones(len(videos.classes), device=device)
    if config.loss.class_weights == "balanced":
        weights = torch.tensor(videos.balanced_weights(), dtype=torch.float32, device=device)
    of_videos = None
    if videos.train.weights is not None:
        of_videos = torch.tensor(videos.train.weights, dtype=torch.float32, device=device)
    shift = None
    if tau := config.loss.logit_adjustment:
        priors = videos.log_priors(config.data.class_sampling)
        shift = torch.tensor(tau * priors, dtype=torch.float32, device=device)
    step = TrainingStep(accelerator, loaders.sampler, model, state, weights, of_videos, shift)
    micro_batches = loaders.sampler.micro_batches(0)
    if idle := -micro_batches % world_size:
        logger.warning(
            f"a step has {micro_batches} micro-batches for {world_size} processes, so "
            f"{idle} of them wait at its end: a multiple of {world_size} would be faster "
            "(--global-batch-size over --micro-batch-size)"
        )
    head = loaded.head.facts() if loaded.head else None
    trainer = Trainer(accelerator, loaders, state, step, head, loaded.sha256)
    if config.optimizer.ema:
        logger.info(
            f"validated and saved are weights averaged over steps (--optimizer.ema "
            f"{config.optimizer.ema:g}){trainer.precise.told}"
        )
    elif told := trainer.precise.told:
        logger.info(f"validated and saved are the weights{told}")
    if (clips := clips_measured(config.evaluation)) and not trainer.precise.layers:
        logger.warning(
            f"--evaluation.precise-norm {clips} measures nothing, as no BatchNorm trains "
            f"(--model.norm {network.norm}, --model.freeze {config.model.freeze})"
        )
    return trainer


def _announce(videos: VideoSet, config: Config, accelerator: Accelerator) -> None:
    log_remarks(videos.remarks)
    counts = videos.pictures()
    stored = "--data.pixel-aspect stored" if reads_stored(config.data) else None
    for line in picture_notes(counts, stored):
        logger.warning(line)
    for line in frame_rate_notes(videos, config):
        logger.warning(line)
    if config.augment.unused is not None:
        logger.warning(config.augment.unused)
    for line in decoder_reasons(videos.kinds(), config.data.decoder):
        logger.info(line)
    logger.info(
        f"{_counted(videos)} of {len(videos.classes)} classes; processes: "
        f"{accelerator.num_processes}, device: {accelerator.device.type}, mixed precision: "
        f"{accelerator.mixed_precision}"
    )


def _counted(videos: VideoSet) -> str:
    if videos.ways:  # whose rows are showings
        sides = {"training": videos.train, "validation": videos.val}
        shown = (
            f"{len(side)} {what} clips of {side.per_file().counted()}"
            for what, side in sides.items()
        )
        return " and ".join(shown)
    if videos.train.segments is None and videos.val.segments is None:
        return f"{len(videos.train)} training and {len(videos.val)} validation videos"
    return f"{videos.segments().counted('training')} and {videos.val.counted('validation')}"


def _end_if_asked(accelerator: Accelerator) -> None:
    """Collective: raise StopRequested on every process if any was asked to stop."""
    if any_process(accelerator, signals.received() is not None):
        raise StopRequested


def _stopped_early(folder: RunFolder, recorder: Recorder | None) -> dict[str, Any]:
    """On the main process: the run was asked to stop before its first step; nothing is lost."""
    on_peer_loss(None)
    if recorder is not None:
        return recorder.preempt()
    folder.set_status("preempted")
    logger.info(preempted_message(folder))
    return {"output_dir": str(folder.root), "status": "preempted"}
