"""All that may be chosen, with what the model says of each, and the choice."""

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.suggest.labelled import Labelled
from slowfast_dist.commands.suggest.output import Suggestion
from slowfast_dist.inference.parts import Part
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.metrics.cells import SEPARATOR
from slowfast_dist.metrics.selection.badge import Rows, choose, gradient_factors
from slowfast_dist.metrics.task import SeveralLabels

UNSURE = 0.5
"""Share of the probability of what is suggested from which on another class is named beside it, as
the one that it may be as well."""


class Pool:
    """Parts of files with their features and calibrated probabilities, float32: 4 (F + K) bytes
    each, 9.2 kB of slowfast_r50's, and the place of each."""

    def __init__(self, predictor: Predictor, labelled: Labelled) -> None:
        self._predictor, self._known = predictor, labelled
        self._width = predictor.head[0].shape[1]
        self._features, self._probabilities = Rows(self._width), Rows(len(predictor.classes))
        self._paths = list[str]()
        self._files: dict[str, int] = {}
        self._places = list[tuple[int, float, float]]()
        self.labelled = 0
        """Parts that were not taken, as they overlap what has a label."""

    def __len__(self) -> int:
        return len(self._features)

    def add(self, part: Part) -> None:
        path = str(part.path)
        if self._known.overlaps(path, part.start, part.end):
            self.labelled += 1
            return
        if path not in self._files:
            self._files[path] = len(self._paths)
            self._paths.append(path)
        self._places.append((self._files[path], part.start, part.end))
        self._features.add(part.row[: self._width])
        self._probabilities.add(self._predictor.calibrated(part.row[self._width :]))

    def choose(self, count: int, seed: int, windows: bool) -> list[Suggestion]:
        """At most ``count``, of windows that overlap one, in the order of the choice."""
        probabilities = self._probabilities.blocks()
        factors = [
            gradient_factors(block, self._decided(block)).astype(np.float32)
            for block in probabilities
        ]
        files, starts, ends = (np.array(column) for column in zip(*self._places, strict=True))

        def overlapping(row: int) -> NDArray[np.int64]:
            near = (files == files[row]) & (starts < ends[row]) & (ends > starts[row])
            return np.flatnonzero(near)

        found = (
            choose(self._features.blocks(), factors, count, seed, overlapping) if windows
            else choose(self._features.blocks(), factors, count, seed)
        )  # fmt: skip
        size = len(probabilities[0])
        return [
            self._suggestion(row, probabilities[row // size][row % size], windows) for row in found
        ]

    def _decided(self, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        """What would be said of each: of one label the most probable class."""
        task = self._predictor.best.task
        if isinstance(task, SeveralLabels):
            return task.decide(probabilities.astype(np.float64))
        decided = np.zeros(probabilities.shape, bool)
        decided[np.arange(len(decided)), probabilities.argmax(axis=1)] = True
        return decided

    def _suggestion(
        self, row: int, probabilities: NDArray[np.float32], windows: bool
    ) -> Suggestion:
        file, start, end = self._places[row]
        classes, sure = self._predictor.classes, probabilities.astype(np.float64)
        path = self._paths[file]
        first_time, last_time = (start, end) if windows else (None, None)
        if (labels := self._predictor.labels(sure)) is not None:
            name = SEPARATOR.join(sorted(one for one, _ in labels))
            least = min((chance for _, chance in labels), default=None)
            away = np.abs(sure - np.array(self._predictor.best.task.thresholds))
            place = int(away.argmin())
            reason = f"least sure of {classes[place]} ({sure[place]:.2f})"
            return Suggestion(path, first_time, last_time, name, least, reason)
        first, *others = (int(place) for place in np.argsort(-sure, kind="stable")[:2])
        reason = "unlike the others"
        if others and sure[others[0]] >= UNSURE * sure[first]:
            reason = f"or {classes[others[0]]} ({sure[others[0]]:.2f})"
        chance = float(sure[first])
        return Suggestion(path, first_time, last_time, classes[first], chance, reason)
