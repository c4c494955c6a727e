"""VIA 3: files of the layout of its own exporters."""

import json
from pathlib import Path
from typing import Any

import pytest

from slowfast_dist.annotations.formats.via import write_project
from slowfast_dist.annotations.formats.writing import Found, VideoSegments
from slowfast_dist.config.errors import UserError
from tests.helpers.importing import imported

VIDEOS = {"a.mp4": (10.0, 25.0), "b.mp4": (10.0, 25.0)}

COORDINATES = """# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# Notes:
# - temporal coordinate of [1.349,2.741] denotes a temporal segment
# SHAPE_ID = {"POINT":1,"RECTANGLE":2}
# ATTRIBUTE = {"1":{"aname":"action","type":4,"options":{"0":"walk","1":"eat"}}}
# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata
"1_a","[""a.mp4""]",0,"[1.124,5.31493]","[]","{""1"":""1""}"
"1_b","[""a.mp4""]",0,"[2.41892]","[2,1,2,3,4]","{""1"":""0""}"
"1_c","[""b.mp4"",""a.mp4""]",0,"[]","[]","{""1"":""0""}"
"1_d","[""b.mp4""]",0,"[3]","[]","{""1"":""0""}"
"1_e","[""b.mp4""]",0,"[3,4]","[]","{}"
"""

SEGMENTS_CSV = """# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# CSV_HEADER = metadata_id,file_list,temporal_segment_start,temporal_segment_end,metadata
"1_a","[""a.mp4""]",1.5,2.25,"{""TEMPORAL-SEGMENTS"":""walk, fast""}"
"1_b","[""http://host/x/b.mp4?t=1""]",0,0.5,"{""TEMPORAL-SEGMENTS"":""eat""}"
"""


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_the_csv_with_coordinates(tmp_path: Path) -> None:
    found = imported(write(tmp_path / "v.csv", COORDINATES), VIDEOS)
    assert found.format == "via"
    assert found.rows == [("a.mp4", "eat", "1.124", "5.31493"), ("b.mp4", "walk", "", "")]
    text = "\n".join([*found.lines, *found.said])
    assert "1 row dropped: it is a region of a picture" in text and "line 8" in text
    assert "1 row dropped: it is a moment" in text and "1 row dropped: it has no label" in text
    assert "of several files in one view the first is taken" in text


def test_the_csv_of_temporal_segments(tmp_path: Path) -> None:
    found = imported(write(tmp_path / "v.csv", SEGMENTS_CSV), VIDEOS)
    assert found.rows == [
        ("a.mp4", "walk, fast", "1.500", "2.250"), ("b.mp4", "eat", "0.000", "0.500"),
    ]  # fmt: skip


def project() -> dict[str, Any]:
    return {
        "project": {"vid_list": ["1"]}, "config": {},
        "attribute": {
            "1": {"aname": "action", "type": 4, "options": {"0": "walk", "1": "eat"}},
            "2": {"aname": "who", "type": 1, "options": {}},
            "3": {"aname": "seen", "type": 2, "options": {"0": "hand", "1": "cup"}},
        },
        "file": {"1": {"fid": "1", "fname": "a.mp4", "type": 4, "loc": 1, "src": ""}},
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": []}},
        "metadata": {
            "m1": {"vid": "1", "flg": 0, "z": [1, 2.5], "xy": [], "av": {"1": "0", "2": "Kim"}},
            "m2": {"vid": "1", "flg": 0, "z": [3, 4], "xy": [], "av": {"3": "0,1"}},
            "m3": {"vid": "2", "flg": 0, "z": [3, 4], "xy": [], "av": {"1": "0"}},
        },
    }  # fmt: skip


def test_of_several_attributes_one_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "v.json", project())
    with pytest.raises(UserError, match=r"metadata m1: has several attributes.*--tier NAME"):
        imported(path, VIDEOS)
    found = imported(path, VIDEOS, tier=("action",))
    assert found.rows == [("a.mp4", "walk", "1.000", "2.500")]
    text = "\n".join(found.lines)
    assert "it has no label" in text and "its view has no file" in text
    boxes = imported(path, VIDEOS, tier=("seen",)).rows
    assert [row[1] for row in boxes] == ["hand", "cup"]


@pytest.mark.parametrize(("old", "new", "message"), [
    ('"{""1"":""1""}"', "oops", "line 7: column 'metadata' holds 'oops', which is no JSON"),
    ("# CSV_HEADER = metadata_id,file_list", "# CSV_HEADER = metadata_id,files",
     "no column for the video: looked for file_list"),
])  # fmt: skip
def test_mistakes_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        imported(write(tmp_path / "v.csv", COORDINATES.replace(old, new)), VIDEOS)


def test_a_written_project_gives_the_same_segments(tmp_path: Path) -> None:
    segments = [Found(0.0, 1.234, "walk", 0.9), Found(1.234, 2.5, "eat", 0.8)]
    video = VideoSegments("/x/a.mp4", 10.0, 25.0, ["eat", "walk"], segments)
    found = imported(write(tmp_path / "v.json", write_project(video)), VIDEOS)
    assert found.rows == [("a.mp4", "walk", "0.000", "1.234"), ("a.mp4", "eat", "1.234", "2.500")]
