"""``tune`` from its settings to its page: one trial after the other, until there are enough."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast_dist.config.checks import validate
from slowfast_dist.config.commands.tune import TUNE_FOLDS, Searched, Tune
from slowfast_dist.config.errors import DivergedError, RunError, UserError
from slowfast_dist.data.listing.folds.dealing import count_folds
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.manifest import list_root
from slowfast_dist.data.synthetic import make_demo_videos
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.videos import with_start
from slowfast_dist.system import signals
from slowfast_dist.system.log import logger

if TYPE_CHECKING:
    from slowfast_dist.commands.tune.study import Claimed

FAILED_IN_A_ROW = 3
"""Trials of this process that fail one after the other before it ends with what the last one met:
so many are no fault of their settings."""


def run_tune(config: Tune, space: Sequence[Searched]) -> dict[str, Any]:
    """Do trials of ``space`` as ``config`` says, until there are as many as it asks for.

    Returns the study's folder, its status and its best trial. Raises UserError for mistakes of the
    user's, RunError for what ends it from outside, and where no trial is complete at its end.
    """
    if (count := os.environ.get("WORLD_SIZE") or "1") != "1":
        raise UserError(
            f"tune is one process, but the launcher started {count} (WORLD_SIZE): start "
            "python -m slowfast_dist tune several times with one --output-dir, one a GPU, which "
            "then share the trials"
        )
    _require_optuna()
    config = replace(config, folds=config.folds or TUNE_FOLDS)
    validate(config)
    name = str(config.output_dir).replace("{timestamp}", time.strftime("%Y%m%d-%H%M%S"))
    config = replace(config, output_dir=Path(name).absolute())
    if RunFolder(config.output_dir).holds_run():
        raise UserError(
            f"--output-dir {RunFolder(config.output_dir).shown}: holds a run: a study needs a "
            "folder of its own: give a new one"
        )
    from slowfast_dist.data.workers import prepare_workers
    from slowfast_dist.distributed.failures import faults_as_run_errors

    prepare_workers(config.data.num_workers)  # before the locks' threads start
    with faults_as_run_errors():
        return _Search(config, space).run()


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"tune: needs {error.name}, which is not here: pip install '.[tune]'"
        ) from None


class _Search:
    """The trials that this process does."""

    def __init__(self, config: Tune, space: Sequence[Searched]) -> None:
        from slowfast_dist.commands.tune.record import (
            VIDEOS,
            facts_of,
            require_same,
            require_same_videos,
            write_videos,
        )
        from slowfast_dist.commands.tune.space import as_given
        from slowfast_dist.commands.tune.study import Trials

        self.config, self.space = config, space
        self.began = time.monotonic()
        self.longest = 0.0
        wandb = config.wandb
        if wandb.mode == "auto":  # of tens of trainings nobody asked to see each
            wandb = replace(wandb, mode="disabled")
        report = replace(config.report, explain=0)  # nor to have maps drawn for each
        self.base = config.of_training(resume="auto", wandb=wandb, report=report)
        listing = self._listed()
        self.folds = count_folds(listing, config.folds or TUNE_FOLDS, config.data.background)
        facts = facts_of(self.base, space)
        self.trials: Trials = Trials(
            config.output_dir, space, as_given(self.base, space), config.seed, facts
        )
        self.shown = RunFolder(config.output_dir).shown
        require_same(self.trials.facts, facts, self.shown)
        kept = self.trials.place / VIDEOS
        with self.trials.locked():
            if not kept.exists():
                write_videos(kept, listing)
        assert config.data.root is not None
        require_same_videos(kept, listing, config.data.root)
        self.videos = len(listing.videos)

    def _listed(self) -> Listing:
        data = self.config.data
        assert data.root is not None
        if data.synthetic:
            make_demo_videos(data.root)
        return list_root(with_start(data))

    def run(self) -> dict[str, Any]:
        """All trials that there are to do; returns the summary of the study."""
        self._announce()
        failed = 0
        while (stopped := signals.received()) is None and self._is_time():
            claimed = self.trials.next(self.config.trials)
            if claimed is None:
                if self.trials.all_tried():
                    logger.info("every combination of what is searched has its trial")
                break
            with _released(claimed):
                begin = time.monotonic()
                ended = self._do(claimed, failed + 1 >= FAILED_IN_A_ROW)
                self.longest = max(self.longest, time.monotonic() - begin)
            if ended == "stopped":
                stopped = signals.received() or "stopped"
                break
            failed = failed + 1 if ended == "failed" else 0
            self._write()
        summary = self._write(last=True)
        if stopped is None and (others := summary["running"]):
            what = "trial has" if others == 1 else "trials have"
            logger.info(
                f"{others} {what} not ended yet, in other processes; where one of these is killed, "
                "the same command goes on with its trial"
            )
        if stopped is not None:
            logger.info(
                f"{self.shown}: stopped ({stopped}); the same command with --output-dir "
                f"{self.shown} goes on where it was"
            )
        if not summary["best"]:
            if stopped is None and not others:
                raise RunError(self._nothing_complete(summary))
            logger.info(f"{self.shown}: no trial is complete yet")
        return {
            "output_dir": str(self.config.output_dir),
            "status": "preempted" if stopped is not None else summary["status"], **summary["best"],
        }  # fmt: skip

    def _is_time(self) -> bool:
        hours, used = self.config.hours, time.monotonic() - self.began
        if hours is None or not self.longest or used + self.longest <= 3600 * hours:
            return True
        logger.info(
            f"no further trial: it would end after --hours {hours:g}; the same command goes on"
        )
        return False

    def _do(self, claimed: "Claimed", last_chance: bool) -> str:
        """Train a trial's folds and tell the study how it ended: complete, pruned, failed, refused,
        or stopped by a signal, which tells it nothing. ``last_chance``: raises what it meets."""
        from optuna.trial import TrialState

        from slowfast_dist.commands.tune.space import with_params
        from slowfast_dist.commands.tune.trial import train_folds

        title, begin = f"trial {claimed.number}", time.monotonic()
        self._say_begin(claimed, title)
        before = claimed.trial.user_attrs.get("seconds", 0.0)

        def end(state: TrialState, value: float | None = None, **facts: Any) -> None:
            seconds = before + time.monotonic() - begin
            self.trials.note(claimed, seconds=seconds, **facts)
            self.trials.finish(claimed, state, value)

        if claimed.given_up:
            why = "its process ended again and again without getting further"
            logger.warning(f"{title} failed: {why}")
            end(TrialState.FAIL, why=why)
            return "failed"

        def goes_on(value: float, folds: int) -> bool:
            self.trials.report(claimed, value, folds)
            logger.info(f"  fold {folds} of {self.folds}: macro-F1 so far {value:.4f}")
            return not self.trials.is_poor(claimed)

        config = with_params(self.base, self.space, claimed.params)
        config = replace(config, output_dir=claimed.folder)
        try:
            validate(config)
        except UserError as error:
            logger.warning(f"{title} is refused: {error}")
            end(TrialState.FAIL, why=str(error))
            return "refused"
        try:
            ended, value = train_folds(config, self.folds, self.config.keep_weights, goes_on)
        except DivergedError as error:
            # A bad score, so that such settings are drawn less: Optuna learns nothing of failures.
            reached = len(self.trials.scores(claimed)) + 1
            self.trials.report(claimed, 0.0, reached)
            logger.warning(f"{title} is pruned with score 0, as it diverged: {error}")
            end(TrialState.PRUNED, why="diverged")
            return "pruned"
        except (UserError, RunError, OSError) as error:
            disk = isinstance(error, OSError) or isinstance(error.__cause__, OSError)
            if claimed.number == 0 or last_chance or disk:  # no fault of what was drawn
                with suppress(RunError):  # the study's own disk is full: what is said is the first
                    self.trials.take_back(claimed)
                raise
            logger.warning(f"{title} failed: {error}")
            end(TrialState.FAIL, why=str(error))
            return "failed"
        if ended == "stopped":
            self.trials.note(claimed, seconds=before + time.monotonic() - begin)
            self.trials.take_back(claimed)
        elif ended == "pruned":
            done = len(self.trials.scores(claimed))
            logger.info(
                f"{title} is pruned after fold {done} of {self.folds}: it is below "
                f"{self.trials.median(done):.4f}, the median of complete trials there"
            )
            end(TrialState.PRUNED)
        else:
            end(TrialState.COMPLETE, value)
            logger.info(f"{title} is complete: macro-F1 {value:.4f}")
        return ended

    def _say_begin(self, claimed: "Claimed", title: str) -> None:
        from slowfast_dist.commands.tune.space import line_of

        how = " goes on where its process left it" if claimed.again else ""
        given = ", the settings as given" if claimed.number == 0 else ""
        logger.info(
            f"{title} (of {self.config.trials}, from 0){how}{given}: {line_of(claimed.params)}"
        )

    def _announce(self) -> None:
        done = len(self.trials.all())
        begun = "trial was" if done == 1 else "trials were"
        how = f"goes on, {done} {begun} begun" if done else "begins"
        logger.info(
            f"the study in {self.shown} {how}; {self.config.trials} trials of {self.folds} folds "
            f"of {self.base.epochs} epochs, {self.videos} videos; what a training says as it goes "
            "is in trial_*/fold_*/logs"
        )
        logger.info(f"searched: {'; '.join(map(str, self.space))}")
        if not self.config.keep_weights:
            logger.info(
                "weights of a fold go once it is scored (--keep-weights keeps them); predictions, "
                "metrics and settings stay"
            )

    def _write(self, last: bool = False) -> dict[str, Any]:
        from slowfast_dist.commands.tune.result import say_result, write_result

        with self.trials.locked():
            facts = write_result(self.config, self.base, self.space, self.trials, self.folds)
        if last:
            say_result(self.shown, facts)
        best = facts["best"]
        found = {} if best is None else {"trial": best["number"], "f1_macro": best["f1_macro"]}
        running = sum(one["state"] == "running" for one in facts["trials"])
        states = Counter(one["state"] for one in facts["trials"])
        return {
            "status": facts["status"], "best": found, "running": running,
            "ended": [f"{count} {state}" for state, count in states.items()],
        }  # fmt: skip

    def _nothing_complete(self, summary: dict[str, Any]) -> str:
        from slowfast_dist.commands.tune.result import BEST, PAGE

        begun, what = ", ".join(summary["ended"]) or "none begun", "give other values to --search"
        if summary["status"] != "finished":
            what = "the same command goes on with further ones; or give other values to --search"
        return (
            f"{self.shown}: no trial is complete ({begun}), so there is no {BEST}; {PAGE} says why "
            f"of each: {what} (a smaller --optimizer.lr where they diverged) in a new --output-dir"
        )


@contextmanager
def _released(claimed: "Claimed") -> Iterator[None]:
    """Whatever ends it, another process may have the trial."""
    try:
        yield
    finally:
        claimed.lock.release()
