"""What was found out about a dataset, and how a finding on it is told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from slowfast_dist.data.likeness import Looks, Pairs
from slowfast_dist.data.recordings import Codes
from slowfast_dist.data.video import VideoInfo

Side = Literal["train", "val"]
Level = Literal["error", "warning"]
"""An error would spoil a training: what it says would not be so, or some of the videos would be
missing. A warning is worth knowing."""


@dataclass(frozen=True)
class Dataset:
    """N videos in columns, as they were listed."""

    classes: tuple[str, ...]
    names: list[str]
    """Paths below the root, or, of two roots, below each."""
    labels: Codes
    groups: Codes
    sides: list[Side | None]
    """None for what the probe rejected, and where the split is refused."""
    infos: list[VideoInfo | None]
    """None for what the probe rejected."""
    reasons: dict[int, str]
    """Why videos cannot be read, also those in which the damage was met later."""
    looks: Looks
    near_copies: Pairs
    """Pairs that look the same."""
    same_bytes: list[list[int]]
    """Videos that are equal, two or more each."""
    roots: list[Literal["train", "val"]] | None
    """Which of two roots each is from, where the split was made by the user."""
    refused: str | None
    """Why training would not start with these videos."""
    notes: tuple[str, ...]
    """What training would warn of."""
    try_pattern: Callable[[str], str | None]
    """Why training would refuse a group_pattern, None if it would not."""

    def readable(self) -> list[tuple[int, VideoInfo]]:
        """The videos that can be read, as far as that was looked at, and what they hold."""
        return [
            (row, info)
            for row, info in enumerate(self.infos)
            if info is not None and row not in self.reasons
        ]

    def video(self, row: int) -> dict[str, Any]:
        """A video as programs are told of it."""
        return {
            "path": self.names[row],
            "class": self.classes[self.labels[row]],
            "split": self.sides[row],
        }


@dataclass(frozen=True)
class Finding:
    kind: str
    """A fixed word, for programs."""
    level: Level
    summary: str
    remedy: str
    examples: list[str] = field(default_factory=list)
    """For people; all of them."""
    items: list[dict[str, Any]] = field(default_factory=list)
    """For programs; all of them."""
