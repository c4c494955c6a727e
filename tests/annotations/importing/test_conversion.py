"""Times are made those of the video: from frames, cut, and no more than there are."""

from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.annotations.importing.columns import Columns
from slowfast_dist.annotations.importing.conversion import Facts, Table, convert
from slowfast_dist.annotations.importing.rows import Notes, Segment
from slowfast_dist.config.errors import UserError
from tests.helpers.importing import listed

UNEVEN = np.array([0.0, 0.1, 0.133, 0.4, 1.0])
"""Seconds of the frames of a video that a phone might make; it ends at 1.2 s."""


def run(
    *segments: Segment, facts: Facts | str | None = None, notes: Notes | None = None,
    point_seconds: float | None = None, frame_rate: float | None = None,
) -> Table:  # fmt: skip
    columns = Columns()
    for segment in segments:
        columns.add(segment, "file.csv", segment.video, segment.label)
        columns.seen_labels.add(segment.label)
    known = facts if facts is not None else Facts(1.2, lambda: UNEVEN)
    every = ["", *[known] * (len(columns.videos) - 1)]
    return convert(columns, every, notes or Notes(), point_seconds, frame_rate)


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("count", [1, 2, 5])
def test_frames_come_back_from_the_seconds_that_are_written(first: int, count: int) -> None:
    behind = min(5, first + count)
    found = run(Segment(1, "a", "x", first, behind, True), Segment(2, "a", "y", 0.0, 1.0))
    inside = (found.start[0] <= UNEVEN) & (found.end[0] > UNEVEN)
    assert np.flatnonzero(inside).tolist() == list(range(first, behind))


@pytest.mark.parametrize("fps", [30000 / 1001, 59.94, 24.0, 1000 / 33])
def test_frames_of_even_rates_come_back_through_the_file(fps: float) -> None:
    from slowfast_dist.annotations.importing.writing import seconds

    times = np.arange(500) / fps
    facts = Facts(500 / fps, lambda: times)
    spans = [(n, n + 1 + n % 7) for n in range(490)]
    found = run(*[Segment(n + 1, "a", "x", a, b, True) for n, (a, b) in enumerate(spans)],
                facts=facts)  # fmt: skip
    for (a, b), start, end in zip(spans, found.start, found.end, strict=True):
        first, last = float(seconds(start)), float(seconds(end))
        assert np.flatnonzero((first <= times) & (times < last)).tolist() == list(range(a, b))


def test_frames_of_a_rate_that_is_given_are_no_longer_the_video_s() -> None:
    found = run(Segment(1, "a", "x", 5, 10, True), frame_rate=10.0)
    assert (found.start[0], found.end[0]) == (0.5, 1.0)


def test_what_cannot_be_in_the_video_is_cut_or_dropped_and_counted() -> None:
    notes = Notes()
    found = run(
        Segment(1, "a", "x", 0.2, 5.0), Segment(2, "a", "x", -1.0, 0.5),
        Segment(3, "a", "x", -2.0, -1.0), Segment(4, "a", "x", 0.5, 0.2),
        Segment(5, "a", "x", 0.5), Segment(6, "a", "x", 3.0, 4.0),
        Segment(7, "a", "x", 0.2, 1.2011), Segment(8, "a", "x", 0.2, 5.0),
        Segment(9, "a", "whole"), notes=notes,
    )  # fmt: skip
    assert found.rows.tolist() == [0, 1, 8]
    assert found.end[:2].tolist() == [1.2, 0.5] and found.start[:2].tolist() == [0.2, 0.0]
    assert np.isnan(found.start[2]) and np.isnan(found.end[2])
    text = "\n".join(notes.lines())
    for line in (
        "2 rows changed: its end is behind the video's and is cut",
        "1 row changed: it starts before", "1 row dropped: it ends before its video starts",
        "1 row dropped: it ends before it starts",
        "1 row dropped: it has only one of start and end",
        "1 row dropped: it begins behind the end",
        "2 rows dropped: it is there twice (file.csv, line 7",
    ):  # fmt: skip
        assert line in text
    listed = "".join(notes.listed()).splitlines()
    assert listed[0] == "what,file,where,video,label,why" and len(listed) == 1 + 9


def test_what_a_training_takes_for_the_same_row_is_there_once() -> None:
    notes = Notes()
    found = run(
        Segment(1, "a", "walk", 0.2, 1.0, subject="Kim"),
        Segment(2, "a", "walk", 0.2, 1.0, subject="Lee"),
        Segment(3, "a", "eat", 0.2, 1.0), Segment(4, "a", "eat", 0.2, 1.0000001),
        Segment(5, "a", "walk", 0.3, 0.3000002), Segment(6, "b", "walk"), Segment(7, "b", "eat"),
        Segment(8, "b", "walk"), Segment(9, "b", "walk", 0.2, 1.0), notes=notes,
    )  # fmt: skip
    assert found.rows.tolist() == [0, 2, 5, 8]
    text = "\n".join(notes.lines())
    for line in (
        "1 row dropped: another subject does the same at the same time",
        "2 rows dropped: it is there twice (file.csv, line 4",
        "1 row dropped: its whole video has a row already",
        "1 row dropped: it begins behind the end",
    ):
        assert line in text


@pytest.mark.parametrize("end", [float("inf"), 1e9])
def test_an_end_that_nothing_tells_is_no_row(end: float) -> None:
    notes = Notes()
    found = run(Segment(1, "a", "x", 0.0, end), Segment(2, "a", "x", 0.0, 2.0), notes=notes,
                facts=Facts(float("nan"), lambda: None))  # fmt: skip
    assert found.end.tolist() == [2.0]
    assert "1 row dropped: its end is unknown, or later than 10,000,000 s" in next(notes.lines())


@pytest.mark.parametrize(("sides", "left", "split"), [
    (("train", "val", ""), [0, 1], True), (("train", "", ""), [0, 1, 2], False),
    (("test", "", "test"), [0, 2], True), (("", "", ""), [0, 1, 2], False),
])  # fmt: skip
def test_a_split_has_no_empty_cells(
    sides: tuple[str, ...], left: list[int], split: bool, tmp_path: Path
) -> None:
    notes = Notes()
    columns = Columns()
    for line, side in enumerate(sides):
        segment = Segment(line, "a.mp4", f"class {line % 2}", line / 10, 1.0, split=side)
        columns.add(segment, "file.csv", segment.video, segment.label)
    found = convert(columns, ["", Facts(1.2, lambda: UNEVEN)], notes, None, None)
    assert found.rows.tolist() == left
    for name in ("list.csv", "list.jsonl"):
        assert (listed(columns, found, name).sides is not None) == split
    text = "\n".join([*notes.lines(), *notes.said])
    assert ("it has no split while others" in text) == (len(left) < 3)
    assert ("the column split is left out: 2 rows" in text) == (sides == ("train", "", ""))


def test_unreadable_videos_lose_their_rows() -> None:
    notes = Notes()
    run_ = run(Segment(1, "a", "x", 0.0, 1.0), facts="damaged", notes=notes)
    assert not len(run_.rows) and "1 row dropped: its video cannot be read: damaged" in next(
        notes.lines()
    )
    assert "classes that are lost with all their rows: 1: x" in notes.said


def test_a_video_without_times_has_no_frames_to_count_by() -> None:
    notes = Notes()
    run(Segment(1, "a", "x", 0, 2, True), facts=Facts(float("nan"), lambda: None), notes=notes)
    assert "counts frames and its video tells no times: --frame-rate" in next(notes.lines())


def test_points_at_the_edges_stay_inside() -> None:
    found = run(Segment(1, "a", "x", 0.1, 0.1), Segment(2, "a", "x", 1.1, 1.1), point_seconds=0.5)
    assert found.start.tolist() == pytest.approx([0.0, 0.85])
    assert found.end.tolist() == pytest.approx([0.35, 1.2])


def test_times_of_the_wrong_files_end_the_import() -> None:
    with pytest.raises(UserError, match=r"file.csv, task 3: start 7.5 s is behind the end of a"):
        run(Segment("task 3", "a", "x", 7.5, 8.0), Segment("task 4", "a", "x", 0.1, 0.2),
            Segment("task 5", "a", "x", 9.0, 9.5))  # fmt: skip


def test_the_list_holds_texts_of_any_kind(tmp_path: Path) -> None:
    notes = Notes()
    notes.file = "f.csv"
    notes.drop(3, 'a "reason"', "vid\neo, 1.mp4", "läbel\udce9", "x" * 200_000)
    assert len("".join(notes.listed())) > 200_000
    assert next(notes.lines()).count("\n") == 0
