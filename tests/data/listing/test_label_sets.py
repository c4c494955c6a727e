"""Lists whose rows have several labels: how they are written, united, lent, split, written back."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.label_sets import LabelSets, covering
from slowfast_dist.data.listing.listing import Listing, labelled_as
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.split import split_videos, write_split
from slowfast_dist.runs.run import read_split


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a list and the (empty) files it names; returns its path."""

    def write(text: str, name: str = "list.csv") -> Path:
        for file in set(re.findall(r"\w+\.mp4", text)):
            (tmp_path / file).touch()
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def listed(path: Path, several: bool | None = True) -> Listing:
    return list_videos(path, "data.root", several=several)


def cells(listing: Listing) -> dict[str, str]:
    names = listing.videos.samples()
    return dict(zip(names, listing.videos.label_cells(listing.classes), strict=True))


def test_a_row_has_several_labels_and_rows_of_one_sample_their_union(write: Any) -> None:
    text = "path;label\na.mp4;walk|wave\nb.mp4; wave |walk | wave\nc.mp4;\nd.mp4;walk\nd.mp4;sit\n"
    listing = listed(write(text))
    assert listing.classes == ("sit", "walk", "wave")
    assert cells(listing) == {
        "a.mp4": "walk|wave", "b.mp4": "walk|wave", "c.mp4": "", "d.mp4": "sit|walk",
    }  # fmt: skip
    assert listing.counts().tolist() == [1, 3, 2]
    assert listing.videos.targets([0, 2]).tolist() == [[False, True, True], [False] * 3]
    lines = [
        {"path": "a.mp4", "label": ["walk", "wave"]}, {"path": "c.mp4", "label": []},
        {"path": "d.mp4", "label": "walk|sit"}, {"path": "b.mp4", "labels": "wave|walk"},
    ]  # fmt: skip
    same = listed(write("\n".join(map(json.dumps, lines)), "list.jsonl"))
    assert cells(same) == cells(listing)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.mp4,sit\nb.mp4,walk|wave\n", "line 3: label 'walk|wave' holds 2 classes"),
        ("path,label\na.mp4,sit\nb.mp4,\n", "line 3: path or label is empty"),
        ("path,label\na.mp4,sit\na.mp4,walk\n", "already; delete one, or .*--loss.name bce"),
        ("path,classes,split,group\na.mp4,a|b,train,\n", "line 2: label 'a|b' holds 2 classes"),
    ],
)
def test_without_bce_one_line_names_file_row_and_flag(write: Any, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(UserError, match=re.escape(str(path))) as error:
        listed(path, several=False)
    assert re.search(message.replace("|", r"\|"), str(error.value))
    assert "--loss.name bce" in str(error.value) or "empty" in message
    assert "\n" not in str(error.value)


def test_mistakes_of_several_labels(write: Any) -> None:
    with pytest.raises(UserError, match=r"line 2: label 'walk\|' has an empty class"):
        listed(write("path,label\na.mp4,walk|\nb.mp4,sit\n"))
    text = "path,label,split\na.mp4,sit,train\na.mp4,walk,val\nb.mp4,sit,val\n"
    with pytest.raises(UserError, match="line 3: its split is not that of line 2"):
        listed(write(text))


def test_rows_of_one_sample_have_one_group_and_weight(write: Any) -> None:
    """Of which only one could stay."""
    for name, cells in (("weight", ("1", "1", "5")), ("group", ("g", "g", "h"))):
        rows = [f"a.mp4,{label},{cell}" for label, cell in zip("zyb", cells, strict=True)]
        with pytest.raises(UserError, match=f"line 4: its {name} is not that of line 2, of the"):
            listed(write("\n".join((f"path,label,{name}", *rows))))
        same = [row.rpartition(",")[0] + f",{cells[-1]}" for row in rows]
        assert len(listed(write("\n".join((f"path,label,{name}", *same, f"c.mp4,b,{cells[0]}"))))
                   .videos) == 2  # fmt: skip


def test_what_may_have_several_shows_it(write: Any) -> None:
    """As check-data and prepare read a list, of which they know no setting of the training."""
    one = listed(write("path,label\na.mp4,sit\nb.mp4,walk\n"), several=None)
    assert one.videos.sets is None
    for text in ("a.mp4,sit|walk\nb.mp4,\n", "a.mp4,sit\na.mp4,walk\n"):
        assert listed(write(f"path,label\n{text}"), several=None).videos.sets is not None
    with pytest.raises(UserError, match="line 2: path or label is empty"):
        listed(write("path,label\na.mp4,\nb.mp4,walk\n"), several=None)
    old = "path,class,split,group\na.mp4,a|b,train,\nb.mp4,c,train,\n"  # a class folder's name
    assert listed(write(old, "split.csv"), several=None).classes == ("a|b", "c")


def test_segments_have_the_labels_of_those_that_cover_half_of_them() -> None:
    rng = np.random.default_rng(0)
    files = rng.integers(0, 4, 60).astype(np.int32)
    starts = rng.integers(0, 20, 60).astype(float)
    bounds = np.stack([starts, starts + rng.integers(1, 12, 60)], axis=1)
    bounds[:3], files[:3] = np.nan, [0, 1, 2]
    found = covering(files, bounds)
    for row in range(60):
        expected = {row}
        for other in range(60):
            (start, end), (begin, until) = bounds[row], np.nan_to_num(bounds[other], nan=-1)
            if np.isnan(start) or files[row] != files[other]:
                continue
            whole = np.isnan(bounds[other, 0])
            common = end - start if whole else min(end, until) - max(start, begin)
            if common >= (end - start) / 2:
                expected.add(other)
        assert set(found[row]) == expected


def test_overlaps_lend_labels_whatever_the_sides_and_are_not_lent_again(
    write: Any, tmp_path: Path
) -> None:
    text = (
        "path,label,start,end,split\na.mp4,x,0,10,train\na.mp4,y,4,10,train\na.mp4,z,0,5,test\n"
        "b.mp4,x,0,2,val\nb.mp4,,3,4,val\n"
    )
    listing = listed(write(text))
    assert cells(listing) == {
        "a.mp4@0-5": "x|z", "a.mp4@0-10": "x|y|z", "a.mp4@4-10": "x|y", "b.mp4@0-2": "x",
        "b.mp4@3-4": "",
    }  # fmt: skip
    assert any("3 of 5 segments have labels" in str(remark) for remark in listing.remarks)
    train, val = (listing.select(listing.rows_of(side)) for side in ("train", "val"))
    split = tmp_path / "split.csv"
    write_split(split, listing.classes, train.videos, val.videos)
    assert split.read_text().splitlines()[0].startswith("path,classes,split,group,start")
    again = listed(split)
    assert cells(again) == cells(train) | cells(val)
    assert read_split(split).train == {"x": 2, "y": 2, "z": 1}


def test_a_split_keeps_every_class_and_balances_the_rare_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        "|".join(name for name, share in (("often", 0.8), ("some", 0.4), ("rare", 0.05))
                 if rng.random() < share) for _ in range(400)
    ]  # fmt: skip
    names = [f"{n:03}.mp4" for n in range(400)]
    for name in names:
        (tmp_path / name).touch()
    table = tmp_path / "list.csv"
    table.write_text("path,label\n" + "".join(map("{},{}\n".format, names, rows)))
    listing = listed(table)
    split = split_videos(listing, 0.25, seed=0)
    counts = split.val.class_counts(3)
    assert counts / listing.counts() == pytest.approx([0.25] * 3, abs=0.05)
    again = split_videos(listing, 0.25, seed=0)
    assert list(again.val.names) == list(split.val.names)


def test_labels_of_a_model_and_of_a_folder(write: Any, tmp_path: Path) -> None:
    listing = listed(write("path,label\na.mp4,walk|sit\nb.mp4,\n"))
    known = labelled_as(listing, ("run", "walk", "sit"), "data", Path("list.csv"))
    assert known.videos.targets([0, 1]).tolist() == [[False, True, True], [False] * 3]
    assert listing.select([1]).without_empty_classes().classes == ()
    for folder in ("a|b", "c"):
        (tmp_path / "root" / folder).mkdir(parents=True)
        (tmp_path / "root" / folder / "1.mp4").touch()
    with pytest.raises(UserError, match=r"class 'a\|b' has a \|"):
        listed(tmp_path / "root")
    (tmp_path / "root" / "a|b").rename(tmp_path / "root" / "a")
    assert listed(tmp_path / "root").videos.targets([0, 1]).tolist() == [[1, 0], [0, 1]]


def test_a_million_rows_stay_arrays() -> None:
    cells = ["a|b", "", "c"] * 1000
    sets = LabelSets.of_cells(cells, ("a", "b", "c"))
    assert sets.sets.shape == (3, 3) and sets.codes.dtype == np.int32
    assert sets.united([[0, 2], [1]]).sets.tolist() == [[True, True, True], [False] * 3]
