"""The order of classes, and names that are doubtful."""

import unicodedata

import pytest

from slowfast_dist.annotations.labels import label_remarks, sort_labels, swap_table


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "2", "1", "0"], ["0", "1", "2", "10"]),
        (["1", "-1", "0"], ["-1", "0", "1"]),
        (["07", "7", "10", "8"], ["07", "7", "8", "10"]),
        (["10", "2", "wave"], ["10", "2", "wave"]),  # not all integers: as text, as before
        (["2.5", "10"], ["10", "2.5"]),
        (["²", "1"], ["1", "²"]),
    ],
)
def test_integers_sort_as_numbers_where_all_are(names: list[str], order: list[str]) -> None:
    assert sort_labels(names) == tuple(order)


def kinds(*names: str, flip: bool = True) -> list[str]:
    return [remark.kind for remark in label_remarks(dict.fromkeys(names, 3), flip)]


@pytest.mark.parametrize(
    "pair",
    [
        ("Wave", "wave"), ("wave", "wave "), (" wave", "wave"), ("HUG", "hug"),
        ("hand shake", "hand_shake"), ("hand-shake", "Hand Shake"), ("STRASSE", "straße"),
        (unicodedata.normalize("NFC", "läuft"), unicodedata.normalize("NFD", "läuft")),
    ],
)  # fmt: skip
def test_names_that_a_person_reads_as_one(pair: tuple[str, str]) -> None:
    assert kinds(*pair, "other") == ["similar-classes"]
    [remark] = label_remarks({pair[0]: 12, pair[1]: 1, "other": 5}, flip=False)
    shown = dict(zip(sorted(pair), [12, 1] if pair[0] < pair[1] else [1, 12], strict=True))
    assert all(repr(name) in remark.what for name in pair)
    assert f"({' and '.join(map(str, shown.values()))} videos)" in remark.what


@pytest.mark.parametrize(("one", "other"), [("1", "-1"), ("a", "b"), ("hug", "hugs"), ("a1", "a2")])
def test_names_that_differ(one: str, other: str) -> None:
    assert kinds(one, other) == []


@pytest.mark.parametrize(
    "name",
    [
        "left", "turn_left", "Turn-Right", "turnLeft", "TurnLEFT", "LEFT TURN", "left2", "2right",
        "clockwise", "turns counterclockwise", "anti-clockwise", "AntiClockwise", "ccw", "leftward",
    ],
)  # fmt: skip
def test_a_class_that_a_mirror_changes(name: str) -> None:
    assert kinds(name, "walk") == ["mirrored-classes"]
    assert kinds(name, "walk", flip=False) == []


@pytest.mark.parametrize("name", ["bright", "leftover", "theft", "copyright", "upright", "cleft"])
def test_words_that_only_hold_left_or_right(name: str) -> None:
    assert kinds(name, "walk") == []


def test_the_remedy_is_the_flag() -> None:
    [remark] = label_remarks({"turn left": 3, "turn right": 4, "walk": 5}, flip=True)
    assert "--data.flip-pairs" in remark.remedy and remark.remedy.endswith("--data.flip false")
    assert "2 classes" in remark.what


def test_pairs_of_a_mirror_are_no_remark_and_names_may_have_a_colon() -> None:
    names = ("turn left", "turn right", "walk:left", "walk:right", "stop")
    counts = dict.fromkeys(names, 3)
    pairs = ("turn left:turn right", "walk:left:walk:right")
    assert list(label_remarks(counts, True, pairs)) == []
    [remark] = label_remarks(counts, True, pairs[:1])
    assert "2 classes" in remark.what and "walk:left" in remark.what
    table = swap_table(pairs, names)
    assert table is not None and table.tolist() == [1, 0, 3, 2, 4]
    assert swap_table((), names) is None
