"""What the writers of formats take: the segments of one video; and what JSON of theirs is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Found(NamedTuple):
    """A segment: seconds from the first frame, its label, and how probable that is."""

    start: float
    end: float
    label: str
    confidence: float


@dataclass(frozen=True)
class VideoSegments:
    """The ``segments`` of a video, by time and without overlap.

    ``path``: absolute, as other programs open it; ``seconds``: its length; ``fps``: frames a
    second, 0 where the file does not say; ``classes``: all that there might be.
    """

    path: str
    seconds: float
    fps: float
    classes: Sequence[str]
    segments: Sequence[Found]

    @property
    def name(self) -> str:
        """Of the file alone."""
        return self.path.replace("\\", "/").rpartition("/")[2]


def as_json(value: Any) -> str:
    """Indented, in UTF-8."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
