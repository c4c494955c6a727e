"""The command import, on real videos: what it writes, what it says, and how it refuses."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.cli.main import main
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.segments import WITHIN, locate
from slowfast_dist.video.probe import probe_file
from tests.helpers.video_kinds import KINDS, Kind, write


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of 2 s at 20 frames a second, and one of uneven times."""
    folder = tmp_path_factory.mktemp("data") / "videos"
    for name in ("one", "day1/two", "day2/two"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    first = write(folder / "one.mp4", Kind(".mp4", rate=20, frames=40))
    os.link(first, folder / "day1/two.mp4")
    os.link(first, folder / "day2/two.mp4")
    write(folder / "uneven.mkv", KINDS["H.264 variable frame rate"])
    (folder / "broken.mp4").write_bytes(b"nothing of a video")
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = 0
    try:
        main(["import", *map(str, words)])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_files_of_several_formats_become_one_list(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, lists = tmp_path / "table.csv", tmp_path / "train.txt"
    table.write_text(
        "file,label,start,end,subject\nC:\\x\\one.avi,walk,0.5,9,Kim\nday1/two.mp4,walk,0,1,Lee\n"
        "two.mp4,walk,0,1,Lee\ngone.mp4,eat,0,1,Lee\nbroken.mp4,eat,0,1,Lee\n"
    )
    lists.write_text("/x/one.mp4 0\n/x/day2/two.mp4 1\n")
    classes = tmp_path / "classes.txt"
    classes.write_text("walk\nrun\n")
    target = tmp_path / "out" / "all.csv"
    code, out, _ = run(capsys, table, lists, "--videos", videos, "--output", target,
                       "--classes", classes)  # fmt: skip
    assert code == 0
    assert rows(target) == [
        {"path": "one.mp4", "label": "walk", "start": "0.500", "end": "2.000",
         "subject": "Kim"},
        {"path": "day1/two.mp4", "label": "walk", "start": "0.000", "end": "1.000",
         "subject": "Lee"},
        {"path": "one.mp4", "label": "walk", "start": "", "end": "", "subject": ""},
        {"path": "day2/two.mp4", "label": "run", "start": "", "end": "", "subject": ""},
    ]  # fmt: skip
    for line in (
        f"{table}: a table with columns for video and label (--format csv)",
        f"{lists}: PySlowFast, or MMAction2's list of videos (--format pyslowfast)",
        "train.txt: rows without a split are train, as its name says",
        "the column split is left out: 2 rows have no split, and all others are train",
        "warning: 1 row dropped: no such video below --videos (table.csv, line 5: gone.mp4",
        "warning: 1 row dropped: several videos below --videos are named so",
        "warning: 1 row dropped: its video cannot be read: ",
        "warning: 1 row changed: its end is behind the video's and is cut to that (table.csv, ",
        "classes that are lost with all their rows: 1: eat",
        f"4 rows of 3 videos and 2 classes: {target}",
        f"train with: python train.py --data.root {target} --data.videos {videos}",
    ):  # fmt: skip
        assert line in out
    listed = rows(tmp_path / "out" / "all.dropped.csv")
    assert sorted(int(row["where"]) for row in listed) == [2, 4, 5, 6]


@pytest.mark.parametrize(("frames", "first", "last"), [((3, 7), 3, 7), ((0, 0), 0, 0)])
def test_frames_of_uneven_times_come_back(
    frames: tuple[int, int], first: int, last: int, videos: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    table = tmp_path / "t.csv"
    table.write_text(f"file,label,start_frame,end_frame\nuneven.mkv,walk,{frames[0]},{frames[1]}\n")
    assert run(capsys, table, "--videos", videos, "--output", tmp_path / "a.csv")[0] == 0
    [row] = rows(tmp_path / "a.csv")
    times = probe_file(videos / "uneven.mkv").times()
    assert times is not None
    inside = [number for number, time in enumerate(times.tolist())
              if float(row["start"]) <= time < float(row["end"])]  # fmt: skip
    assert inside == list(range(first, last + 1))


def test_a_video_ends_where_training_says_it_does(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last frame, from 1.812 s on, is taken to last as long as the median one, .051 s."""
    table, target = tmp_path / "t.csv", tmp_path / "a.csv"
    lines = [f"uneven.mkv,walk,{times}" for times in ("0,1000", "1,1.5", "1.86,1000")]
    table.write_text("\n".join(["file,label,start,end", *lines]))
    assert run(capsys, table, "--videos", videos, "--output", target)[0] == 0
    written = [(row["start"], row["end"]) for row in rows(target)]
    assert written == [("0.000", "1.863"), ("1.000", "1.500"), ("1.860", "1.863")]
    bounds = np.array(written, np.float64)
    found = locate(probe_file(videos / "uneven.mkv"), bounds)
    assert found.states.tolist() == [WITHIN] * 3 and found.seconds == pytest.approx(1.863)


def test_videos_below_the_list_are_named_from_there(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, target = tmp_path / "metadata.csv", videos.parent / "annotations.jsonl"
    table.write_text("file_name,label\none.mp4,walk\n")
    code, out, _ = run(capsys, table, "--videos", videos, "--output", target)
    assert code == 0
    assert json.loads(target.read_text()) == {"path": "videos/one.mp4", "label": "walk"}
    assert "4 videos have no row and are left out" in out
    assert f"train with: python train.py --data.root {target}\n" in out
    assert not target.with_name("annotations.dropped.csv").exists()


def test_nothing_is_written_where_nothing_is_right(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, target = tmp_path / "t.csv", tmp_path / "a.csv"
    table.write_text("file,label,start,end\none.mp4,walk,50,70\none.mp4,walk,80,90\n")
    code, _, err = run(capsys, table, "--videos", videos, "--output", target)
    assert code == 2 and err.count("\n") == 1 and "line 2" in err and "--times frames" in err
    code, _, err = run(capsys, tmp_path / "no.csv", "--videos", videos)
    assert code == 2 and "there is no such file" in err
    code, _, err = run(capsys, table, "--videos", tmp_path / "no")
    assert code == 2 and "--videos" in err and "there is no such folder" in err
    code, _, err = run(capsys, table, "--videos", videos, "--output", tmp_path)
    assert code == 2 and "is a folder" in err
    code, _, err = run(capsys, table, "--videos", videos, "--output", tmp_path / "list.txt")
    assert code == 2 and "list.txt: a training takes lists that end in .csv, .tsv or .jsonl" in err
    code, _, err = run(capsys, table, "--videos", videos, "--format", "elan")
    assert code == 2 and "is no XML" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv"]


def test_names_for_no_class_that_occurs_are_refused(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists, classes, target = tmp_path / "l.txt", tmp_path / "c.txt", tmp_path / "a.csv"
    lists.write_text("one.mp4 7\nday1/two.mp4 1\n")
    classes.write_text('{"walk": 2, "run": 3}')
    words = (lists, "--videos", videos, "--output", target, "--classes", classes)
    code, _, err = run(capsys, *words)
    assert code == 2 and "--classes: names none of the classes in the files, as 7, 1; " in err
    assert not target.exists()
    classes.write_text("walk\nrun\n")
    code, out, _ = run(capsys, *words)
    assert code == 0 and [row["label"] for row in rows(target)] == ["7", "run"]
    assert "classes that --classes has no name for, and that stay as they are: 1: 7" in out


def test_links_to_videos_elsewhere_are_listed_as_a_training_takes_them(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links/a.mp4").symlink_to(videos / "one.mp4")
    (tmp_path / "links/b.mp4").symlink_to("a.mp4")
    os.link(videos / "one.mp4", tmp_path / "links/c.mp4")
    table, target = tmp_path / "t.csv", tmp_path / "list.csv"
    table.write_text("file,label\na.mp4,walk\nb.mp4,run\nc.mp4,run\n")
    assert run(capsys, table, "--videos", tmp_path / "links", "--output", target)[0] == 0
    assert [row["path"] for row in rows(target)] == [
        str(tmp_path / "links/a.mp4"), str(tmp_path / "links/b.mp4"), "links/c.mp4",
    ]  # fmt: skip
    assert len(list_videos(target, "data.root").videos) == 3
