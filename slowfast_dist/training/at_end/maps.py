"""Maps of where and when the best model saw its class in the videos that it got most wrong.

Each costs about as much as 30 clips, so they have a time limit, and what is left out is said. What
was drawn of an older best model is drawn anew; what ``predict --explain`` wrote stays.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast_dist.config.errors import RunError
from slowfast_dist.config.report import ENOUGH_SECONDS, EXPLAIN_SHARE
from slowfast_dist.data.clips import clip_indices, view_positions
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.inference.drawing.explained import read_clip, title_of, write_explained
from slowfast_dist.inference.drawing.explanation import Picture
from slowfast_dist.inference.drawing.names import EXPLAINED as ENDINGS
from slowfast_dist.inference.drawing.names import claim_name, claimed_name
from slowfast_dist.inference.windows import Stopped
from slowfast_dist.metrics.cells import parted
from slowfast_dist.metrics.summary import HardVideo, hardest_videos
from slowfast_dist.report.cache import read_cache
from slowfast_dist.report.sections.explained import EXPLAINED, KEPT
from slowfast_dist.report.sections.samples import Sample, samples_of
from slowfast_dist.runs.best_model import BestModel, read_best
from slowfast_dist.runs.predictions import find_predictions
from slowfast_dist.runs.reading import mapping, read_json
from slowfast_dist.runs.run import read_run
from slowfast_dist.system import signals
from slowfast_dist.system.files import write_json
from slowfast_dist.system.progress import over_files
from slowfast_dist.system.text import operand
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.guarded_reader import DECODE_SECONDS, GuardedReader

if TYPE_CHECKING:
    from slowfast_dist.inference.explain import Explainer
    from slowfast_dist.training.best.tracker import Run


@dataclass
class Maps:
    """Of the ``hardest`` videos those that had a map (``there``), got one (``made``), and for which
    there was no time (``late``) or another reason (``failed``: how many by it); ``removed``: strips
    of an older best model."""

    hardest: int
    there: int = 0
    made: int = 0
    late: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    removed: int = 0
    seconds: float = 0.0
    stopped: bool = False

    @property
    def changed(self) -> bool:
        """Whether a page that is there shows others."""
        return bool(self.made or self.removed)

    def line(self, run: Path) -> str | None:
        """For people; None where there was nothing to do."""
        if not self.hardest or self.there == self.hardest:
            return None
        parts = [
            f"{EXPLAINED}/: where and when the model saw its class, in {self.made + self.there} of "
            f"the {self.hardest} hardest videos ({self.seconds:.1f} s)"
        ]
        parts += [f"{count} cannot be drawn: {reason}" for reason, count in self.failed.items()]
        if self.stopped:
            parts.append("it was asked to stop")
        elif self.late:
            parts.append(
                f"no time was left for {self.late}: python -m slowfast_dist report {operand(run)} "
                f"--explain {self.hardest} --explain-seconds {ENOUGH_SECONDS}"
            )
        return "; ".join(parts)


def explain_hardest(
    folder: Path, most: int, seconds: float, device: str | None = None,
    videos: VideoTable | None = None, place: Path | None = None,
) -> Maps:  # fmt: skip
    """Draw maps of the ``most`` hardest validation videos of the run in ``folder`` that have none
    yet, within ``seconds`` or little more, into its folder `EXPLAINED`, and remove those of an
    older best model. ``videos``: those of the validation as probed; ``place``: their folder, as the
    user named it; ``device``: None for a GPU where there is one. torch is imported where there is
    something to draw. A signal that asks for a stop ends it between two parts of a map.

    Raises UserError and RunError as reading the best model and writing do.
    """
    begun = time.monotonic()
    of_page = read_run(folder, read_cache(folder).history)
    predictions = find_predictions(of_page.predictions)
    hardest = [] if predictions is None else hardest_videos(predictions, most, mistakes_only=True)
    told = Maps(len(hardest))
    if not hardest:
        return told
    best = read_best(folder)
    target = _Target(folder / EXPLAINED, best.weights_sha256 or "")
    samples = samples_of(of_page, [one.path for one in hardest], videos, place)
    waiting: list[tuple[HardVideo, Sample]] = []
    for one in hardest:
        sample = samples[one.path]
        if isinstance(sample, str):
            told.failed[sample] = told.failed.get(sample, 0) + 1
        elif target.has(sample):
            told.there += 1
        else:
            waiting.append((one, sample))
    told.removed = target.forget_older()
    if waiting:
        work = _drawn(waiting, best, target, device, begun + seconds)
        for outcome in over_files(work, len(waiting), "explaining"):
            if outcome is None:
                told.made += 1
            elif outcome == "":
                told.late += 1
            else:
                told.failed[outcome] = told.failed.get(outcome, 0) + 1
    told.seconds, told.stopped = time.monotonic() - begun, signals.received() is not None
    return told


def maps_of(run: "Run", seconds_of_run: float) -> tuple[str | None, bool]:
    """At the end of a training that took so long: as `explain_hardest`, of the ``run`` and within
    its time limit. The line for people, and whether the page has to be drawn again; whatever goes
    wrong costs the maps alone."""
    config, folder = run.config, run.folder
    seconds = min(config.report.explain_seconds, EXPLAIN_SHARE * seconds_of_run)
    if config.hours is not None:
        seconds = min(seconds, 3600 * config.hours - seconds_of_run)
    device = str(run.environment.get("device", "cpu"))
    try:
        told = explain_hardest(
            folder.root, config.report.explain, seconds, device, run.videos.val
        )
    except Exception as error:  # whatever it is, the training is worth more
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"{EXPLAINED}/: no maps of the hardest videos ({reason[:300]})", False
    return told.line(folder.shown), told.changed


class _Target:
    """The folder of the strips, and which of them are of the best model that is there now."""

    def __init__(self, folder: Path, weights: str) -> None:
        """Raises RunError for a folder that is a link: a run may be another's."""
        if folder.is_symlink():
            raise RunError(f"{folder}: is a link: no map is drawn there")
        self.folder, self._weights = folder, weights
        kept = mapping(read_json(folder / KEPT))
        # Nothing but the names of files here, whoever wrote it.
        self._kept: dict[str, Any] = {
            stem: of for stem, of in kept.items() if stem and Path(stem).name == stem
        }

    def has(self, sample: Sample) -> bool:
        """Whether there is a strip of it that is not of an older model."""
        stem = claimed_name(self.folder, sample.path, sample.part)
        if stem is None or not (self.folder / (stem + ENDINGS[1])).is_file():
            return False
        return self._kept.get(stem, self._weights) == self._weights

    def forget_older(self) -> int:
        """Remove the strips drawn here of another model than the best one now; how many."""
        older = [stem for stem, of in self._kept.items() if of != self._weights]
        for stem in older:
            for ending in ENDINGS:
                (self.folder / (stem + ending)).unlink(missing_ok=True)
            del self._kept[stem]
        if older:
            write_json(self.folder / KEPT, self._kept)
        return len(older)

    def write(self, sample: Sample, picture: Picture) -> None:
        stem = claim_name(self.folder, sample.path, sample.part)
        self._kept[stem] = self._weights
        write_json(self.folder / KEPT, self._kept)  # first: what is there is then never taken for
        write_explained(self.folder, stem, picture)  # somebody's


def _drawn(
    waiting: Sequence[tuple[HardVideo, Sample]], best: BestModel, target: _Target,
    device: str | None, end: float,
) -> Iterator[str | None]:  # fmt: skip
    """Of each video None once its map is drawn, "" where there is no time, or why it is not."""
    import torch

    from slowfast_dist.inference.explain import Explainer

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    explainer: Explainer | None = None
    with closing(GuardedReader()) as reader:
        for hard, sample in waiting:
            left = end - time.monotonic()
            if left <= 0 or signals.received() is not None:
                yield ""
                continue
            explainer = explainer or Explainer(best.load(), best.task.several, device)
            reader.seconds = min(left, DECODE_SECONDS)
            try:
                target.write(sample, _picture(hard, sample, best, explainer, reader, end))
                yield None
            except Stopped:
                yield ""
            except torch.OutOfMemoryError:
                yield "the GPU has no memory left for it"
            except DecodeError as error:
                yield error.reason if time.monotonic() < end else ""


def _picture(
    hard: HardVideo, sample: Sample, best: BestModel, explainer: "Explainer", reader: GuardedReader,
    end: float,
) -> Picture:  # fmt: skip
    """Raises DecodeError, and Stopped where the whole map would end after ``end``."""
    name, said = _class_of(hard, best)
    if name not in best.classes:
        raise DecodeError(sample.path, f"the model has no class {name!r}")
    numbers = clip_indices(sample.info, best.data, view_positions(1)[0], sample.span)
    clip, times = read_clip(reader, sample.path, sample.info, numbers, best.data, sample.region)
    begun = time.monotonic()

    def go_on(share: float) -> bool:
        in_time = begun + (time.monotonic() - begun) / share <= end
        return in_time and signals.received() is None

    found = explainer.explain(clip, best.classes.index(name), go_on)
    colours = {"both pathways": found.joined.colours(clip.shape[1])}
    return Picture(clip, times, colours, found.joined.when, title_of(said, hard.path, found))


def _class_of(hard: HardVideo, best: BestModel) -> tuple[str, str]:
    """The class to explain, the one that was predicted, and what is said of the video. Of several
    labels it is the first that is wrong: predicted and not there, else there and not predicted."""
    if not best.task.several:
        return hard.prediction, f"{hard.prediction}  {hard.confidence:.1%}, labelled {hard.label}"
    labels, said = parted(hard.label), parted(hard.prediction)
    wrong = [one for one in said if one not in labels] + [one for one in labels if one not in said]
    told = f"predicted {hard.prediction or 'none'}, labelled {hard.label or 'none'}"
    return wrong[0], f"{wrong[0]}: {told}"
