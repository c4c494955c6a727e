"""What a training gets from its data settings: which videos on which side, and what it is told."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.folds.parts import Part
from slowfast_dist.data.listing.split import write_split
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.data.videos.labelled import find_labelled_videos
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.video.probe import probe_file
from tests.helpers.video_kinds import KINDS
from tests.helpers.video_kinds import write as write_video


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a, b and c with 4 videos each, all different."""
    root = tmp_path_factory.mktemp("store") / "all"
    motions = ("moves left", "moves right", "turns clockwise")
    make_videos(root, 4, seed=0, size=32, frames=6, classes=motions)
    for motion, name in zip(motions, "abc", strict=True):
        (root / name).mkdir()
        for number, path in enumerate(sorted((root / motion).iterdir())):
            path.rename(root / name / f"{number}.mp4")
        (root / motion).rmdir()
    return root


@pytest.fixture
def root(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "videos"))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def rows(*cells: str) -> list[str]:
    """The rows of a CSV of all videos, a to c; ``cells``: what follows path,label, by number."""
    return [f"{name}/{i}.mp4,{name},{cell}" for name in "abc" for i, cell in enumerate(cells)]


def sides(found: VideoSet) -> tuple[list[str], list[str]]:
    return list(found.train.names), list(found.val.names)


def said(found: VideoSet) -> str:
    return "\n".join(map(str, found.remarks))


def test_a_split_column_is_the_split_and_test_stays_out(root: Path) -> None:
    lines = rows("train", "val", "test", "train")
    found = find_videos(DataConfig(write(root / "l.csv", "path,label,split", *lines)), 0)
    train, val = sides(found)
    assert train == [f"{name}/{i}.mp4" for name in "abc" for i in (0, 3)]
    assert val == ["a/1.mp4", "b/1.mp4", "c/1.mp4"]
    told = "3 of 12 videos, of split test, are neither trained nor validated on; they are scored"
    assert told in said(found) and "left out" not in said(found)
    assert found.was_split and not found.drawn


def test_a_fold_does_not_score_the_rows_of_test(root: Path) -> None:
    table = write(root / "l.csv", "path,label,split", *rows("train", "val", "test", "train"))
    told = said(find_videos(DataConfig(table), 0, part=Part(2, 1)))
    assert "3 of 12 videos, of split test, are in no fold; they are scored once, by the" in told
    assert "at the end" not in told
    told = said(find_videos(DataConfig(table), 0, part=Part(2, "final")))
    assert "3 videos, of split test, are scored once, after the last epoch" in told


def test_without_val_rows_some_of_train_are_kept_and_test_stays_out(root: Path) -> None:
    lines = rows("train", "train", "train", "test")
    found = find_videos(DataConfig(write(root / "l.csv", "path,label,split", *lines)), 0)
    train, val = sides(found)
    assert len(train) == 6 and len(val) == 3 and not any("/3" in name for name in train + val)
    assert "no row has split val" in said(found) and found.drawn


def test_a_group_column_keeps_groups_whole(root: Path) -> None:
    lines = rows("x", "x", "y", "z")
    table = write(root / "l.csv", "path,label,group", *lines)
    for seed in range(4):
        found = find_videos(DataConfig(table), seed)
        assert not set(found.train.group_names()) & set(found.val.group_names())
        assert set(found.val.group_names()) < {"x", "y", "z"}
    with pytest.raises(UserError, match="--data.group-pattern .* has a column group already"):
        find_videos(DataConfig(table, group_pattern=r"\d"), 0)


def test_groups_on_both_sides_of_a_given_split_are_told(root: Path) -> None:
    lines = rows("train,g1", "val,g1", "train,g2", "val,g3")
    found = find_videos(DataConfig(write(root / "l.csv", "path,label,split,group", *lines)), 0)
    assert "3 of 6 validation videos are of a group that is among the training" in said(found)


def test_classes_of_test_rows_alone_are_none_of_the_model(root: Path) -> None:
    lines = rows("train", "val", "train", "val")
    lines[8:] = [line.rpartition(",")[0] + ",test" for line in lines[8:]]
    found = find_videos(DataConfig(write(root / "l.csv", "path,label,split", *lines)), 0)
    assert found.classes == ("a", "b")
    assert "4 of 12 videos, of split test, are left out" in said(found)
    assert "left out are the classes 'c', which no others have" in said(found)
    assert set(found.train.labels.tolist()) == set(found.val.labels.tolist()) == {0, 1}
    lines[0] = lines[0].rpartition(",")[0] + ",test"  # one more, of a class that others have
    found = find_videos(DataConfig(write(root / "l.csv", "path,label,split", *lines)), 0)
    assert "5 of 12 videos" in said(found) and "1 of them are scored once" in said(found)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (("test", "test", "test", "test"), "no row has split train"),
        (("val", "val", "val", "val"), "no row has split train"),
    ],
)
def test_a_split_that_cannot_train(root: Path, cells: tuple[str, ...], words: str) -> None:
    table = write(root / "l.csv", "path,label,split", *rows(*cells))
    with pytest.raises(UserError, match=words):
        find_videos(DataConfig(table), 0)


def test_a_class_without_training_rows_is_an_error(root: Path) -> None:
    lines = rows("train", "val", "train", "val")
    lines[8:] = [line.rpartition(",")[0] + ",val" for line in lines[8:]]
    with pytest.raises(UserError, match="no training video of class 'c'"):
        find_videos(DataConfig(write(root / "l.csv", "path,label,split", *lines)), 0)


def test_a_val_split_of_which_nothing_can_be_read_is_not_drawn_anew(root: Path) -> None:
    for name in "abc":
        (root / name / "1.mp4").write_text("no video")
    table = write(root / "l.csv", "path,label,split", *rows("train", "val", "train", "train"))
    with pytest.raises(UserError, match="no video of split val can be read"):
        find_videos(DataConfig(table), 0)


def test_split_csv_of_a_run_gives_the_same_videos(root: Path, tmp_path: Path) -> None:
    first = find_videos(DataConfig(root), 3)
    write_split(tmp_path / "split.csv", first.classes, first.train, first.val)
    again = find_videos(DataConfig(tmp_path / "split.csv", videos=root), 0)
    assert sides(again) == sides(first) and again.fingerprint() == first.fingerprint()
    assert again.train.groups is None  # each has its own, as before


def test_relative_paths_start_from_the_given_folder(root: Path, tmp_path: Path) -> None:
    lines = rows("train", "val", "train", "val")
    (tmp_path / "lists").mkdir()
    table = write(tmp_path / "lists" / "l.csv", "path,label,split", *lines)
    with pytest.raises(UserError, match=r"do not exist: line 2.*\(12 in all\).*--data.videos"):
        find_videos(DataConfig(table), 0)
    found = find_videos(DataConfig(table, videos=root), 0)
    assert found.train.path(0) == root / "a" / "0.mp4" and len(found.train) == 6
    with pytest.raises(UserError, match="--data.videos .*is for a CSV"):
        find_videos(DataConfig(root, videos=root), 0)
    with pytest.raises(UserError, match="--data.videos .*no such folder"):
        find_videos(DataConfig(table, videos=tmp_path / "nowhere"), 0)


def test_absolute_paths_lead_anywhere(root: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    lines = [f"{root}/{line}" for line in rows("train", "val", "train", "val")]
    found = find_videos(
        DataConfig(write(tmp_path / "lists" / "l.csv", "path,label,split", *lines)), 0
    )
    assert found.train.path(0) == root / "a" / "0.mp4"
    assert found.val.names[0] == f"{root}/a/1.mp4"


def test_relative_paths_that_leave_the_folder_are_refused(root: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    os.symlink(root / "a", inner / "folder")
    os.symlink(root / "a" / "0.mp4", inner / "file.mp4")
    (inner / "own.mp4").write_bytes((root / "b" / "0.mp4").read_bytes())
    os.symlink("own.mp4", inner / "stays.mp4")
    for path in ("../videos/a/0.mp4", "folder/0.mp4", "file.mp4", "folder/../../videos/a/0.mp4"):
        table = write(inner / "l.csv", "path,label", f"{path},a", "own.mp4,b")
        with pytest.raises(UserError, match=r"line 2: .*(not below|leaves .* by a link)"):
            find_labelled_videos(table, "data", "ab")
    table = write(inner / "l.csv", "path,label", "stays.mp4,a", "own.mp4,b")
    assert len(find_labelled_videos(table, "data", "ab").videos) == 2


def test_validation_may_lack_classes_and_is_told_so(root: Path, tmp_path: Path) -> None:
    val = tmp_path / "val"
    shutil.copytree(root / "b", val / "b")
    (val / "c").mkdir()
    data = DataConfig(train_dir=root, val_dir=val)
    found = find_videos(data, 0)
    assert found.classes == ("a", "b", "c") and found.val.labels.tolist() == [1] * 4
    assert "no validation video of 2 of 3 classes, 'a', 'c': they are scored" in said(found)
    (val / "a").mkdir()
    (val / "a" / "bad.mp4").write_text("no video")
    assert "2 of 3 classes, 'a', 'c'" in said(find_videos(data, 0))
    (val / "d").mkdir()
    with pytest.raises(UserError, match="--data.val-dir .*lacks, 'd'"):
        find_videos(data, 0)


def test_equal_files_across_the_split_are_counted(root: Path, tmp_path: Path) -> None:
    val = Path(shutil.copytree(root, tmp_path / "val"))
    for name in "abc":
        for number in (1, 2, 3):
            (root / name / f"{number}.mp4").unlink()
        (val / name / "0.mp4").rename(val / name / "renamed.mov")
    os.utime(val / "a" / "renamed.mov", (1, 1))
    data = DataConfig(train_dir=root, val_dir=val)
    assert "3 of 12 validation videos are training videos too, byte for byte" in said(
        find_videos(data, 0)
    )
    for name in "abc":
        (val / name / "renamed.mov").unlink()
    assert "byte for byte" not in said(find_videos(data, 0))


def test_the_digest_is_that_of_the_whole_content(root: Path) -> None:
    path = root / "a" / "0.mp4"
    before = probe_file(path).digest
    content = path.read_bytes()
    other = path.with_name("other.mp4")
    other.write_bytes(content)
    assert probe_file(other).digest == before > 0
    other.write_bytes(content + b"\0")
    assert probe_file(other).digest != before


def test_integer_classes_sort_as_numbers_and_a_run_keeps_its_own_order(root: Path) -> None:
    for old, new in (("a", "10"), ("b", "2"), ("c", "1")):
        (root / old).rename(root / new)
    found = find_videos(DataConfig(root), 0)
    assert found.classes == ("1", "2", "10")
    assert [found.classes[v.label] for v in found.val] == [v.name.split("/")[0] for v in found.val]
    before = find_videos(DataConfig(root), 0, order=["1", "10", "2"])
    assert before.classes == ("1", "10", "2") and before.fingerprint() != found.fingerprint()
    assert [before.classes[v.label] for v in before.val] == [v.name[:-6] for v in before.val]
    changed = find_videos(DataConfig(root), 0, order=["1", "2", "x"])
    assert changed.classes == ("1", "2", "10")


def test_what_is_no_video_is_counted(root: Path) -> None:
    for name in ("x.jpg", "y.JPG", "z.txt", ".hidden.jpg", "Thumbs.db", ".DS_Store", "noending"):
        (root / "a" / name).write_text("x")
    write(root / "README.md", "x")
    write(root / "labels.csv", "x")
    write(root / "poster.png", "x")
    line = f"{root}: 5 files skipped: .jpg (2), .txt (1), .png (1), others (1)"
    found = said(find_videos(DataConfig(root), 0))
    assert sorted(found.replace(":", ",").split(", ")) == sorted(line.replace(":", ",").split(", "))


def test_names_of_classes_are_told(root: Path) -> None:
    (root / "a").rename(root / "Turn left")
    (root / "b").rename(root / "turn_left")
    data = DataConfig(root)
    found = said(find_videos(data, 0))
    assert "classes 'Turn left' and 'turn_left' (4 and 4 videos) differ only in" in found
    assert "--data.flip false" in found
    assert "--data.flip" not in said(find_videos(replace(data, flip=False), 0))


def test_an_evaluation_takes_one_split(root: Path) -> None:
    table = write(root / "l.csv", "path,label,split", *rows("train", "val", "test", "test"))
    classes = ("c", "a", "b")
    found = find_labelled_videos(table, "data", classes)
    assert found.split == "test" and len(found.videos) == 6
    assert [classes[v.label] for v in found.videos] == [v.name[0] for v in found.videos]
    for split, count in (("train", 3), ("val", 3), ("test", 6), ("all", 12)):
        assert len(find_labelled_videos(table, "data", classes, split=split).videos) == count  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--split val: .* has no column split"):
        find_labelled_videos(root, "data", classes, split="val")


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"frame_rate": 30.0}, True), ({}, False),
        ({"frame_rate": 30.0, "sampling": "uniform"}, False),
    ],
)  # fmt: skip
def test_times_of_frames_are_kept_where_clips_are_cut_by_them(
    settings: dict[str, Any], kept: bool, tmp_path: Path
) -> None:
    """What every process gets; the mean rate, which is told of, is there in any case."""
    varying = KINDS["H.264 variable frame rate"]
    for place, frames in (("a/1", 8), ("a/2", 9), ("b/1", 10), ("b/2", 11)):
        path = tmp_path / f"{place}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_video(path, replace(varying, frames=frames))
    found = find_videos(DataConfig(root=tmp_path, val_fraction=0.5, **settings), seed=0)
    for table in (found.train, found.val):
        infos = [probe_file(video.path) for video in table]
        assert [bool(table.info(row).uneven_times) for row in range(2)] == [kept] * 2
        expected = [(info.frames - 1) / float(np.asarray(info.times())[-1]) for info in infos]
        assert table.rates().tolist() == pytest.approx(expected, rel=1e-12)
        assert [table.info(row).mean_rate() for row in range(2)] == table.rates().tolist()
