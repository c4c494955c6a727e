"""Rows of a CSV as people write one: every column is taken, named as unused, or refused."""

from pathlib import Path

import pytest

from slowfast_dist.annotations.table import Row, Table
from slowfast_dist.config.errors import UserError


def read(folder: Path, text: str, encoding: str = "utf-8") -> tuple[list[Row], list[str]]:
    path = folder / "list.csv"
    path.write_bytes(text.encode(encoding))
    table = Table(path, "data.root")
    return list(table), [str(remark) for remark in table.remarks()]


FULL = [
    Row(2, "a b.mp4", "hug", "train", "s1"),
    Row(3, "c,d;e.mp4", "kick it", "val", ""),
    Row(5, "f.mp4", "hug", "test", "s1"),
]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separators_headers_and_line_ends(
    tmp_path: Path, separator: str, end: str, encoding: str
) -> None:
    lines = [
        ("Path ", " LABEL", '"split"', " Group"),
        ("a b.mp4", " hug ", "Train", "s1"),
        ('"c,d;e.mp4"', "kick it", " val", ""),
        ("", "", "", ""),
        ("f.mp4", "hug", "TEST", "s1"),
    ]
    text = end.join(separator.join(line) for line in lines) + end + end
    found, remarks = read(tmp_path, text, encoding)
    assert found == FULL
    assert remarks == [f"{tmp_path / 'list.csv'}: split 'Train' is taken as train, 'TEST' is taken "
                       "as test"]  # fmt: skip


@pytest.mark.parametrize("word", ["val", "valid", "Validation", "dev"])
def test_usual_words_for_a_split(tmp_path: Path, word: str) -> None:
    found, remarks = read(tmp_path, f"path,label,split\na.mp4,a,{word}\n")
    assert [row.side for row in found] == ["val"]
    assert remarks == [] if word == "val" else f"{word!r} is taken as val" in remarks[0]


def test_columns_that_are_not_known_are_named_once(tmp_path: Path) -> None:
    found, remarks = read(tmp_path, "path,label,Camera,,take\na.mp4,a,1,x,2\nb.mp4,b,2,,3\n")
    assert [row.path for row in found] == ["a.mp4", "b.mp4"]
    [line] = remarks
    assert line.startswith(f"columns 'Camera', 'take', '(no name)' of {tmp_path}")


def test_a_spreadsheets_empty_columns_are_no_matter(tmp_path: Path) -> None:
    found, remarks = read(tmp_path, "path,label,,\na.mp4,a,,\nb.mp4,b,,,,\n")
    assert [row.label for row in found] == ["a", "b"] and remarks == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label,END\na.mp4,a,\nb.mp4,b,7\n", ["line 3", "end 7 without start"]),
        ("path,label,start,end\na.mp4,a,7,\n", ["line 2", "start 7 without end", "both"]),
        ("path,label,start,end\na.mp4,a,7,3\n", ["line 2", "start 7 is not before end 3"]),
        ("path,label,start,end\na.mp4,a,3,3\n", ["line 2", "start 3 is not before end 3"]),
        ('path;label;start;end\na.mp4;a;"1,5";2\n', ["line 2", "start '1,5'", "point: 1.5"]),
        ("path,label,start,end\na.mp4,a,1,5,2,0\n", ["line 2", "6 cells", "point", "no comma"]),
        ("path,label,start,end\na.mp4,a,soon,2\n", ["start 'soon'", "83.5", "H:MM:SS.mmm"]),
        ("path,label,start,end\na.mp4,a,1:75,90\n", ["start '1:75'", "is no time"]),
        ("path,label,start,end\na.mp4,a,-1,2\n", ["start '-1'", "before the beginning"]),
        ("path,label,start,end\na.mp4,a,0,inf\n", ["end 'inf'", "is no time"]),
        ("path,label,start_frame\na.mp4,a,0\n", ["line 2", "start_frame 0", "over the frames a"]),
        ("path,label,time_end\na.mp4,a,10\n", ["time_end 10", "name the column end"]),
        ("path,label,Onset,end\na.mp4,a,1,2\n", ["Onset 1", "name the column start"]),
        ("path,label,Weight\na.mp4,a,0\n", ["line 2", "Weight '0'", "1e-06 to 1e+06"]),
        ("path,label,sample_weight\na.mp4,a,nan\n", ["sample_weight 'nan'", "nothing for 1"]),
        ("path;label;weight\na.mp4;a;1,5\n", ["weight '1,5'", "with a point"]),
        ("path,label,split\na.mp4,a,eval\n", ["line 2", "'eval'", "train, val or test"]),
        ("path,label,split\na.mp4,a,\n", ["line 2", "split is empty"]),
        ("path,label\nb,c.mp4,a\n", ["line 2", "3 cells", "2 columns", "comma", "quotes"]),
        ("path;label\nb;c.mp4;a\n", ["3 cells", "semicolon"]),
        ("path,label,path\na.mp4,a,b.mp4\n", ["'path' is there twice"]),
        ("path,Label,label\na.mp4,a,b\n", ["'label' is there twice"]),
        ("path,label,class\na.mp4,a,b\n", ["'class' is there twice beside 'label'"]),
        ('path,label\n"a.mp4,a\nb.mp4,b\n', ["line 2", "quote"]),
        ("a.mp4,walk\nb.mp4,run\n", ["first line must name the columns path,label", "a.mp4,walk"]),
        ("path label\na.mp4 walk\n", ["first line must name"]),
        ("", ["first line must name"]),
        ("path,label\na.mp4,\n", ["line 2", "empty"]),
    ],
)
def test_what_cannot_be_honoured_is_one_clear_line(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"--data.root {tmp_path / 'list.csv'}") and "\n" not in message
    assert all(word in message for word in words), message


def test_a_first_line_longer_than_a_cell_may_be_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"must name the columns path,label; it is '{80 * 'x'}'$"):
        read(tmp_path, 200_000 * "x")


def test_times_of_segments(tmp_path: Path) -> None:
    text = (
        "path,label,Start (s),stop_s,start_frame,subject\n"
        "a.mp4,wave,12.4,15.1,372,anna\n"
        "a.mp4,wave,0:01:23.500,1:30,,\n"
        "a.mp4,wave,.5,1e1,,ben\n"
        "b.mp4,wave,,,,\n"
    )
    found, remarks = read(tmp_path, text)
    times = [(row.start, row.end, row.subject) for row in found]
    assert times == [(12.4, 15.1, "anna"), (83.5, 90, ""), (0.5, 10, "ben"), (None, None, "")]
    assert len(remarks) == 1 and "'start_frame'" in remarks[0]  # start says it already


def test_json_lines_are_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(
        '{"path": "a.mp4", "label": "wave", "start": 12.4, "end": "0:00:15.1", "split": "val"}\n\n'
        '{"label": 3, "path": "b, c.mp4", "start": null, "other": [1], "split": "train"}\n'
    )
    table = Table(path, "data.root")
    assert list(table) == [
        Row(1, "a.mp4", "wave", "val", "", 12.4, 15.1), Row(3, "b, c.mp4", "3", "train", ""),
    ]  # fmt: skip
    assert ["'other'" in str(remark) for remark in table.remarks()] == [True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"path": "a.mp4"}\n', ["line 1", "label is missing"]),
        ('{"path": "a.mp4", "label": "a"\n', ["line 1", "not JSON", "one object a line"]),
        ('["a.mp4", "a"]\n', ["line 1", "no JSON object"]),
        ('{"path": "a.mp4", "label": [["a"], "b"]}\n', ["line 1", "label is", "text or a number"]),
        ('{"path": "a.mp4", "label": ["a", "b"]}\n', ["line 1", "2 classes", "--loss.name bce"]),
        ('{"path": "a.mp4", "label": "a", "end": 2}\n', ["line 1", "end 2 without start"]),
        ('{"path": "a.mp4", "label": "a", "weight": 2e6}\n', ["weight '2000000.0'", "to 1e+06"]),
    ],
)
def test_mistakes_in_json_lines(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        list(Table(path, "data.root"))
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


@pytest.mark.parametrize("column", ["start", "weight"])
def test_a_column_without_a_value_asks_for_nothing(tmp_path: Path, column: str) -> None:
    found, remarks = read(tmp_path, f"path,label,{column}\na.mp4,a,\nb.mp4,b,\n")
    assert len(found) == 2 and remarks == []


def test_other_encodings_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a CSV in UTF-8"):
        read(tmp_path, "path,label\na.mp4,läuft\n", "utf-16")
