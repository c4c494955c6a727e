"""Which file below a folder the name in an annotation file means."""

from pathlib import Path

import pytest

from slowfast_dist.annotations.importing.videos import Missing, VideoFinder, normal_path

FILES = ["a.mp4", "day1/clip.mp4", "day2/clip.mp4", "day2/only.avi", "x y/v_id-1.webm", "Big.MP4",
         "sub/ab12cd34-named.mp4", "up/up.mp4", "notes/only.txt"]  # fmt: skip


ENDINGS = (".mp4", ".avi", ".webm", ".mov")


def finder() -> VideoFinder:
    return VideoFinder(
        Path("v"), FILES, ["frames/one"], lambda name: name.lower().endswith(ENDINGS)
    )


@pytest.mark.parametrize(("name", "path"), [
    ("a.mp4", "a.mp4"),
    ("/home/kim/a.mp4", "a.mp4"),
    ("C:\\Users\\Kim\\day1\\clip.mp4", "day1/clip.mp4"),
    ("file:///C:/Users/Kim/day2/clip.mp4", "day2/clip.mp4"),
    ("/elsewhere/day2/clip.avi", "day2/clip.mp4"),
    ("only.mov", "day2/only.avi"),
    ("only", "day2/only.avi"),
    ("id-1", "x y/v_id-1.webm"),
    ("http://host/data/upload/1/0123abcd-a.mp4", "a.mp4"),
    ("sub/ab12cd34-named.mp4", "sub/ab12cd34-named.mp4"),
    ("/data/local-files/?d=x%20y/v_id-1.webm", "x y/v_id-1.webm"),
    ("https://host/x%20y/v_id-1.webm?sig=1", "x y/v_id-1.webm"),
    ("big.mp4", "Big.MP4"),
    ("../../up/up.mp4", "up/up.mp4"),
])  # fmt: skip
def test_a_name_is_found(name: str, path: str) -> None:
    assert finder().find(name) == path


def test_what_two_files_fit_is_neither() -> None:
    found = finder().find("clip.mp4")
    assert isinstance(found, Missing)
    assert found.detail == "clip.mp4 is day1/clip.mp4 or day2/clip.mp4"


@pytest.mark.parametrize("name", ["", "b.mp4", "clip2", "/", "https://host"])
def test_what_is_not_there_is_missing(name: str) -> None:
    assert isinstance(finder().find(name), Missing)


def test_how_names_were_found_is_counted_once_a_name() -> None:
    found = finder()
    for name in ("a.mp4", "/x/a.mp4", "/x/a.mp4", "only.mov"):
        found.find(name)
    assert found.how == {"by the name of the file alone": 1, "with another ending": 1}


def test_windows_paths_become_relative() -> None:
    assert normal_path("D:\\a\\..\\b.mp4") == "a/b.mp4"
