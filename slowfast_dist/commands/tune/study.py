"""The trials in Optuna's SQLite: who does which, what each reached, and which are given up.

Whoever changes the study holds the lock of its folder. Optuna itself lets two processes make the
same database at once, of which one then fails, and gives processes with one seed the same trials.
A trial that runs holds the lock of its own folder, which the kernel drops with its process: so what
was left by a killed one is known at once, and gone on with.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from slowfast_dist.commands.tune.space import (
    Params,
    combinations,
    distributions,
    rounded,
    suggested,
)
from slowfast_dist.config.commands.tune import Searched
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.runs.lock import RunLock

FOLDER, DATABASE, NAME = "study", "optuna.sqlite3", "tune"
"""Of what belongs to the study alone, below the output folder, and of the study in its database."""

LOCK_SECONDS = 120.0
"""Seconds to wait for another process that changes the study, which takes it a second or so."""

MOST_STARTS = 3
"""Starts of a trial that ended at the same point of it before it is given up: a process that is
killed twice for its memory will be so again, one that a scheduler stops gets further each time."""

BEFORE_PRUNING = 5
"""Complete trials before any is pruned, Optuna's own number: a median of fewer says little."""

DRAWS = 50
"""Draws of a trial that nobody had before one is taken from those that are left."""


class OfThisFold(optuna.pruners.BasePruner):
    """Optuna's MedianPruner, of the score after the newest fold alone.

    By itself it compares a trial's best score so far: where the first folds are easy, no trial
    would ever be pruned after the others.
    """

    def __init__(self) -> None:
        self._median = optuna.pruners.MedianPruner(BEFORE_PRUNING)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial is below the median of the complete ones after as many folds."""
        if (step := trial.last_step) is None:
            return False
        newest = copy.copy(trial)
        newest.intermediate_values = {step: trial.intermediate_values[step]}
        return self._median.prune(study, newest)


@dataclass
class Claimed:
    """A trial that this process does: its number, from 0, its parameters, its folder, and whether
    another process had begun it."""

    number: int
    params: Params
    folder: Path
    again: bool
    trial: optuna.Trial
    lock: RunLock
    given_up: bool = False
    """Whether it was begun too often without getting further: not to be tried again."""


class Trials:
    """The trials of the study in ``folder``, made there where there is none: the first has the
    parameters ``first``. ``new`` says whether it was made."""

    def __init__(
        self, folder: Path, space: Sequence[Searched], first: Params, seed: int, facts: Any
    ) -> None:
        self.folder, self.space, self.seed = folder, space, seed
        self.place = folder / FOLDER
        self.place.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with self.locked():
            self.study, self.new = self._open()
            if not self.study.get_trials(deepcopy=False):
                self.study.enqueue_trial(first)
            if self.new:  # last, as one that is killed before is begun again
                self.study.set_user_attr("of", facts)
            self.facts: Any = self.study.user_attrs["of"]

    def _open(self) -> tuple[optuna.Study, bool]:
        path = self.place / DATABASE
        # No connection stays open: a loader's processes are forks of this one.
        options = {"connect_args": {"timeout": LOCK_SECONDS}, "poolclass": NullPool}
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs=options)
            study = optuna.create_study(
                storage=storage, study_name=NAME, load_if_exists=True, direction="maximize",
                pruner=OfThisFold(),
            )  # fmt: skip
            return study, "of" not in study.user_attrs
        except Exception as error:  # SQLAlchemy's own, of many kinds
            reason = str(error).splitlines()[0]
            raise RunError(
                f"{path}: is no study that can be gone on with ({reason}): move it away, or give a "
                "new --output-dir"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While this process alone may change the study. Raises RunError where another one holds
        it for too long, or the database cannot be read or written, as on a full disk."""
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                lock = RunLock(self.place, self.place)
                break
            except UserError:
                if time.monotonic() > end:
                    raise RunError(
                        f"{self.place}: another process has held its lock for {LOCK_SECONDS:g} s: "
                        "stop that one"
                    ) from None
                time.sleep(0.1)
        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise RunError(
                f"{self.place / DATABASE}: {reason}: is the disk full? The same command goes on"
            ) from error
        finally:
            lock.release()

    def all(self) -> list[FrozenTrial]:
        """Those that were begun, by number."""
        return self.study.get_trials(
            deepcopy=False,
            states=(TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL),
        )

    def folder_of(self, number: int) -> Path:
        return self.folder / f"trial_{number:03d}"

    def next(self, most: int) -> Claimed | None:
        """The trial to do now, claimed by this process: one that a process left which has ended,
        else a new one; None where there are ``most``, or all combinations were tried."""
        with self.locked():
            begun = self.all()
            for one in begun:
                if one.state == TrialState.RUNNING and (found := self._claim(one, True)):
                    return found
            if len(begun) >= most:
                return None
            waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            if not waiting:
                params = self._draw(begun)
                if params is None:
                    return None
                self.study.enqueue_trial(params)
            trial = self.study.ask()
            suggested(trial, self.space)
            return self._claim(self._frozen(trial.number), False)

    def _claim(self, frozen: FrozenTrial, again: bool) -> Claimed | None:
        """The running trial for this process; None where another one has it."""
        folder = self.folder_of(frozen.number)
        folder.mkdir(exist_ok=True)
        try:
            lock = RunLock(folder, folder)
        except UserError:
            return None
        trial = optuna.Trial(self.study, frozen._trial_id)
        starts = [*trial.user_attrs.get("starts", ()), progress(folder)]
        trial.set_user_attr("starts", starts)
        same = starts[-MOST_STARTS - 1 :]
        given_up = len(same) > MOST_STARTS and len(set(same)) == 1
        return Claimed(
            frozen.number, suggested(trial, self.space), folder, again, trial, lock,
            given_up,
        )  # fmt: skip

    def _draw(self, begun: Sequence[FrozenTrial]) -> Params | None:
        """Parameters that no trial had, by Optuna's TPE; None where there are none left.

        In a copy of the study in memory: what is refused there leaves no trial. The seed is that of
        the trial's number, so that the trials do not depend on which process draws them.
        """
        known = [one.params for one in begun]
        copied = optuna.create_study(direction="maximize")
        copied.add_trials(begun)
        for attempt in range(DRAWS):
            seed = np.random.SeedSequence([self.seed, len(begun), attempt]).generate_state(1)
            copied.sampler = optuna.samplers.TPESampler(seed=int(seed[0]), constant_liar=True)
            asked = copied.ask(distributions(self.space))
            copied.tell(asked, state=TrialState.FAIL)
            if (params := rounded(self.space, asked.params)) not in known:
                return params
        left = self._untried(begun) or ()
        return left[int(seed[0]) % len(left)] if left else None

    def _untried(self, begun: Sequence[FrozenTrial]) -> list[Params] | None:
        """The combinations that no trial had; None where they are not to be counted."""
        known, every = [one.params for one in begun], combinations(self.space)
        return None if every is None else [one for one in every if one not in known]

    def all_tried(self) -> bool:
        """Whether every combination of what is searched had its trial."""
        return self._untried(self.all()) == []

    def _frozen(self, number: int) -> FrozenTrial:
        return next(one for one in self.all() if one.number == number)

    def report(self, claimed: Claimed, value: float, folds: int) -> None:
        """The macro-F1 of the first ``folds`` folds; one that was told before stays."""
        with self.locked():
            if folds not in self._frozen(claimed.number).intermediate_values:
                claimed.trial.report(value, folds)

    def scores(self, claimed: Claimed) -> dict[int, float]:
        """The macro-F1 after each number of folds so far."""
        return self._frozen(claimed.number).intermediate_values

    def take_back(self, claimed: Claimed) -> None:
        """This start was ended with care: it does not count as one that got nowhere."""
        self.note(claimed, starts=claimed.trial.user_attrs["starts"][:-1])

    def is_poor(self, claimed: Claimed) -> bool:
        """Whether it is below the median of the complete trials after as many folds."""
        return claimed.trial.should_prune()

    def median(self, folds: int) -> float:
        """Of the complete trials after as many folds."""
        complete = [one for one in self.all() if one.state == TrialState.COMPLETE]
        return float(np.median([one.intermediate_values[folds] for one in complete]))

    def note(self, claimed: Claimed, **attributes: Any) -> None:
        """Keep more of a trial, as its time."""
        with self.locked():
            for name, value in attributes.items():
                claimed.trial.set_user_attr(name, value)

    def finish(self, claimed: Claimed, state: TrialState, value: float | None = None) -> None:
        """Tell how a trial ended, once, and let go of it."""
        with self.locked():
            self.study.tell(claimed.number, value, state)
        claimed.lock.release()


def progress(folder: Path) -> str:
    """How far the trainings of a trial are, to tell whether a start got further."""
    done = sum(
        path.read_text(errors="replace").strip() == "finished"
        for path in folder.glob("fold_*/status")
    )
    newest: dict[str, str] = {}  # of each fold, as those that are done may keep theirs
    for path in sorted(folder.glob("fold_*/checkpoints/step_*")):
        newest[path.parent.parent.name] = path.name
    steps = ", ".join(f"{fold} {step}" for fold, step in newest.items())
    return f"{done} folds, {steps or 'no checkpoint'}"
