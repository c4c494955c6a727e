"""Training and validation: the right share of every class, and no recording on both sides."""

import csv
import hashlib
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.columns import Categorical, Texts
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.split import MOST_GROUPS, Split, split_videos, write_split
from slowfast_dist.data.listing.video_table import VideoRecord, VideoTable
from slowfast_dist.data.videos.video_set import VideoSet
from tests.helpers.video_tables import table_of


def listing(counts: dict[str, int], groups: int | None = None) -> Listing:
    """``counts`` videos of each class; video i is in group i modulo ``groups``, or its own."""
    classes = tuple(sorted(counts))
    videos = []
    for label, name in enumerate(classes):
        for index in range(counts[name]):
            path = f"{name}/{index:03d}.mp4"
            group = path if groups is None else f"g{index % groups}"
            videos.append(VideoRecord(Path("root", path), path, label, group))
    return Listing(classes, table_of(videos))


def per_class(split: Split) -> tuple[dict[int, int], dict[int, int]]:
    return Counter(v.label for v in split.train), Counter(v.label for v in split.val)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_every_class_has_its_share(fraction: float) -> None:
    counts = {"a": 40, "b": 10, "c": 3, "d": 2}
    videos = listing(counts)
    split = split_videos(videos, fraction, seed=0)
    assert sorted([*split.train, *split.val], key=lambda v: v.name) == list(videos.videos)
    _, val = per_class(split)
    shares = [min(max(round(n * fraction), 1), n - 1) for n in counts.values()]
    assert [val[label] for label in range(4)] == shares
    assert split.remarks == ()


def test_the_seed_alone_decides() -> None:
    videos = listing({"a": 20, "b": 20})
    assert validation(videos, 1) == validation(videos, 1) != validation(videos, 2)
    grouped = listing({"a": 20, "b": 20}, groups=10)
    assert validation(grouped, 1) == validation(grouped, 1)
    assert len({validation(grouped, seed) for seed in range(5)}) > 1


def validation(videos: Listing, seed: int) -> tuple[VideoRecord, ...]:
    return tuple(split_videos(videos, 0.2, seed).val)


def test_a_resume_finds_the_same_split_again() -> None:
    """The draw that runs so far were made with: of each class, by (seed, class), in its order."""
    videos = listing({"a": 40, "b": 11, "c": 3})
    records = list(videos.videos)
    expected = []
    for label in range(3):
        members = [video for video in records if video.label == label]
        order = np.random.default_rng([5, label]).permutation(len(members))
        count = max(round(len(members) * 0.2), 1)
        expected += sorted(members[place].name for place in order[:count])
    split = split_videos(videos, 0.2, seed=5)
    assert list(split.val.names) == expected
    digest = hashlib.sha256("\0".join(videos.classes).encode())
    for side in (split.train, split.val):
        digest.update("".join(f"\n{v.label}\t{v.name}" for v in side).encode() + b"\n")
    found = VideoSet(videos.classes, split.train, split.val, (), True, ())
    assert found.fingerprint() == digest.hexdigest()


def test_a_class_of_one_video_trains_and_is_warned_of() -> None:
    split = split_videos(listing({"a": 10, "lonely": 1}), 0.5, 0)
    assert [video.label for video in split.train].count(1) == 1
    assert len(split.remarks) == 1 and "'lonely'" in split.remarks[0].what


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.3, 0.5, 0.7])
def test_groups_stay_whole(fraction: float) -> None:
    videos = listing({"a": 30, "b": 60, "c": 30}, groups=30)
    split = split_videos(videos, fraction, seed=3)
    assert not {v.group for v in split.train} & {v.group for v in split.val}
    assert len(split.val) == pytest.approx(120 * fraction, abs=6)
    assert all(split.train[i].name < split.train[i + 1].name for i in range(len(split.train) - 1))


def test_uneven_groups_of_few_classes() -> None:
    """Groups of one class each, very different in size: still a split, and every class trains."""
    random = Random(0)
    videos = []
    for label in range(4):
        for group in range(4):
            for index in range(random.randint(1, 12)):
                name = f"{label}/{group}_{index:02d}.mp4"
                videos.append(VideoRecord(Path(name), name, label, f"{label}/{group}"))
    split = split_videos(Listing(("0", "1", "2", "3"), table_of(videos)), 0.25, 0)
    train, val = per_class(split)
    assert set(train) == set(val) == {0, 1, 2, 3}
    assert not {v.group for v in split.train} & {v.group for v in split.val}
    assert 0.1 < len(split.val) / len(videos) < 0.4


def test_a_class_recorded_once_trains_and_is_warned_of() -> None:
    videos = list(listing({"a": 20, "b": 20}, groups=5).videos)
    videos += [VideoRecord(Path("root/c", str(i)), f"c/{i}", 2, "only") for i in range(5)]
    split = split_videos(Listing(("a", "b", "c"), table_of(videos)), 0.2, 0)
    assert 2 not in per_class(split)[1]
    assert len(split.remarks) == 1 and "'c'" in split.remarks[0].what


@pytest.mark.parametrize(
    ("videos", "flag"),
    [
        (listing({"a": 10, "b": 10}, groups=1), "--data.group-pattern"),
        (listing({"a": 1, "b": 1}), "--data.val-fraction"),
        (Listing(("a", "b", "c"), table_of([VideoRecord(Path(n), n, i, g) for i, (n, g) in
            enumerate([("a/1", "g"), ("b/1", "g"), ("c/1", "h")])])), "--data.root"),
    ],
)  # fmt: skip
def test_what_cannot_be_split_is_one_clear_line(videos: Listing, flag: str) -> None:
    with pytest.raises(UserError) as caught:
        split_videos(videos, 0.2, 0)
    assert str(caught.value).startswith(flag) and "\n" not in str(caught.value)


def test_a_class_that_cannot_train_is_named() -> None:
    """Two groups, so one class is on the validation side alone whichever is taken."""
    videos = [VideoRecord(Path(f"{k}/{i}"), f"{k}/{i}", k, f"g{k}") for k in (0, 1) for i in (0, 1)]
    with pytest.raises(UserError, match="no training video of class '[ab]'"):
        split_videos(Listing(("a", "b"), table_of(videos)), 0.5, 0)


@pytest.mark.parametrize(
    ("name", "groups"), [("ä, b", 2), ('a"b', None), ("plain", None), ("plain", 2), ("a\nb", 2)]
)
def test_split_csv(tmp_path: Path, name: str, groups: int | None) -> None:
    videos = listing({name: 4, "c": 4}, groups)
    split = split_videos(videos, 0.5, 0)
    write_split(tmp_path / "split.csv", videos.classes, split.train, split.val)
    with open(tmp_path / "split.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "class", "split", "group"]
    sides = {"train": split.train, "val": split.val}
    written = {(r["path"], r["class"], r["split"], r["group"]) for r in rows}
    assert len(rows) == 8 and written == {
        (v.name, videos.classes[v.label], side, v.group) for side in sides for v in sides[side]
    }


def test_thousands_of_groups_are_drawn_at_random_and_still_balanced() -> None:
    """Recordings of up to 12 videos of one class each, three times as many as are dealt out."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 13, 3 * MOST_GROUPS)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = rng.integers(0, 5, len(sizes))[groups]
    order = np.argsort(labels, kind="stable")
    names = [f"{label}/{group}/{i}.mp4" for i, (label, group) in
             enumerate(zip(labels[order], groups[order], strict=True))]  # fmt: skip
    videos = VideoTable(
        Path("root"), Texts.of(names), labels[order].astype(np.int32),
        Categorical.of(str(group) for group in groups[order]),
    )  # fmt: skip
    found = Listing(tuple("01234"), videos)
    split = split_videos(found, 0.2, 0)
    assert not set(split.train.group_names()) & set(split.val.group_names())
    assert len(split.train) + len(split.val) == len(videos)
    shares = np.bincount(split.val.labels) / np.bincount(labels)
    np.testing.assert_allclose(shares, 0.2, atol=0.02)
    again, other = split_videos(found, 0.2, 0), split_videos(found, 0.2, 1)
    assert list(again.val.names) == list(split.val.names) != list(other.val.names)


def test_real_recordings_by_sequence(real_data: Path) -> None:
    videos = list_videos(real_data / "ut_interaction", "data.root", r"seq\d+")
    assert len(videos.classes) == 6 and len(videos.videos) == 120
    assert len({video.group for video in videos.videos}) == 20
    for seed in range(3):
        split = split_videos(videos, 0.2, seed)
        assert not {v.group for v in split.train} & {v.group for v in split.val}
        assert len(split.val) / 120 == pytest.approx(0.2, abs=0.05)
        assert split.remarks == ()
