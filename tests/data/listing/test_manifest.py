"""Which videos a folder or a CSV holds, and one clear line for everything that is wrong with it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.listing import labelled_as, labelled_as_trained, usable
from slowfast_dist.data.listing.manifest import list_videos

FLAG = "data.root"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Empty files of the given names below a folder, which is returned."""

    def make(*names: str, folder: str = "videos") -> Path:
        root = tmp_path / folder
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        root.mkdir(exist_ok=True)
        return root

    return make


Make = Callable[..., Path]


def names(root: Path, **options: Any) -> list[tuple[str, str]]:
    listing = list_videos(root, FLAG, **options)
    return [(listing.classes[video.label], video.name) for video in listing.videos]


def problem(root: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        list_videos(root, FLAG, **options)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("--data.")
    return message


def test_class_folders_with_any_name_and_depth(make: Make) -> None:
    root = make(
        "zoë läuft/a.mp4",
        "v1.0 final/deep/er/b.MKV",
        "走る/c.webm",
        "Archery/d.avi",
        "Archery/c.Mp4",
    )
    listing = list_videos(root, FLAG)
    assert listing.classes == ("Archery", "v1.0 final", "zoë läuft", "走る")
    assert names(root) == [
        ("Archery", "Archery/c.Mp4"),
        ("Archery", "Archery/d.avi"),
        ("v1.0 final", "v1.0 final/deep/er/b.MKV"),
        ("zoë läuft", "zoë läuft/a.mp4"),
        ("走る", "走る/c.webm"),
    ]
    assert all(video.path == root / video.name for video in listing.videos)
    assert all(video.group == video.name for video in listing.videos)


def test_hidden_and_other_files_are_not_videos(make: Make) -> None:
    root = make("a/1.mp4", "a/._1.mp4", "a/.trash/2.mp4", "a/1.txt", "a/mp4", "b/1.mp4",
                ".git/x.mp4", "README.md")  # fmt: skip
    assert names(root) == [("a", "a/1.mp4"), ("b", "b/1.mp4")]


def test_links_are_followed_but_not_in_circles(make: Make) -> None:
    store = make("pool/1.mp4", "2.mp4", folder="store")
    root = make("a/1.mp4")
    (root / "b").symlink_to(store / "pool")
    (root / "a" / "linked.mp4").symlink_to(store / "2.mp4")
    (root / "a" / "gone.mp4").symlink_to(store / "nowhere.mp4")  # the probe says why it is left out
    (root / "a" / "up").symlink_to(root / "a")
    found = [name for _, name in names(root)]
    assert found == ["a/1.mp4", "a/gone.mp4", "a/linked.mp4", "b/1.mp4"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((), ["no class folder", "at least two"]),
        (("a/1.mp4",), ["only one class", "'a'"]),
        (("1.mp4", "2.mp4"), ["2 videos lie in the folder itself"]),
        (("a/1.mp4", "b/1.mp4", "stray.mov"), ["1 videos lie in the folder itself"]),
        (("a/1.mp4", "b/1.mp4", "empty/x.txt"), ["no video in class folder 'empty'", "move"]),
        (("a/x.txt", "b/x.txt"), ["no video in any", "'a', 'b'"]),
        (("train/a/1.mp4", "val/a/1.mp4"), ["'train', 'val'", "--data.train-dir"]),
    ],
)
def test_a_wrong_folder_is_one_clear_line(
    make: Make, files: tuple[str, ...], words: list[str]
) -> None:
    root = make(*files)
    message = problem(root)
    assert message.startswith(f"--{FLAG} {root}: ")
    assert all(word in message for word in words), message


def test_one_class_is_enough_for_an_evaluation(make: Make) -> None:
    assert names(make("a/1.mp4"), single_class=True) == [("a", "a/1.mp4")]
    message = problem(make(folder="nothing"), single_class=True)
    assert "no class folder" in message and "two" not in message


def test_the_labels_of_a_model(make: Make) -> None:
    listing = list_videos(make("b/1.mp4", "d/1.mp4", "d/2.mp4"), FLAG)
    labelled = labelled_as(listing, ("d", "a", "b"), FLAG, Path("videos"))
    assert labelled.classes == ("d", "a", "b")
    found = [(video.name, video.label) for video in labelled.videos]
    assert found == [("b/1.mp4", 2), ("d/1.mp4", 0), ("d/2.mp4", 0)]
    with pytest.raises(UserError, match=r"^--data.root videos: .*'d'.*'a', 'b'"):
        labelled_as(listing, ("a", "b"), FLAG, Path("videos"))


def test_neither_folder_nor_csv(make: Make) -> None:
    root = make("video.mp4")
    assert "no such folder" in problem(root / "nowhere")
    assert "give a folder of class folders" in problem(root / "video.mp4")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8(make: Make) -> None:
    root = make("a/1.mp4", "b/1.mp4")
    Path(os.fsdecode(os.fsencode(root) + b"/b/caf\xe9.mp4")).touch()
    assert "not UTF-8; rename" in problem(root)


def test_groups(make: Make) -> None:
    root = make("hug/s1_seq2_a.mp4", "hug/s2_seq2_b.mp4", "hug/odd.mp4", "kick/s1_seq2_c.mp4")

    def groups(pattern: str) -> list[str]:
        return [video.group for video in list_videos(root, FLAG, pattern).videos]

    assert groups(r"seq\d+") == ["hug/odd.mp4", "seq2", "seq2", "seq2"]
    one, first, second, third = groups(r"s(\d)_seq(\d)")  # the parts together, across classes
    assert one == "hug/odd.mp4" and first == third != second
    assert groups(r"(x)?seq\d")[1:] == ["", "", ""]  # a part that took no part in the match


@pytest.mark.parametrize(("pattern", "word"), [("seq(", "regular expression"), ("nope", "none of")])
def test_a_wrong_pattern(make: Make, pattern: str, word: str) -> None:
    message = problem(make("a/1.mp4", "b/1.mp4"), group_pattern=pattern)
    assert message.startswith(f"--data.group-pattern '{pattern}'") and word in message


def csv_file(root: Path, text: str, encoding: str = "utf-8") -> Path:
    path = root / "list.csv"
    path.write_text(text, encoding)
    return path


def test_csv_of_path_and_label(make: Make) -> None:
    root = make("x/1.mp4", "x/2, zwei.mp4", "y/3.mp4", "4.mp4")
    text = (
        "id,label,path\r\n"
        f"0,läuft,{root / 'x/1.mp4'}\r\n"  # absolute, but in the folder
        '1,läuft,"x/2, zwei.mp4"\r\n'
        "2, steht ,y/../4.mp4\r\n\r\n"
        "3,steht,./y/3.mp4\r\n"
    )
    table = csv_file(root, text, "utf-8-sig")
    expected = [
        ("läuft", "x/1.mp4"),
        ("läuft", "x/2, zwei.mp4"),
        ("steht", "4.mp4"),
        ("steht", "y/3.mp4"),
    ]
    assert names(table) == expected
    assert all(video.path == root / video.name for video in list_videos(table, FLAG).videos)


def test_csv_by_a_relative_path(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make("x/1.mp4", "2.mp4")
    csv_file(root, f"path,label\n{root / 'x/1.mp4'},a\n2.mp4,b\n")
    monkeypatch.chdir(root / "x")
    listing = list_videos(Path("../list.csv"), FLAG)
    assert [video.name for video in listing.videos] == ["x/1.mp4", "2.mp4"]
    assert all(video.path.exists() for video in listing.videos)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("where,class\n1.mp4,a\n", ["columns path,label"]),
        ("", ["columns path,label"]),
        ("path,label\n", ["at least two"]),
        ("path,label\n1.mp4,a\n2.mp4,a\n", ["only one class", "'a'"]),
        ("path,label\n1.mp4,a\n2.mp4,\n", ["line 3", "empty"]),
        ("path,label\n1.mp4,a\n2.mp4\n", ["line 3", "empty"]),
        ("path,label\n1.mp4,a\n./1.mp4,b\n", ["line 3", "line 2", "delete"]),
        ("path,label\n../list.mp4,a\n2.mp4,b\n", ["line 2", "not below"]),
        ("path,label\n/etc/nothing.mp4,a\n2.mp4,b\n", ["line 2: /etc/nothing.mp4", "exist"]),
        ("path,label\n1.mp4,a\nno.mp4,b\nnor.mp4,b\n", ["line 3: no.mp4, line 4: nor.mp4"]),
        ("path,label\n1.mp4,a\n2.mp4,b\nx/y,b\n", ["line 4: x/y"]),
    ],
)
def test_a_wrong_csv_is_one_clear_line(make: Make, text: str, words: list[str]) -> None:
    table = csv_file(make("1.mp4", "2.mp4"), text)
    message = problem(table)
    assert message.startswith(f"--{FLAG} {table}")
    assert all(word in message for word in words), message


def test_a_csv_in_another_encoding(make: Make) -> None:
    table = csv_file(make("1.mp4"), "path,label\n1.mp4,läuft\n", "latin-1")
    assert "UTF-8" in problem(table)


def test_validation_may_lack_classes_but_not_have_others(make: Make) -> None:
    train = list_videos(make("a/1.mp4", "b/1.mp4", "c/1.mp4", folder="train"), "data.train-dir")
    root = make("c/1.mp4", "a/x.txt", folder="val")
    val = list_videos(root, "data.val-dir", single_class=True, may_be_empty=True)
    labelled = labelled_as_trained(val, train, root)
    assert labelled.classes == ("a", "b", "c")
    assert [(video.name, video.label) for video in labelled.videos] == [("c/1.mp4", 2)]
    make("d/1.mp4", folder="val")
    val = list_videos(root, "data.val-dir", single_class=True, may_be_empty=True)
    with pytest.raises(UserError, match=r"--data.val-dir .*--data.train-dir lacks, 'd'"):
        labelled_as_trained(val, train, root)


def test_what_cannot_be_read_is_dropped_unless_a_class_would_be_empty(make: Make) -> None:
    root = make("a/1.mp4", "a/2.mp4", "b/1.mp4")
    listing = list_videos(root, FLAG)
    kept = usable(listing, np.array([False, True, True]), FLAG, root)
    assert [video.name for video in kept.videos] == ["a/2.mp4", "b/1.mp4"]
    assert kept.classes == ("a", "b")
    with pytest.raises(UserError, match=r"--data.root .*class 'b'"):
        usable(listing, np.array([True, True, False]), FLAG, root)
