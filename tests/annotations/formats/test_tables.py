"""Tables by the names of their columns, and the mistakes that people make in them."""

import json
from pathlib import Path
from typing import Any

import pytest

from slowfast_dist.annotations.importing.source import Source
from slowfast_dist.annotations.segments import parse_time
from slowfast_dist.config.errors import UserError
from tests.helpers.importing import imported

VIDEOS = {"a.mp4": (10.0, 25.0), "b.mp4": (20.0, 30.0)}


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize("text", [
    "path,label,start,end,subject\na.mp4,walk,1.5,3,Kim\nb.mp4,eat,0:00:02.250,0:03,Lee\n",
    "\ufeffVideo;Behavior;Start (s);Stop (s);Animal\na.mp4;walk;1.5;3;Kim\nb.mp4;eat;2.25;3;Lee\n",
    "file\tclass\tonset\toffset\tparticipant\n/x/a.mp4\twalk\t1.5\t3\tKim\nb\teat\t2.25\t3\tLee\n",
    'label,note,end_time,start_time,file_name,subject\nwalk,"x, y",3,1.5,a.mp4,Kim\n'
    "eat,,3,2.25,b.mp4,Lee\n",
    "# made by hand\npath,label,start,end,start_frame,subject\na.mp4,walk,1.5,3,9,Kim\n"
    "b.mp4,eat,2.25,3,9,Lee\n",
], ids=["ours", "semicolons", "tabs", "quotes", "comment"])  # fmt: skip
def test_columns_are_found_by_their_names(text: str, tmp_path: Path) -> None:
    found = imported(write(tmp_path / "t.csv", text), VIDEOS)
    assert found.format == "csv"
    assert found.rows == [("a.mp4", "walk", "1.500", "3.000"), ("b.mp4", "eat", "2.250", "3.000")]
    assert found.column("subject") == ["Kim", "Lee"]


def test_frames_in_columns_so_named_are_those_of_the_video(tmp_path: Path) -> None:
    text = "video,action,start_frame,end_frame\na.mp4,walk,0,24\nb.mp4,eat,30,59\n"
    path = write(tmp_path / "t.csv", text)
    rows = [("a.mp4", "walk", "0.000", "1.000"), ("b.mp4", "eat", "1.000", "2.000")]
    found = imported(path, VIDEOS)
    assert found.rows == rows and "--frame-base" in "\n".join(found.said)
    text = "video,action,start,end\na.mp4,walk,1,25\nb.mp4,eat,31,60\n"
    path = write(tmp_path / "t.csv", text)
    assert imported(path, VIDEOS, times="frames", frame_base=1).rows == rows


def test_create_ml_and_other_lists_of_objects(tmp_path: Path) -> None:
    value = [{"video": "a.mp4", "label": "walk", "startTime": 1.5, "endTime": 3},
             {"video": "b.mp4", "label": "eat", "startTime": 0, "endTime": 2.25}]  # fmt: skip
    rows = [("a.mp4", "walk", "1.500", "3.000"), ("b.mp4", "eat", "0.000", "2.250")]
    found = imported(write(tmp_path / "annotations.json", value), VIDEOS)
    assert found.format == "createml" and found.rows == rows
    lines = "".join(json.dumps(entry) + "\n" for entry in value)
    assert imported(write(tmp_path / "annotations.jsonl", lines), VIDEOS).rows == rows


def test_create_ml_may_leave_out_starts_or_ends(tmp_path: Path) -> None:
    value = [{"videoPath": "a.mp4", "label": "walk", "startTime": 1.5}]
    found = imported(write(tmp_path / "annotations.json", value), VIDEOS)
    assert found.rows == [("a.mp4", "walk", "1.500", "10.000")] and found.lines == []
    value = [{"videoPath": "a.mp4", "label": "walk", "endTime": 1.5}]
    found = imported(write(tmp_path / "annotations.json", value), VIDEOS)
    assert found.rows == [("a.mp4", "walk", "0.000", "1.500")]


def test_the_label_of_videofolder_is_asked_for(tmp_path: Path) -> None:
    text = "file_name,caption,prompt\na.mp4,someone walks,x\n"
    path = write(tmp_path / "metadata.csv", text)
    message = "no column for the label.*among file_name, caption, prompt"
    with pytest.raises(UserError, match=message):
        imported(path, VIDEOS)
    found = imported(path, VIDEOS, tier=("caption",))
    assert found.format == "videofolder" and found.rows == [("a.mp4", "someone walks", "", "")]


def test_videofolder_as_json_lines_and_what_datasets_write_of_it(tmp_path: Path) -> None:
    """As Hugging Face's datasets 5.2.0 wrote them; test_real_packages.py makes them anew."""
    line = '{"recorded_file_name":"a.mp4","label":"walk","start":0.3,"end":1.5}\n'
    row = ("a.mp4", "walk", "0.300", "1.500")
    found = imported(write(tmp_path / "metadata.jsonl", line), VIDEOS)
    assert found.format == "videofolder" and found.rows == [row]
    loaded = line.replace('"recorded_file_name":"a.mp4"',
                          r'"video":{"bytes":null,"path":"\/x\/a.mp4"}')  # fmt: skip
    assert imported(write(tmp_path / "again.jsonl", loaded), VIDEOS).rows == [row]
    for name in (r"'C:\\x\\a.mp4'", """ ""it's/a.mp4"" """.strip()):
        cell = f"{{'bytes': None, 'path': {name}}}"
        text = f'video,label,start,end\n"{cell}",walk,0.3,1.5\n'
        assert imported(write(tmp_path / "again.csv", text), VIDEOS).rows == [row]


@pytest.mark.parametrize("path", ["'a', 'b'", "'a' + 1 + 'b'", "'" + "(" * 9999 + "'", "'\\x'"])
def test_a_cell_that_is_no_path_stays_what_it_is(path: str, tmp_path: Path) -> None:
    text = f"video\tlabel\t\t\n{{'bytes': None, 'path': {path}}}\twalk\na.mp4\teat\n"
    found = imported(write(tmp_path / "t.csv", text), VIDEOS)
    assert [row[:2] for row in found.rows] == [("a.mp4", "eat")]


GOOD = "path,label,start,end\na.mp4,walk,1.5,3\nb.mp4,eat,2,3\nb.mp4,eat,3,4\n"


@pytest.mark.parametrize(("text", "message"), [
    (GOOD.replace("end", "finish"), "line 1: no column for the end: looked for end or end_time.*"
                                    "among path, label, start, finish; rename the column"),
    (GOOD.replace("1.5", "one"), "line 2: column 'start' holds 'one', which is no number"),
    (GOOD.replace(",", ";").replace("1.5", "1,5"),
     "line 2: column 'start' holds '1,5', which is no number.*--decimal-comma"),
    (GOOD.replace("1.5", "1,5"), "line 2: 5 cells where the first line names 4 columns.*comma"),
    (GOOD.replace("1.5,3", "375,400").replace("2,3", "600,700").replace("3,4", "800,900"),
     "line 2: start 375 s is behind the end of a.mp4 .10.000 s., as in most rows, and all times "
     "are whole numbers: are they frames. --times frames"),
    (GOOD.replace("1.5,3", "37.5,40").replace("2,3", "60,70").replace("3,4", "80,90"),
     "line 2: start 37.5 s is behind the end of a.mp4.*other videos. give the right --videos"),
    (GOOD.replace(".mp4", ".mov").replace("a.", "x.").replace("b.", "y."),
     "line 2: video 'x.mov' is not below --videos videos, which holds 2 videos.*give --videos"),
    ("", "is empty"), ("version https://git-lfs.github.com/spec/v1\noid x\n", "git lfs pull"),
    ("one\ntwo\n", r"its format is not known \(it begins with 'one'\)"),
    ("path,label\n\"a.mp4,walk\n",
     "line 2: 1 cells where the first line names 2 columns; is a quote"),
])  # fmt: skip
def test_a_mistake_ends_in_one_line_with_row_column_and_remedy(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        imported(write(tmp_path / "t.csv", text), VIDEOS)
    assert "\n" not in str(raised.value)


def test_a_spreadsheet_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"PK\x03\x04\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="is no text in UTF-8.*not as a spreadsheet"):
        imported(tmp_path / "t.xlsx", VIDEOS)


def test_excel_s_unicode_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("path\tlabel\na.mp4\tgähnen\n", encoding="utf-16")
    assert imported(tmp_path / "t.txt", VIDEOS).rows == [("a.mp4", "gähnen", "", "")]


@pytest.mark.parametrize("text", [
    "90:00", "1:30:00", "1:90:00", "0:75", "00:00:75", "7:5.25", "0:01:23.500", "83.5", "2:3:4",
])  # fmt: skip
def test_a_clock_means_the_same_as_in_the_list_of_a_training(text: str) -> None:
    source = Source(Path("t.csv"))
    assert parse_time("90:00") == parse_time("1:30:00") == 5400
    try:
        wanted = parse_time(text)
    except ValueError:
        with pytest.raises(UserError, match="which is no number"):
            source.number(text, 1, "start")
        return
    assert source.number(text, 1, "start") == wanted
    assert source.number(f"-{text}", 1, "start") == -wanted
