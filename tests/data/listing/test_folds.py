"""Folds of a cross-validation: groups whole, classes spread, and the same whatever trains."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.folds.column import Folds
from slowfast_dist.data.listing.folds.dealing import count_folds, deal
from slowfast_dist.data.listing.folds.parts import Part, hold_out, with_fewer
from slowfast_dist.data.listing.listing import Listing, usable
from slowfast_dist.data.listing.manifest import list_root
from slowfast_dist.data.listing.split import split_videos


def listed(folder: Path, rows: Sequence[tuple[str, str]], split: Sequence[str] = ()) -> Listing:
    """A list with a video for each (class, group); "" is a group of its own."""
    lines = ["path,label,group" + ",split" * bool(split)]
    for number, (label, group) in enumerate(rows):
        (folder / f"{number:04d}.mp4").touch()
        line = f"{number:04d}.mp4,{label},{group}"
        lines.append(f"{line},{split[number]}" if split else line)
    table = folder / "list.csv"
    table.write_text("\n".join(lines) + "\n")
    return list_root(DataConfig(root=table))


def groups_by_class(listing: Listing) -> dict[int, set[str]]:
    found = defaultdict(set)
    for label, group in zip(listing.videos.labels.tolist(), listing.videos.group_names(),
                            strict=True):  # fmt: skip
        found[label].add(group)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_groups_stay_whole_and_each_class_is_in_as_many_folds_as_can_be(
    tmp_path: Path, seed: int
) -> None:
    """As many as the best of all deals that there are."""
    rng = np.random.default_rng(seed)
    groups, folds = int(rng.integers(5, 8)), int(rng.integers(2, 4))
    rows = [
        (label, f"g{group}")
        for label in "abcd"
        # Rare classes: of two to all groups.
        for group in rng.permutation(groups)[: int(rng.integers(2, groups + 1))]
        for _ in range(int(rng.integers(1, 4)))
    ]
    listing = listed(tmp_path, rows)
    dealt = deal(listing, folds)
    assert sorted(set(dealt.tolist())) == list(range(folds))
    where = defaultdict(set)
    for group, fold in zip(listing.videos.group_names(), dealt.tolist(), strict=True):
        where[group].add(fold)
    assert all(len(its) == 1 for its in where.values())
    names, own = sorted(where), groups_by_class(listing)

    def occupied(folds_of: Sequence[int]) -> int:
        """In how many folds the classes are, added up."""
        fold = dict(zip(names, folds_of, strict=True))
        return sum(len({fold[name] for name in its}) for its in own.values())

    every = (one for one in product(range(folds), repeat=len(names)) if len(set(one)) == folds)
    most = max(occupied(one) for one in every)
    ours = occupied([min(where[name]) for name in names])
    assert ours == most


def test_where_scikit_learn_leaves_classes_out_of_folds(tmp_path: Path) -> None:
    """Without a word; here none is."""
    rng = np.random.default_rng(9)
    rows = [(label, f"g{group}") for label in "abcdef" for group in rng.permutation(12)[:6]]
    listing = listed(tmp_path, rows)
    labels = listing.videos.labels
    _, groups = np.unique(list(listing.videos.group_names()), return_inverse=True)
    theirs = StratifiedGroupKFold(4, shuffle=True, random_state=0).split(labels, labels, groups)
    assert sum(6 - len(set(labels[inside].tolist())) for _, inside in theirs) > 0
    dealt = deal(listing, 4)
    assert all(set(labels[dealt == fold].tolist()) == set(range(6)) for fold in range(4))


def test_videos_without_groups_are_dealt_out_class_by_class(tmp_path: Path) -> None:
    listing = listed(tmp_path, [("a", "")] * 11 + [("b", "")] * 7)
    dealt, labels = deal(listing, 5), listing.videos.labels
    for label in (0, 1):
        sizes = np.bincount(dealt[labels == label], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert np.ptp(np.bincount(dealt)) <= 1


def test_each_video_is_held_out_once_and_group_takes_each_group(tmp_path: Path) -> None:
    rows = [(label, f"g{number % 4}") for label in "ab" for number in range(8)]
    listing = listed(tmp_path, rows, split=["train", "val"] * 8)
    assert count_folds(listing, "group") == 4
    held = []
    for fold in range(1, 5):
        one = hold_out(listing, Part("group", fold))
        split = split_videos(one, 0.2, seed=fold)
        assert len(set(split.val.group_names())) == 1
        assert not set(split.val.group_names()) & set(split.train.group_names())
        held += list(split.val.names)
        assert any(remark.kind == "folds-split" for remark in split.remarks)
    assert sorted(held) == sorted(listing.videos.names)


def test_what_cannot_be_is_refused_or_said(tmp_path: Path) -> None:
    rows = [("a", f"g{number}") for number in range(3)] + [("b", "g0"), ("b", "g1")]
    listing = listed(tmp_path, rows)
    with pytest.raises(UserError, match="^--folds 4: there are 3 groups .*give --folds 3 or fewer"):
        count_folds(listing, 4)
    with pytest.raises(UserError, match="^--fold 4: there are 3 folds; give one of 1 to 3"):
        hold_out(listing, Part(3, 4))
    said = [remark.what for remark in hold_out(listing, Part(3, 1)).remarks]
    assert any("1 of 2 classes are not in each of the 3 folds" in what for what in said)
    lone = listed(tmp_path, [*rows, ("c", "g2"), ("c", "g2")])
    with pytest.raises(UserError, match="all videos of class 'c' are of one of the groups"):
        count_folds(lone, 2)


def test_a_smaller_share_of_the_training_is_a_part_of_a_larger_one(tmp_path: Path) -> None:
    rows = [(label, f"g{number}") for label in "ab" for number in range(12) for _ in range(2)]
    for listing in (listed(tmp_path, rows), listed(tmp_path, [(label, "") for label, _ in rows])):
        split = split_videos(listing, 0.25, seed=0)
        before: set[str] = set()
        for share in (0.1, 0.25, 0.5, 1.0):
            one = with_fewer(split, share)
            names = set(one.train.names)
            assert before <= names and set(one.train.labels.tolist()) == {0, 1}
            assert list(one.val.names) == list(split.val.names)
            before = names
        assert before == set(split.train.names)
        half = with_fewer(split, 0.5)
        groups = [len(set(one.train.group_names())) for one in (half, split)]
        assert groups[0] == round(groups[1] / 2)
        assert half.remarks[-1].what.startswith(f"{len(half.train)} of {len(split.train)} ")


def test_rows_that_say_where_background_is_are_no_class_of_a_fold(tmp_path: Path) -> None:
    """Which gaps of the others' files give it, too."""
    rows = [(label, f"g{number}") for label in "ab" for number in range(4)] + [("none", "g1")] * 2
    listing = listed(tmp_path, rows)
    with pytest.raises(UserError, match="all videos of class 'none' are of one of the groups"):
        count_folds(listing, 2)
    plain = deal(listed(tmp_path, rows[:-2]), 2)
    assert deal(listing, 2, "none")[:-2].tolist() == plain.tolist()
    held = hold_out(listing, Part("group", 2), "none")
    assert len(held.rows_of("val")) == 4 and not any("none" in str(one) for one in held.remarks)


def test_a_share_of_rows_with_several_labels_is_one_of_the_classes(tmp_path: Path) -> None:
    """Each of 105 rows has a combination of labels that no other has."""
    pairs = [f"c{a:02}|c{b:02}" for a in range(15) for b in range(a)]
    lines = [f"{number}.mp4,{pair}" for number, pair in enumerate(pairs)]
    for number in range(len(pairs)):
        (tmp_path / f"{number}.mp4").touch()
    table = tmp_path / "list.csv"
    table.write_text("\n".join(("path,label", *lines)))
    split = split_videos(list_root(DataConfig(root=table), several=True), 0.25, seed=0)
    before: set[str] = set()
    for share, most in ((0.1, 25), (0.5, 45), (1.0, 84)):
        one = with_fewer(split, share).train
        assert len(one) <= most and (one.class_counts(15) > 0).all()
        assert before <= set(one.names)
        before = set(one.names)
    assert before == set(split.train.names)


def test_what_cannot_be_read_is_named_by_the_fold(tmp_path: Path) -> None:
    """There is no column split to be corrected."""
    rows = [(label, f"g{number}") for label in "ab" for number in range(3)]
    held = hold_out(listed(tmp_path, rows), Part("group", 1))
    is_train = np.isin(np.arange(len(rows)), held.rows_of("train"))
    left = usable(held, ~is_train | (held.videos.labels != 0), "data.root", tmp_path, fold=1)
    with pytest.raises(UserError, match="^--fold 1: of class 'a' no video outside of the fold can"):
        split_videos(left, 0.25, 0, fold=1)
    with pytest.raises(UserError, match="no video of fold 1 can be read; replace them"):
        usable(held, is_train, "data.root", tmp_path, fold=1)


def folded(folder: Path, rows: Sequence[tuple[str, str, str]], more: str = "") -> Listing:
    """A list with a video for each (class, group, fold)."""
    lines = ["path,label,group,fold"]
    for number, (label, group, fold) in enumerate(rows):
        (folder / f"{number:04d}.mp4").touch()
        lines.append(f"{number:04d}.mp4,{label},{group},{fold}")
    table = folder / "list.csv"
    table.write_text("\n".join(lines) + "\n" + more)
    return list_root(DataConfig(root=table))


OWN = [("a", "g", "late"), ("b", "g", "late"), ("a", "h", "10"), ("b", "h", "10"), ("a", "i", "2")]


@pytest.mark.parametrize("folds", ["column", 3])
def test_a_column_says_the_folds(tmp_path: Path, folds: Folds) -> None:
    """In the order of their numbers, then of their letters; what a fold lacks is said."""
    listing = folded(tmp_path, OWN)
    assert count_folds(listing, folds) == 3
    where = [int(deal(listing, folds)[row]) for row in by_name(listing)]
    assert where == [2, 2, 1, 1, 0]
    held = hold_out(listing, Part(folds, 1))
    assert [held.videos.names[row] for row in held.rows_of("val")] == ["0004.mp4"]
    said = {one.kind: one.what for one in held.remarks}
    assert said["folds-given"] == (
        "the column fold says the folds: 3 of 5 videos; fold 1 is '2', 2 is '10', 3 is 'late'"
    )
    assert said["folds-lack-class"].startswith("1 of 2 classes are not in each of the 3 folds")


def by_name(listing: Listing) -> list[int]:
    return sorted(range(len(listing.videos)), key=list(listing.videos.names).__getitem__)


def test_whole_numbers_that_a_program_wrote_as_floats_are_the_same(tmp_path: Path) -> None:
    """As pandas writes a column with an empty cell, here of a row of split test."""
    rows = [(label, "", fold) for label in "ab" for fold in ("1.0", "2")]
    listing = folded(tmp_path, rows)
    held = hold_out(listing, Part(2, 1))
    assert count_folds(listing, "column") == 2
    assert "; fold" not in next(one.what for one in held.remarks if one.kind == "folds-given")


def test_group_takes_each_group_whatever_a_column_says(tmp_path: Path) -> None:
    listing = folded(tmp_path, OWN[:4])
    assert count_folds(listing, "group") == 2
    held = hold_out(listing, Part("group", 1))
    assert any(one.kind == "folds-unused" for one in held.remarks)


@pytest.mark.parametrize(
    ("rows", "folds", "line"),
    [
        (OWN, 2, "--folds 2: the column fold has 3 values, '2', '10', 'late': give --folds column"),
        ([*OWN[:3], ("b", "h", "")], "column", "the column fold is empty for 1 of 4 videos, as "),
        ([*OWN, ("b", "i", "10")], "column",
         "--folds column: the column fold has group 'i' in '2' and in '10' (1 such group)"),
        ([("a", "g", "1"), ("b", "g", "1"), ("a", "h", "2")], 2,
         "--folds 2: the column fold has all videos of class 'b' in one fold"),
        ([("a", "", "1"), ("b", "", "1")], "column", "the column fold has 1 value; give it 2 to "),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_is_one_line(
    tmp_path: Path, rows: list[tuple[str, str, str]], folds: Folds, line: str
) -> None:
    listing = folded(tmp_path, rows)
    with pytest.raises(UserError) as error:
        count_folds(listing, folds)
    assert line in str(error.value)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    listing = listed(tmp_path, [("a", "g"), ("b", "h"), ("a", "h"), ("b", "g")])
    with pytest.raises(UserError, match="--folds column: the list has no column fold"):
        count_folds(listing, "column")


def test_a_group_is_that_of_the_pattern_or_of_the_file(tmp_path: Path) -> None:
    """Parts of one file in two folds."""
    (tmp_path / "long.mp4").touch()
    (tmp_path / "other.mp4").touch()
    table = tmp_path / "list.csv"
    table.write_text(
        "path,label,start,end,fold\nlong.mp4,a,0,1,1\nlong.mp4,b,1,2,2\nother.mp4,a,0,1,2\n"
        "other.mp4,b,0,1,2\n"
    )
    with pytest.raises(UserError, match="group 'long.mp4' in '1' and in '2'"):
        count_folds(list_root(DataConfig(root=table)), "column")
