"""Text in pictures: in a font that has it, as long as there is space, and times as people write
them."""

import pytest

from slowfast_dist.inference.drawing import text
from slowfast_dist.inference.drawing.text import (
    ellipsized,
    font_for,
    format_time,
    printable,
    text_width,
)


def test_names_are_drawn_in_a_font_that_has_them():
    """Where this machine has one: DejaVu Sans has Cyrillic, Pillow's own font has not."""
    if bytes(font_for("ж", 20).getmask("ж")) == bytes(font_for("ж", 20).getmask("\U0010fffe")):
        pytest.skip("this machine has no font with Cyrillic (Debian: fonts-dejavu-core)")
    masks = {bytes(font_for("жяю", 20).getmask(letter)) for letter in "жяю"}
    assert len(masks) == 3


def test_without_fontconfig_names_are_drawn_all_the_same(monkeypatch):
    monkeypatch.setenv("PATH", "")
    text._font_files.cache_clear()
    assert text_width("日本", 21) > 0


def test_a_long_name_loses_its_end():
    name = ellipsized("walking the dog in the park", 20, 120)
    assert name.endswith("…") and name[:4] == "walk" and text_width(name, 20) <= 120
    assert ellipsized("walk", 20, 120) == "walk" and ellipsized("walk", 20, 3) == ""
    assert printable("a\nb\0") == "a b" and printable("\n") == "?"


def test_times_are_written_as_people_do():
    assert [format_time(seconds) for seconds in (0, 59.6, 61, 3599.7, 36000)] == [
        "0:00", "1:00", "1:01", "1:00:00", "10:00:00",
    ]  # fmt: skip
    assert format_time(5.25, 0.1) == "0:05.2" and format_time(59.97, 0.1) == "1:00.0"
    assert format_time(0.04, 0.01) == "0:00.04"
