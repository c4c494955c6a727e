"""Patterns are named that tell recordings, and none where nothing does."""

from collections.abc import Callable

import numpy as np
import pytest

from slowfast_dist.commands.check.near_copies import FINGERPRINT, Fingerprints, fingerprint
from slowfast_dist.commands.check.recordings import Codes, find_recordings, numbered
from slowfast_dist.video.thumbnails import THUMBNAIL_SIDE as SIDE

CLASSES = ("jump", "run", "wave")


def fingerprints_of(recordings: list[str], tints: list[str] | None = None) -> Fingerprints:
    """One video each: the colours and blotches of its recording, and what is its own."""
    own = np.random.default_rng(0)
    answers = []
    for number, name in enumerate(recordings):
        rng = np.random.default_rng(list(name.encode()))
        place = rng.uniform(0, 255, (4, 4, 3)).repeat(SIDE // 4, 0).repeat(SIDE // 4, 1)
        if tints is not None:
            hue = np.random.default_rng(list(tints[number].encode())).uniform(0, 255, 3)
            place = 0.3 * place + 0.7 * hue
        frames = []
        for _ in range(5):
            frame = np.clip(place + own.normal(0, 4, place.shape), 0, 255).astype(np.uint8)
            y, x = own.integers(0, SIDE - 8, 2)
            frame[y : y + 8, x : x + 8] = own.integers(0, 255, 3)
            frames.append(frame)
        answers.append(fingerprint(frames))
    return np.stack(answers)


def classes_of(names: list[str]) -> Codes:
    return numbered([name.split("/")[0] for name in names])


def alone(names: list[str]) -> Codes:
    """No groups known."""
    return np.arange(len(names))


def partition(codes: Codes) -> list[list[int]]:
    return sorted(np.flatnonzero(codes == code).tolist() for code in np.unique(codes))


Named = Callable[[str, int, int, np.random.Generator], str]
"""(class, recording, clip, rng) -> path below the root."""


def letters(rng: np.random.Generator, count: int) -> str:
    return "".join(rng.choice(list("abcdefghijkmnopqrstuvwxyzABCDEFGH_-"), count))


IN_ALL_CLASSES: dict[str, Named] = {
    "a word with a number": lambda c, r, i, g: f"{c}/set{r % 2}_seq{r:02d}_id{g.integers(999)}.mp4",
    "a person": lambda c, r, i, g: f"{c}/person{r:02d}_{c}_d{i + 1}_uncomp.avi",
    "a name": lambda c, r, i, g: f"{c}/{'ABCDEFGHIJKL'[r]}{'aeiou' * 2}-{g.integers(10**6)}.mp4",
    "a day": lambda c, r, i, g: f"{c}/cam{i}_202401{r + 1:02d}_{g.integers(10**6):06d}.mov",
    "a folder": lambda c, r, i, g: f"{c}/{chr(97 + r) * 3}/{g.integers(10**6)}.mp4",
}
IN_ONE_CLASS: dict[str, Named] = {
    "UCF101": lambda c, r, i, g: f"{c}/v_{c.title()}_g{r:02d}_c{i:02d}.avi",
    "the name but its last part": lambda c, r, i, g: f"{c}/the {c} {'xyzuvwabcdef'[r]} take{i}.mp4",
    "Kinetics": lambda c, r, i, g: (
        f"{c}/{letters(np.random.default_rng([ord(c[0]), r]), 11)}_{i:06d}_{i + 10:06d}.mp4"
    ),
}


def dataset(named: Named, of_class: bool) -> tuple[list[str], list[str]]:
    """(names, recordings) of 3 classes x 12 recordings x 2 clips, in the order of a listing."""
    rng = np.random.default_rng(0)
    videos = sorted(
        (named(label, recording, clip, rng), f"{label if of_class else ''}{recording}")
        for label in CLASSES
        for recording in range(12)
        for clip in range(2)
    )
    return [name for name, _ in videos], [recording for _, recording in videos]


@pytest.mark.parametrize("style", [*IN_ALL_CLASSES, *IN_ONE_CLASS])
def test_the_part_of_the_name_that_tells_recordings_is_found(style: str) -> None:
    of_class = style in IN_ONE_CLASS
    names, recordings = dataset((IN_ALL_CLASSES | IN_ONE_CLASS)[style], of_class)
    prints, labels = fingerprints_of(recordings), classes_of(names)
    best = find_recordings(names, labels, alone(names), prints)[0]
    assert partition(best.groups) == partition(numbered(recordings)), best.pattern
    assert best.evidence.hits > 0.8 * best.evidence.trials
    # Kept together by these groups, nothing more is to be said.
    assert find_recordings(names, labels, numbered(recordings), prints) == []


@pytest.mark.parametrize("style", [*IN_ALL_CLASSES, *IN_ONE_CLASS])
def test_names_that_fingerprints_do_not_bear_out_are_not_proposed(style: str) -> None:
    names, recordings = dataset((IN_ALL_CLASSES | IN_ONE_CLASS)[style], style in IN_ONE_CLASS)
    shuffled = list(np.random.default_rng(1).permutation(recordings))
    prints = fingerprints_of(shuffled)
    assert find_recordings(names, classes_of(names), alone(names), prints) == []


def test_numbers_of_clips_are_not_proposed() -> None:
    names = [f"{label}/clip_{number:03d}.mp4" for label in CLASSES for number in range(60)]
    prints = fingerprints_of(names)
    assert find_recordings(names, classes_of(names), alone(names), prints) == []


def test_that_a_class_looks_alike_makes_no_recordings() -> None:
    classes = [f"class{number:02d}" for number in range(12)]
    names = [f"{label}/{label}_{number:02d}.mp4" for label in classes for number in range(10)]
    prints = fingerprints_of(names, tints=[name.split("/")[0] for name in names])
    assert find_recordings(names, classes_of(names), alone(names), prints) == []


def test_a_finer_pattern_of_the_user_does_not_hide_the_recordings() -> None:
    names, recordings = dataset(IN_ALL_CLASSES["a word with a number"], of_class=False)
    pairs = numbered([name.rsplit("_", 1)[0] for name in names])
    assert len(set(pairs.tolist())) > len(set(recordings))
    best = find_recordings(names, classes_of(names), pairs, fingerprints_of(recordings))[0]
    assert best.pattern == r"seq\d+"


def test_few_and_unreadable_videos_give_no_recordings() -> None:
    names = [f"{label}/seq{number}.mp4" for label in CLASSES for number in range(3)]
    unread = np.zeros(9, FINGERPRINT)
    assert find_recordings(names, classes_of(names), alone(names), unread) == []
    one = names[:1]
    assert find_recordings(one, classes_of(one), alone(one), np.zeros(1, FINGERPRINT)) == []
