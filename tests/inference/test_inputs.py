"""What the words of a ``predict`` command line stand for, on real folders."""

import os
import time
from pathlib import Path

import pytest

from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.inputs import find_inputs
from tests.helpers.permissions import as_ordinary_user, closed_folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(*names: str | bytes) -> None:
    for name in map(os.fsdecode, names):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def paths(*words: str) -> list[str]:
    return [str(given.path) for given in find_inputs(words).files]


def mistake(*words: str) -> str:
    with pytest.raises(UserError) as error:
        find_inputs(words)
    return str(error.value)


def test_a_folder_is_all_videos_below_it_sorted(here: Path) -> None:
    put("v/b.mp4", "v/a/z.MOV", "v/a/y.mkv", "v/a.avi", "v/notes.txt", "v/.hidden.mp4",
        "v/.git/x.mp4", "v/c.mp4/inside.webm", "v/noending")  # fmt: skip
    expected = ["v/a.avi", "v/a/y.mkv", "v/a/z.MOV", "v/b.mp4", "v/c.mp4/inside.webm"]
    assert paths("v") == paths("v/") == expected


def test_a_named_file_is_taken_whatever_its_ending(here: Path) -> None:
    put("clip", "notes.txt", ".hidden.mp4")
    assert paths("notes.txt", "clip", ".hidden.mp4") == ["notes.txt", "clip", ".hidden.mp4"]


@pytest.mark.parametrize("name", ["0", "a[1].mp4", "*", "rtsp:/camera", "**"])
def test_a_path_that_exists_wins(here: Path, name: str) -> None:
    put(f"{name}/x.mp4", "a1.mp4", "other/y.mp4")
    word = name.replace("rtsp:/", "rtsp://")
    assert paths(word) == [f"{name}/x.mp4"]


@pytest.mark.parametrize(
    "word", ["0", "12", "rtsp://host/stream", "HTTP://host:80/a?b=[1]*", "https://h", "udp://@:5000"]
)
def test_a_live_source(here: Path, word: str) -> None:
    found = find_inputs([word])
    assert (found.live, found.files) == (word, ())


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("v/*.mp4", ["v/a.mp4", "v/b.mp4"]),
        ("v/?.m[pk]?", ["v/a.mp4", "v/b.mp4", "v/c.mkv"]),
        ("v/*", ["v/a.mp4", "v/b.mp4", "v/c.mkv", "v/d/e.mp4", "v/d/f/g.mp4"]),
        ("v/**", ["v/a.mp4", "v/b.mp4", "v/c.mkv", "v/d/e.mp4", "v/d/f/g.mp4"]),
        ("**/*.mp4", ["top.mp4", "v/a.mp4", "v/b.mp4", "v/d/e.mp4", "v/d/f/g.mp4"]),
        ("**/**/d/**/*.mp4", ["v/d/e.mp4", "v/d/f/g.mp4"]),
        ("./v/../*.mp4", ["top.mp4"]),
        ("v//d/./*/*", ["v/d/f/g.mp4"]),
        ("v/.h*", ["v/.hidden.mp4"]),
    ],
)
def test_a_glob(here: Path, pattern: str, expected: list[str]) -> None:
    put("top.mp4", "v/a.mp4", "v/b.mp4", "v/c.mkv", "v/d/e.mp4", "v/d/f/g.mp4", "v/n.txt",
        "v/.hidden.mp4", "v/.d/x.mp4")  # fmt: skip
    found = [os.path.normpath(path) for path in paths(pattern)]
    assert found == expected
    absolute = find_inputs([os.path.join(here, pattern)])
    assert [os.path.relpath(given.path) for given in absolute.files] == expected


def test_a_file_is_predicted_once_by_whatever_name(here: Path) -> None:
    put("v/a.mp4", "v/b.mp4")
    os.symlink("a.mp4", "v/link.mp4")
    os.symlink("v", "w")
    found = find_inputs(["v/b.mp4", "w", "v/*.mp4", "./v/../v/a.mp4", str(here / "v/a.mp4")])
    assert [str(given.path) for given in found.files] == ["v/b.mp4", "w/a.mp4"]
    assert found.repeated == 7


def test_links_in_circles_come_to_an_end(here: Path) -> None:
    """With two of them, a walk that only counts links takes 2 to the 40 steps."""
    put("v/a/x.mp4")
    for name in ("one", "two", "three"):
        os.symlink("..", f"v/a/{name}")
        os.symlink(".", f"v/{name}")
    os.symlink("self.mp4", "v/self.mp4")
    start = time.process_time()
    assert paths("v") == ["v/a/x.mp4", "v/self.mp4"]
    assert paths("**/x.mp4") == paths("v/**/**/x.mp4") == ["v/a/x.mp4"]
    assert paths("v/self.mp4") == ["v/self.mp4"]  # what is wrong with it is for the reader to say
    assert time.process_time() - start < 2


def test_names_that_are_no_text(here: Path) -> None:
    names = [b"v/line\nbreak.mp4", b"v/\xff\xfe.mp4", "v/видео 手.mp4".encode(), b"v/\x1b[31m.mp4"]
    put(*names)
    assert sorted(os.fsencode(path) for path in paths("v")) == sorted(names)
    assert sorted(os.fsencode(path) for path in paths("v/*.mp4")) == sorted(names)
    assert [os.fsencode(path) for path in paths(os.fsdecode(names[1]))] == [names[1]]


def test_large_globs_take_no_time(here: Path) -> None:
    for folder in range(10):
        put(*(f"v/{folder}/{number}.mp4" for number in range(200)))
    start = time.process_time()
    assert len(paths("**/*.mp4")) == len(paths("v")) == 2000
    put("v/" + "a" * 200 + ".mp4")
    assert "matches nothing" in mistake("v/" + "a*" * 60 + "b.mp4")
    assert "matches nothing" in mistake("*" * 100_000 + "x")
    assert time.process_time() - start < 4


def test_what_is_not_there(here: Path) -> None:
    put("v/notes.txt", "a.mp4")
    assert mistake("b.mp4").startswith("INPUT b.mp4: no such file or folder: give a video")
    assert mistake("a.mp4", "b.mp4").startswith("INPUT b.mp4: no such")
    assert mistake("v").startswith("INPUT v: no video below this folder (1 file skipped: .txt (1))")
    assert ".mp4" in mistake("v") and ".mxf" in mistake("v")
    assert mistake("w/*.mp4").startswith("INPUT w/*.mp4: this glob matches nothing")
    assert "matches only what is no video, as v/notes.txt" in mistake("v/*")
    assert "give the path without file" in mistake("file:///tmp/a.mp4")
    assert mistake("a.mp4", "0") == "INPUT 0: is a live source: give it alone"
    assert mistake("", "a.mp4").startswith("INPUT : no such file")
    assert "no such file" in mistake("a\0b") and "no such file" in mistake("-1")
    assert "no such file" in mistake("x" * 5000) and "no such file" in mistake("a.mp4/b.mp4")


def test_what_may_not_be_read() -> None:
    """A closed folder costs what lies in it, and is named; a path into one cannot be known."""
    with closed_folder("y.mp4") as closed:
        video = closed.parent / "a" / "x.mp4"
        video.parent.mkdir()
        video.touch()

        def listed() -> str:
            return repr([(g.path.name, g.reason) for g in find_inputs([str(closed.parent)]).files])

        def named() -> str:
            try:
                return repr(find_inputs([str(closed / "y.mp4")]))
            except UserError as error:
                return str(error)

        reason = "the folder cannot be read (Permission denied)"
        assert as_ordinary_user(listed) == repr([("x.mp4", None), ("closed", reason)])
        assert as_ordinary_user(named) == (
            f"INPUT {closed}/y.mp4: Permission denied: change its permissions"
        )
