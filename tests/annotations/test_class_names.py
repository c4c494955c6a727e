"""Files of names of classes, in the forms in which people have them."""

from pathlib import Path

import pytest

from slowfast_dist.annotations.class_names import read_numbered_names
from slowfast_dist.config.errors import UserError


@pytest.mark.parametrize("text", [
    "brush_hair\nturn left\n", "0 brush_hair\n1 turn left\n", "1,turn left\n0,brush_hair\n",
    "brush_hair,0\nturn left,1\n", "brush_hair\t0\nturn left\t1\n",
    'id,name\n0,brush_hair\n1,"turn left"\n', '{"brush_hair": 0, "turn left": 1}',
    '{"0": "brush_hair", "1": "turn left"}', '["brush_hair", "turn left"]',
    '{"brush_hair": "0", "turn left": "1"}', '{"classes": ["brush_hair", "turn left"], "x": 1}',
    '{"\\"brush_hair\\"": 0, "\\"turn left\\"": 1}',
])  # fmt: skip
def test_every_form_gives_the_same_names(text: str, tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(text)
    assert read_numbered_names(path) == {"0": "brush_hair", "1": "turn left"}


def test_codes_words_and_numbers_in_names(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("c000 Holding some clothes\nc001 Putting clothes: away\n")
    assert read_numbered_names(path)["c001"] == "Putting clothes: away"
    path.write_text("brush_hair 0\nclap 1\n")
    assert read_numbered_names(path) == {"0": "brush_hair", "1": "clap"}
    path.write_text("take 1\ntake 2\n")
    assert read_numbered_names(path) == {"0": "take 1", "1": "take 2"}


@pytest.mark.parametrize(("text", "why"), [
    ('{"walk": 0', "is no JSON"), ('{"walk": [0]}', "tells no names"), ("[1, 2]", "tells no names"),
    ("[]", "holds no class"), ("", "holds no class"), ("a,1\nb,1\n", "number 1 is there twice"),
    ('{"walk": 1, "run": 1}', "number 1 is there twice"), ('["walk", ""]', "class 1 has no name"),
    ("[" * 100 + "]" * 100, "is no JSON"), ('{"walk": true}', "tells no names"),
])  # fmt: skip
def test_what_tells_no_names_is_refused(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=f"--classes .*: {why}.*; give a text"):
        read_numbered_names(path)
