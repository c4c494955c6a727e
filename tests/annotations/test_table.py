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
    found, remarks = read(tmp_path, "path,label,Camera,,fold\na.mp4,a,1,x,2\nb.mp4,b,2,,3\n")
    assert [row.path for row in found] == ["a.mp4", "b.mp4"]
    [line] = remarks
    assert line.startswith(f"columns 'Camera', 'fold', '(no name)' of {tmp_path}")


def test_a_spreadsheets_empty_columns_are_no_matter(tmp_path: Path) -> None:
    found, remarks = read(tmp_path, "path,label,,\na.mp4,a,,\nb.mp4,b,,,,\n")
    assert [row.label for row in found] == ["a", "b"] and remarks == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label,start,end\na.mp4,a,1.5,2\n", ["line 2", "start 1.5", "whole video", "cut"]),
        ("path,label,END\na.mp4,a,\nb.mp4,b,7\n", ["line 3", "END 7"]),
        ("path,label,start_frame\na.mp4,a,0\n", ["line 2", "start_frame 0"]),
        ("path,label,time_end\na.mp4,a,10\n", ["time_end 10"]),
        ("path,label,Weight\na.mp4,a,0.5\n", ["line 2", "Weight 0.5", "--loss.class-weights"]),
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


@pytest.mark.parametrize("column", ["start", "weight"])
def test_a_column_without_a_value_asks_for_nothing(tmp_path: Path, column: str) -> None:
    found, remarks = read(tmp_path, f"path,label,{column}\na.mp4,a,\nb.mp4,b,\n")
    assert len(found) == 2 and remarks == []


def test_other_encodings_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a CSV in UTF-8"):
        read(tmp_path, "path,label\na.mp4,läuft\n", "utf-16")
