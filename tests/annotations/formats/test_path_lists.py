"""Lists of paths without a header: UCF101, HMDB51, PySlowFast, MMAction2."""

from pathlib import Path

import pytest

from slowfast_dist.annotations.importing.reading import side_of_name
from slowfast_dist.config.errors import UserError
from tests.helpers.importing import imported

CLIP = (5.0, 25.0)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_ucf101_trusts_the_folder_and_groups_the_people(tmp_path: Path) -> None:
    names = ["Biking/v_Biking_g08_c01.avi", "Biking/v_Biking_g08_c02.avi",
             "Fencing/v_Fencing_g01_c01.avi"]  # fmt: skip
    text = f"{names[0]} 11\n{names[1]} 11\r\n{names[2]} 7\n"
    found = imported(write(tmp_path / "trainlist01.txt", text), dict.fromkeys(names, CLIP))
    assert found.format == "ucf101"
    assert [row[:2] for row in found.rows] == [(name, name.split("/")[0]) for name in names]
    assert found.column("group") == ["Biking_g08", "Biking_g08", "Fencing_g01"]
    found = imported(write(tmp_path / "testlist01.txt", names[0] + "\n"), {names[0]: CLIP})
    assert found.rows == [(names[0], "Biking", "", "")]
    path = write(tmp_path / "trainlist02.txt", "Eat/eat_1.mp4 1\n")
    found = imported(path, {"Eat/eat_1.mp4": CLIP})
    assert found.format == "ucf101" and found.rows[0][1] == "Eat" and found.column("group") == [""]


def test_hmdb51_has_class_and_split_in_name_and_number(tmp_path: Path) -> None:
    text = "a_brush.avi 1 \nb_brush.avi 2 \nc_brush.avi 0 \n"
    videos = {f"brush_hair/{name}_brush.avi": CLIP for name in "abc"}
    found = imported(write(tmp_path / "brush_hair_test_split1.txt", text), videos)
    assert found.format == "hmdb51" and found.column("split") == ["train", "test"]
    assert [row[1] for row in found.rows] == ["brush_hair", "brush_hair"]
    assert "neither part of this split (0)" in found.lines[0]


def test_pyslowfast_lists_may_have_blanks_in_paths(tmp_path: Path) -> None:
    text = "/data/my clips/a b.mp4 3\nsub/c.mp4\t12\n"
    found = imported(write(tmp_path / "train.csv", text), {"a b.mp4": CLIP, "sub/c.mp4": CLIP},
                     classes={"3": "walk"})  # fmt: skip
    assert found.format == "pyslowfast"
    assert found.rows == [("a b.mp4", "walk", "", ""), ("sub/c.mp4", "12", "", "")]


def test_mmaction2_videos_of_several_classes(tmp_path: Path) -> None:
    found = imported(write(tmp_path / "list.txt", "a.mp4 1 5 7\nb.mp4 -1\n"),
                     {"a.mp4": CLIP, "b.mp4": CLIP})  # fmt: skip
    assert [row[1] for row in found.rows] == ["1"]
    said = "\n".join([*found.said, *found.lines])
    assert "2 rows dropped: its whole video has a row already" in said and "--classes FILE" in said
    assert "its class is below 0" in said


def test_mmaction2_folders_of_frames(tmp_path: Path) -> None:
    text = "x/folder 12 100 4\nplain 100 3\n"
    path = write(tmp_path / "rawframes.txt", text)
    videos = {"x/folder 12.mp4": CLIP, "x/folder.mp4": CLIP, "plain.mp4": CLIP}
    found = imported(path, videos, frame_rate=25.0, format="mmaction2")
    assert ("plain.mp4", "3", "", "") in found.rows  # the video that the frames are of
    assert ("x/folder.mp4", "4", "0.480", "4.480") in found.rows
    found = imported(path, {"x/folder": CLIP, "plain": CLIP, "plain.mp4": CLIP},
                     frame_rate=25.0, format="mmaction2")  # fmt: skip
    assert ("plain", "3", "", "") in found.rows  # the folder of images itself
    assert ("x/folder", "4", "0.480", "4.480") in found.rows
    assert not found.lines


def test_a_line_of_another_kind_is_named(tmp_path: Path) -> None:
    text = "a.mp4 1\n" * 30 + "here is no number.mp4\n"
    with pytest.raises(UserError, match="line 31: 'here is no number.mp4' is not a path"):
        imported(write(tmp_path / "list.txt", text), {"a.mp4": CLIP})


@pytest.mark.parametrize(("name", "side"), [
    ("trainlist01", "train"), ("testlist03", "test"), ("EPIC_100_validation", "val"),
    ("kinetics_train_val", ""), ("something-something-v2-validation", "val"), ("training", "train"),
    ("strain", ""), ("annotations", ""),
])  # fmt: skip
def test_the_side_that_a_file_s_name_tells(name: str, side: str) -> None:
    assert side_of_name(name) == side
