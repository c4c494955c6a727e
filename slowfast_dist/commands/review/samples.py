"""What is reviewed: videos and parts of videos, what is known of each, and in which order."""

from dataclasses import dataclass, field
from math import inf, nan
from pathlib import Path

from slowfast_dist.annotations.segments import BOX, parse_box, sample_name
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import ReviewOrder
from slowfast_dist.metrics.cells import SEPARATOR


@dataclass(frozen=True)
class Sample:
    """A video, or its part from ``start`` to ``end`` in seconds (None: all of it)."""

    path: str
    """Below the source's root, or absolute."""
    labels: tuple[str, ...] | None = None
    """None: nobody labelled it. Of several labels a video any number, else one."""
    start: float | None = None
    end: float | None = None
    more: dict[str, str] = field(default_factory=dict)
    """Its cells of an annotation file's other columns: split, group, subject, x, y, w, h, weight.
    """
    predicted: str = ""
    """The class, or a|b of several, that a model or another list says of it; "": nothing."""
    probability: float | None = None
    """Of ``predicted``."""
    label_probability: float | None = None
    """Of its label, by the same model."""
    hardness: float | None = None
    """More is harder: the model's loss; None where no model said anything."""
    reason: str = ""
    """Why a list has it, for people."""
    of_run: bool = False
    """Whether a run said what is predicted, so that ``doubt`` tells all."""

    doubt: float | None = None
    """More is worse: by how much the label is doubted; None where it is not."""

    @property
    def doubted(self) -> float | None:
        """As ``doubt``, and where no model was asked by what the list says beside the label."""
        said = self.predicted and self.labels is not None
        if self.doubt is not None or not said or self.of_run:
            return self.doubt
        if self.predicted == SEPARATOR.join(self.labels or ()):
            return None
        return (self.probability or 0.0) - (self.label_probability or 0.0)


@dataclass
class Source:
    """The samples that were found, below ``root``."""

    root: Path
    samples: list[Sample]
    classes: list[str]
    """In the order of the keys that choose them."""
    several: bool = False
    """Whether a sample may have several labels, or none."""
    names_all: bool = False
    """Whether its list has a column labels, which holds all labels of a row."""
    order: ReviewOrder = "path"
    """In which they come unless another one is asked for."""
    image_fps: float | None = None
    """Images a second of folders of images that do not tell; None: not known."""
    notes: list[str] = field(default_factory=list)
    """What is to be said of it."""


def in_order(source: Source, order: ReviewOrder) -> list[Sample]:
    """The samples that are shown, the first first. Raises UserError where nothing tells that
    order."""
    samples = source.samples
    if order == "path":
        return sorted(samples, key=lambda one: (one.path, one.start or 0.0, one.end or inf))
    if order == "suggested":
        return list(samples)  # as the list has them
    if order == "wrong":
        found = [one for one in samples if one.doubted is not None]
        if not found:
            raise UserError(
                "--order wrong: no label is probably wrong, as far as is known: give a run with "
                "predictions/val_best.csv, a cross-validation, a list with a column suggested, or "
                "--order hardest"
            )
        return sorted(found, key=lambda one: -(one.doubted or 0.0))
    if all(one.hardness is None for one in samples):
        raise UserError(
            "--order hardest: nothing tells how hard a video is: give a run with "
            "predictions/val_best.csv, a cross-validation, or a list with a column probability"
        )
    known = [one for one in samples if one.hardness is not None]
    rest = [one for one in samples if one.hardness is None]
    return sorted(known, key=lambda one: -(one.hardness or 0.0)) + rest


def name_of(sample: Sample) -> str:
    """As lists of predictions call it: path@start-end#xywh=..."""
    box = parse_box([sample.more.get(name, "") for name in BOX])
    start = nan if sample.start is None else sample.start
    return sample_name(sample.path, start, nan if sample.end is None else sample.end, box)
