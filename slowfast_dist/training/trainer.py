"""The training loop.

Shape letters: B clips of a micro-batch, T frames, K classes.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from slowfast_dist.config.errors import RunError
from slowfast_dist.config.training import Config
from slowfast_dist.data.dataset import Batch
from slowfast_dist.data.loaders import VideoSet, make_loaders
from slowfast_dist.distributed.accelerator import local_processes
from slowfast_dist.distributed.collectives import on_main
from slowfast_dist.distributed.failures import at_loss_of_a_process
from slowfast_dist.model.batchnorm import RunningStatistics
from slowfast_dist.model.slowfast import live_batchnorms
from slowfast_dist.runs.checkpoint import Checkpoint
from slowfast_dist.system.log import logger
from slowfast_dist.system.progress import Progress
from slowfast_dist.training.data_health import BadVideos, DataWait
from slowfast_dist.training.evaluation import Scores, evaluate
from slowfast_dist.training.micro_batch import largest_micro_batch
from slowfast_dist.training.network import set_up_network
from slowfast_dist.training.optim import build_optimizer, build_schedule
from slowfast_dist.training.recorder import EpochResult, Recorder
from slowfast_dist.training.sanity import check_gradients
from slowfast_dist.training.state import EpochSums, Position, TrainingState
from slowfast_dist.training.step import TrainingStep

T = TypeVar("T")


class Trainer:
    """The loop over a `TrainingState`."""

    def __init__(
        self,
        config: Config,
        accelerator: Accelerator,
        videos: VideoSet,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Weights come from ``checkpoint`` where there is one, for `TrainingState.restore`.

        ``self.config`` has a number in place of a micro-batch size ``auto``.
        """
        self.config = config
        self.accelerator = accelerator
        self.videos = videos
        torch.manual_seed(config.seed)
        network = set_up_network(config.model, len(videos.classes), accelerator, checkpoint)
        if config.micro_batch_size == "auto":
            most = checkpoint.state["config"]["micro_batch_size"] if checkpoint else None
            size, line = largest_micro_batch(network, config, accelerator, most)
            logger.info(line)
            self.config = config = replace(config, micro_batch_size=size)
        self.loaders = make_loaders(
            config,
            videos,
            accelerator.process_index,
            accelerator.num_processes,
            local_processes(),
            pin=accelerator.device.type == "cuda",
        )
        self.sampler = self.loaders.sampler
        # Accelerate does not notice when a fused optimizer skips a step for fp16's scaler.
        fused = accelerator.mixed_precision != "fp16"
        optimizer = build_optimizer(network, config.optimizer, fused)
        schedule = build_schedule(
            optimizer, config.schedule, self.sampler.steps_per_epoch, config.epochs
        )
        # Loaders and schedule stay out: prepared, they would be sharded again and step W times.
        model, prepared = accelerator.prepare(network, optimizer)
        layers = list(live_batchnorms(network)) if network.norm == "local" else []
        statistics = RunningStatistics(layers, accelerator.process_index, accelerator.num_processes)
        self.state = TrainingState(config, videos, network, prepared, schedule, statistics)
        self.bad_videos = BadVideos(accelerator, self.state, self.loaders)
        self.data_wait = DataWait(config, accelerator, videos, self.loaders)
        weights = self._class_weights()
        self.step = TrainingStep(config, accelerator, self.sampler, model, self.state, weights)
        self.recorder: Recorder | None = None
        self._saved: Position | None = None
        self._compiles = config.model.compile
        self._warn_of_idle_processes()

    def _class_weights(self) -> Tensor:
        """float32 (K,)."""
        classes = len(self.videos.classes)
        if self.config.loss.class_weights == "none":
            return torch.ones(classes, device=self.accelerator.device)
        weights = self.videos.balanced_weights()
        return torch.tensor(weights, dtype=torch.float32, device=self.accelerator.device)

    def _warn_of_idle_processes(self) -> None:
        micro_batches, processes = self.sampler.micro_batches(0), self.accelerator.num_processes
        if idle := -micro_batches % processes:
            logger.warning(
                f"a step has {micro_batches} micro-batches for {processes} processes, so "
                f"{idle} of them wait at its end: a multiple of {processes} would be faster "
                "(--global-batch-size over --micro-batch-size)",
            )

    def fit(self, recorder: Recorder | None) -> dict[str, Any]:
        """Train to the last epoch, or to the step in which a process was asked to stop.

        Only the main process has a ``recorder``.
        """
        self.recorder = recorder
        self.bad_videos.give_up()
        while self.state.position.epoch < self.config.epochs:
            progress = self._train_epoch()
            if self.step.stop or not self._end_epoch(progress):
                if self._saved != self.state.position:
                    self._save_checkpoint()
                return self._record_end(lambda recorder: recorder.preempt())
        return self._record_end(lambda recorder: recorder.finish())

    def _record_end(self, work: Callable[[Recorder], T]) -> T:
        """As `_record`; from here on the death of another process is no failure of the run."""
        at_loss_of_a_process(None)
        return self._record(work)

    def _record(self, work: Callable[[Recorder], T]) -> T:
        """Collective: do ``work`` on the main process while the others wait."""

        def with_recorder() -> T:
            assert self.recorder is not None
            return work(self.recorder)

        return on_main(self.accelerator, with_recorder)

    def _train_epoch(self) -> Progress:
        position, sampler, config = self.state.position, self.sampler, self.config
        sampler.set_epoch(position.epoch, position.step)
        batches: Iterator[Batch] = self.data_wait.watch(iter(self.loaders.train))
        if position.global_step == 0:
            first = next(batches)
            self._check_sanity(first)
            batches = chain([first], batches)
        progress = Progress(
            f"epoch {position.epoch + 1}/{config.epochs}",
            sampler.steps_per_epoch,
            start=position.step,
            loss=self._recent_loss,
            memory=torch.cuda.max_memory_allocated if torch.cuda.is_available() else None,
            silent=self.recorder is None,
        )
        with progress:
            while position.step < sampler.steps_per_epoch and not self.step.stop:
                started = time.perf_counter()
                self.step.run(batches, progress)
                self._check_steps(leave=1)
                self._say_what_compiling_took(started)
                progress.update(sampler.samples(position.step))
                position.step += 1
                position.global_step += 1
                if self.recorder is not None and position.global_step % config.log_every == 0:
                    self.recorder.step(position.epoch + 1, position.global_step, self._step_row())
                if position.step < sampler.steps_per_epoch and self._save_step_is_due():
                    self._save_checkpoint()
        self._check_steps()
        return progress

    def _say_what_compiling_took(self, started: float) -> None:
        if self._compiles:
            seconds = time.perf_counter() - started
            logger.info(f"compiled: the first step took {seconds:.0f} s")
            self._compiles = False

    def _check_steps(self, leave: int = 0) -> None:
        self.step.check(leave)
        if self.step.videos_failed:
            self.bad_videos.share(self.step.new_failures, self.recorder)
            self.step.new_failures, self.step.videos_failed = [], False

    def _check_sanity(self, batch: Batch) -> None:
        """One forward and backward on the first micro-batch, on the main process alone."""

        def check() -> None:
            if len(batch):
                first, network = batch.to(self.accelerator.device), self.state.network
                found = check_gradients(
                    network, first.frames, first.labels, self.accelerator.autocast
                )
                logger.info(
                    f"sanity check: loss {found['loss']:.4f}, "
                    f"gradient norm of the head {found['head_grad_norm']:.4g}"
                )

        on_main(self.accelerator, check)

    def _end_epoch(self, progress: Progress) -> bool:
        """Validate, record, and save where that is due; then move to the next epoch.

        False, and nothing of that, where a process was asked to stop during the validation: the
        position stays behind the epoch's last step, from where a resume validates.
        """
        state, config = self.state, self.config
        position, accelerator = state.position, self.accelerator
        epoch = position.epoch + 1
        rows, steps = state.sums.all_rows(accelerator).numpy(), state.sums.all_steps().double()
        norms = steps[:, 2][steps[:, 2].isfinite()]
        waited = self.data_wait.end_epoch(epoch, progress)
        with state.statistics.whole():
            scores = None
            if self._is_due(config.evaluation.every):
                scores = self._validate()
                if scores is None:
                    return False
            result = EpochResult(
                epoch=epoch,
                global_step=position.global_step,
                train_loss=float(steps[:, 0].sum() / steps[:, 1].sum().clamp(min=1e-12)),
                rows=rows,
                scores=scores,
                values={
                    "grad_norm": float(norms.mean()) if len(norms) else float("nan"),
                    "grad_norm_max": float(norms.max()) if len(norms) else float("nan"),
                    "skipped_steps": int(steps[:, 3].sum()),
                    "lr": state.rates["lr"],
                    "clips_per_second": progress.clips_per_second,
                    "data_wait_fraction": waited,
                    "epoch_seconds": time.perf_counter() - progress.started,
                },
            )
            self._record(lambda recorder: recorder.epoch(result, state.network))
        save = self._is_due(config.checkpoint.every_epochs) or self._save_step_is_due()
        position.epoch, position.step = epoch, 0
        state.sums = EpochSums()
        if save:
            self._save_checkpoint()
        return True

    def _validate(self) -> Scores | None:
        """None where a process was asked to stop meanwhile."""
        with Progress(
            "validation", len(self.loaders.val), silent=self.recorder is None
        ) as progress:
            scores = evaluate(
                self.state.network,
                progress.over(self.loaders.val, self.accelerator.num_processes),
                self.accelerator,
                len(self.videos.val),
                self.loaders.views,
                len(self.videos.classes),
            )
        if scores is not None and not len(scores.videos):
            first = scores.unreadable[0]
            raise RunError(
                f"none of the {len(self.videos.val)} validation videos can be read, as "
                f"{self.videos.val[first.video].name}: {first.reason}"
            )
        return scores

    def _is_due(self, every: int) -> bool:
        """Whether the running epoch, counted from 1, is the last or one of every ``every``."""
        epoch = self.state.position.epoch + 1
        return epoch % every == 0 or epoch == self.config.epochs

    def _save_step_is_due(self) -> bool:
        every = self.config.checkpoint.every_steps
        return every is not None and self.state.position.global_step % every == 0

    def _save_checkpoint(self) -> None:
        self._check_steps()
        checkpoint = self.state.capture(self.accelerator)
        self._record(lambda recorder: recorder.checkpoint(checkpoint))
        self._saved = replace(self.state.position)

    def _recent_loss(self) -> float:
        """Mean loss of the last optimizer steps, at most 10."""
        steps = torch.stack(self.state.sums.steps[-10:]).sum(dim=0).tolist()
        return steps[0] / max(steps[1], 1e-12)

    def _step_row(self) -> dict[str, float]:
        losses, weights, norm, _ = self.state.sums.steps[-1].tolist()
        return {
            "step/loss": losses / max(weights, 1e-12),
            "step/grad_norm": norm,
            **{f"step/{name}": rate for name, rate in self.state.rates.items()},
        }
