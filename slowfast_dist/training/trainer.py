"""The training loop: epochs of optimizer steps, each epoch validated, recorded and saved.

Shape letters: N samples, S optimizer steps.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator

from slowfast_dist.config.errors import RunError
from slowfast_dist.data.loaders import Loaders
from slowfast_dist.data.samples.batch import Batch, Failure
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.distributed.collectives import gather_list, run_on_main
from slowfast_dist.distributed.failures import on_peer_loss
from slowfast_dist.system.log import logger
from slowfast_dist.system.progress import Progress
from slowfast_dist.training.at_end.test_rows import score_test
from slowfast_dist.training.data_health import DataWait, require_few_failures
from slowfast_dist.training.evaluation import Scores, evaluate, holds_features
from slowfast_dist.training.recorder import EpochResult, Recorder
from slowfast_dist.training.sanity import check_gradients
from slowfast_dist.training.state import EpochHistory, Position, TrainingState
from slowfast_dist.training.step import StepChecks, TrainingStep
from slowfast_dist.training.weights.precise_norm import PreciseStatistics, clips_measured
from slowfast_dist.video.guarded_reader import is_fatal

T = TypeVar("T")


class Trainer:
    """The loop over a `TrainingState`, from wherever that is."""

    def __init__(
        self, accelerator: Accelerator, loaders: Loaders, state: TrainingState, step: TrainingStep,
        head: dict[str, list[str]] | None = None, loaded: str | None = None,
    ) -> None:  # fmt: skip
        """The state's config has a number in place of a micro-batch size ``auto``; ``head`` as in
        `best.Run`; ``loaded``: the SHA-256 of the file whose weights it begins with, where that is
        known."""
        self.accelerator, self.loaders, self.state, self.step = accelerator, loaders, state, step
        self.config, self.videos, self.sampler = state.config, state.videos, loaders.sampler
        self.head, self.loaded = head, loaded
        self.checks = StepChecks(
            state.network, self.config.optimizer.lr, accelerator.mixed_precision,
            self.sampler.samples(0),
        )  # fmt: skip
        self.data_wait = DataWait(self.config, accelerator, self.videos, loaders)
        self.precise = self._statistics(clips_measured(self.config.evaluation))
        self.recorder: Recorder | None = None
        self._new_failures: list[Failure] = []
        self._saved: Position | None = None
        self._compiles = self.config.model.compile
        self._ended = False
        """Whether this epoch is the last one, though not of all that were asked for."""
        self._closing_seconds = 0.0
        """What the last validation took, with its records; 0 before the first one."""
        self._saving_seconds = 0.0
        """What the last checkpoint took."""

    def fit(self, recorder: Recorder | None) -> dict[str, Any]:
        """Train to the last epoch, or to the step in which a process was asked to stop.

        Every epoch is validated where that is due, and the last one always. Only the main process
        has a ``recorder``. Returns the same on every process: the run's place, how it ended, and
        its best epoch.
        """
        self.recorder = recorder
        self._give_up_fatal()
        end = Recorder.finish
        if (epoch := self.state.position.epoch) and not self.state.position.step:
            # The run may have been killed after its last epoch, before it said that it ended.
            self._ended = self._record(lambda recorder: recorder.patience_is_over(epoch))
        while self.state.position.epoch < self.config.epochs and not self._ended:
            progress = self._train_epoch()
            if self.checks.stop or not self._end_epoch(progress):
                if self._saved != self.state.position:
                    self._save_checkpoint()
                end = Recorder.preempt
                break
        if self._ended and self._saved != self.state.position:
            self._save_checkpoint()
        ended = end is Recorder.finish
        if ended and not (self._validate_average() and self._score_test()):
            end = Recorder.preempt
        on_peer_loss(None)  # from here on the death of another process is no failure of the run
        return self._record(end)

    def _record(self, work: Callable[[Recorder], T]) -> T:
        """Collective: do ``work`` on the main process while the others wait."""
        return run_on_main(self.accelerator, lambda: work(cast(Recorder, self.recorder)))

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
            loss=self.state.history.recent_loss,
            memory=torch.cuda.max_memory_allocated if torch.cuda.is_available() else None,
            silent=self.recorder is None or not logger.isEnabledFor(logging.INFO),
        )
        with progress:
            while position.step < sampler.steps_per_epoch and not self.checks.stop:
                self.run_step(batches, progress)
                if self.recorder is not None and position.global_step % config.log_every == 0:
                    rates = {f"step/{name}": rate for name, rate in self.state.rates.items()}
                    values = self.state.history.last_step() | rates
                    self.recorder.step(position.epoch + 1, position.global_step, values)
                if position.step < sampler.steps_per_epoch and self._save_step_is_due():
                    self._save_checkpoint()
        self._check_steps()
        return progress

    def run_step(self, batches: Iterator[Batch], progress: Progress) -> None:
        """One optimizer step, noted in the state; raises RunError if the one before went wrong."""
        state, started = self.state, time.perf_counter()
        result = self.step.run(batches, progress)
        state.history.rows += result.rows
        state.history.steps.append(result.values())
        state.rates = result.learning_rates
        self._new_failures += result.failures
        self.checks.add(state.position.global_step + 1, result)
        self._check_steps(newest=1)
        if self._compiles:
            logger.info(f"compiled: the first step took {time.perf_counter() - started:.0f} s")
            self._compiles = False
        progress.update(self.sampler.samples(state.position.step))
        state.position.step += 1
        state.position.global_step += 1

    def _check_steps(self, newest: int = 0) -> None:
        """Read what the steps not read before did, but for the ``newest`` last ones. Collective
        where videos failed: every process then knows what the others met."""
        if self.checks.read(newest):
            failed, videos = self.state.failed, self.videos.train
            for failure in gather_list(self.accelerator, self._new_failures):
                failed.setdefault(failure.video, failure.reason)
            self._new_failures = []
            self._give_up_fatal()
            if self.recorder is not None:
                named = [(videos.sample(video), reason) for video, reason in failed.items()]
                self.recorder.add_unreadable(named, "training")
            require_few_failures(failed, videos, self.config.data.max_bad_fraction)

    def _give_up_fatal(self) -> None:
        """Never try those videos again that took a decoding process with them."""
        failed = self.state.failed.items()
        self.loaders.give_up(video for video, reason in failed if is_fatal(reason))

    def _check_sanity(self, batch: Batch) -> None:
        """One forward and backward on the first micro-batch, on the main process alone."""

        def check() -> None:
            if len(batch):
                first, autocast = batch.to(self.accelerator.device), self.accelerator.autocast
                loss, norm = check_gradients(
                    self.state.network, first.frames, first.labels, autocast
                )
                logger.info(f"sanity check: loss {loss:.4f}, gradient norm of the head {norm:.4g}")

        run_on_main(self.accelerator, check)

    def _end_epoch(self, progress: Progress) -> bool:
        """Validate, record, and save where that is due; then move to the next epoch.

        False, and nothing of that, where a process was asked to stop during the validation: the
        position stays behind the epoch's last step, from where a resume validates.
        """
        state, position = self.state, self.state.position
        epoch = position.epoch + 1
        rows = state.history.all_rows(self.accelerator).numpy()
        waited = self.data_wait.end_epoch(epoch, progress)
        trained = time.perf_counter()
        usual = trained - progress.started + 2 * self._saving_seconds  # this epoch's and the next's
        # Of a validation that is due in any case the time is known once it is over.
        validates = self._is_due(self.config.evaluation.every)
        if not validates:
            seconds = usual + self._closing_seconds
            self._ended = self._record(lambda recorder: recorder.time_is_up(epoch, seconds))
        due = self._is_due(self.config.evaluation.every)
        with state.evaluated(), self._measured(due) as measured:
            if not measured:
                return False
            scores = None
            if due:
                scores = self._validate()
                if scores is None:
                    return False
            values = state.history.gradient_summary() | {
                "lr": state.rates["lr"],
                "clips_per_second": progress.clips_per_second,
                "data_wait_fraction": waited,
                "epoch_seconds": time.perf_counter() - progress.started,
            }
            loss = state.history.loss()
            result = EpochResult(epoch, position.global_step, loss, rows, scores, values)
            self._record(lambda recorder: recorder.epoch(result, state.network))
        if validates:
            self._closing_seconds = time.perf_counter() - trained
            seconds = usual + self._closing_seconds
            self._ended = self._record(lambda recorder: recorder.time_is_up(epoch, seconds))
        self._ended |= self._record(lambda recorder: recorder.patience_is_over(epoch))
        if (last := state.averages.get("last")) and epoch > self._last_epochs:
            last.update()
        save = self._is_due(self.config.checkpoint.every_epochs) or self._save_step_is_due()
        position.epoch, position.step = epoch, 0
        state.history = EpochHistory(width=state.history.width)
        if save:
            self._save_checkpoint()
        return True

    def _statistics(self, clips: int) -> PreciseStatistics:
        network, data = self.state.network, self.config.data
        return PreciseStatistics(network, self.loaders, self.accelerator, data, clips)

    def _measured(self, validates: bool) -> AbstractContextManager[bool]:
        """As `PreciseStatistics.in_network`, where the network of this epoch may be saved."""
        if not (validates or self.config.checkpoint.monitor.startswith("train/")):
            return nullcontext(True)
        return self.precise.in_network(self.state.position.epoch)

    @property
    def _last_epochs(self) -> int:
        """The epoch behind which --optimizer.average-last begins."""
        return self.config.epochs - self.config.optimizer.average_last

    def _validate_average(self) -> bool:
        """Score the average of the last epochs' weights, where there is one, as one more candidate
        for the best model; False where a process was asked to stop meanwhile."""
        state, position = self.state, self.state.position
        if (last := state.averages.get("last")) is None:
            return True
        if last.updates < 2:
            logger.info(
                f"--optimizer.average-last {self.config.optimizer.average_last}: no average, as "
                f"the run ended in epoch {position.epoch} with {last.updates} of them behind it"
            )
            return True
        if self._record(lambda recorder: recorder.has_average(position.global_step)):
            return True
        precise = self._statistics(clips_measured(self.config.evaluation, averaged_epochs=True))
        measured = precise.in_network(position.epoch - 1)
        with state.evaluated("last") as network, measured as done:
            scores = self._validate() if done else None
            if scores is None:
                return False
            best = self._record(lambda recorder: recorder.average(
                last.updates, position.epoch, position.global_step, scores, network
            ))  # fmt: skip
        if best:
            self._save_checkpoint()  # which knows of this best model
        return True

    @cached_property
    def _compares_features(self) -> bool:
        """Whether validations find each clip's nearest in the features; says why not, once."""
        if self.config.loss.name == "bce" or self.videos.ways:
            return False
        clips = cast(EvaluationClips, self.loaders.val.dataset)
        if not (held := holds_features(self.state.network, clips)):
            logger.info(
                f"the list of probably wrong labels names no nearest clips: {len(clips)} views of "
                "the validation are too many to compare"
            )
        return held

    def _validate(self) -> Scores | None:
        """None where a process was asked to stop meanwhile."""
        scores = evaluate(
            "validation", self.state.network, self.loaders.val, self.accelerator,
            self.config.evaluation.flip, swaps=self.videos.swaps, features=self._compares_features,
        )  # fmt: skip
        if scores is not None and not len(scores.videos):
            val, first = self.videos.val, scores.unreadable[0]
            raise RunError(
                f"none of the {len(val)} validation videos can be read, as "
                f"{val.sample(first.video)}: {first.reason}"
            )
        return scores

    def _score_test(self) -> bool:
        """Score the rows of split test with the best model, where there are any. False where a
        process was asked to stop meanwhile: a resume then scores them."""
        test = self.videos.test
        if test is None or not self._record(lambda recorder: recorder.has_sound_best()):
            return True
        found = score_test(self.config, test, self.accelerator)
        if found is None:
            return False
        best, scores = found
        self._record(lambda recorder: recorder.test(best, test, scores))
        return True

    def _is_due(self, every: int) -> bool:
        """Whether the running epoch, counted from 1, is the last or one of every ``every``."""
        epoch = self.state.position.epoch + 1
        return epoch % every == 0 or epoch == self.config.epochs or self._ended

    def _save_step_is_due(self) -> bool:
        every = self.config.checkpoint.every_steps
        return every is not None and self.state.position.global_step % every == 0

    def _save_checkpoint(self) -> None:
        started = time.perf_counter()
        self._check_steps()
        checkpoint = self.state.capture(self.accelerator)
        self._record(lambda recorder: recorder.checkpoint(checkpoint))
        self._saving_seconds = time.perf_counter() - started
        self._saved = replace(self.state.position)
