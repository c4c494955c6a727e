"""CVAT: XML of the documented layout, as its exporter writes it."""

from pathlib import Path

import pytest

from slowfast_dist.config.errors import UserError
from tests.helpers.importing import imported

VIDEOS = {"clip.mp4": (4.0, 10.0), "other.mp4": (4.0, 10.0)}

META = """<meta><task><id>3</id><name>t</name><size>20</size><mode>interpolation</mode>
<start_frame>0</start_frame><stop_frame>19</stop_frame><frame_filter>{filter}</frame_filter>
<labels><label><name>walk</name></label></labels><source>clip.mp4</source></task></meta>"""


def box(frame: int, outside: int = 0, action: str = "") -> str:
    inner = f'<attribute name="action">{action}</attribute>' if action else ""
    return (f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" xtl="1" ytl="1" '
            f'xbr="2" ybr="2" z_order="0">{inner}</box>')  # fmt: skip


def write(path: Path, body: str, meta: str = META.format(filter="")) -> Path:
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
                    f"{meta}{body}</annotations>")  # fmt: skip
    return path


def test_tracks_last_until_they_are_outside_or_the_video_ends(tmp_path: Path) -> None:
    """A shape of one frame has two boxes; after outside, frames are absent; frames count from 0."""
    tracks = (
        f'<track id="0" label="walk">{box(0)}{box(1)}{box(2)}{box(3, 1)}'
        f"{box(10)}{box(12, 1)}</track>"
        f'<track id="1" label="jump">{box(5)}{box(6, 1)}</track>'
        f'<track id="2" label="run">{"".join(box(frame) for frame in range(35, 40))}</track>'
    )
    found = imported(write(tmp_path / "annotations.xml", tracks), VIDEOS)
    assert found.format == "cvat"
    assert found.rows == [
        ("clip.mp4", "walk", "0.000", "0.300"), ("clip.mp4", "walk", "1.000", "1.200"),
        ("clip.mp4", "jump", "0.500", "0.600"), ("clip.mp4", "run", "3.500", "4.000"),
    ]  # fmt: skip


def test_an_attribute_that_changes_is_the_label_if_asked_for(tmp_path: Path) -> None:
    boxes = box(0, action="walk") + box(1, action="walk") + box(2, action="eat") + box(4, 1, "eat")
    path = write(tmp_path / "annotations.xml", f'<track id="0" label="person">{boxes}</track>')
    assert imported(path, VIDEOS, tier=("action",)).rows == [
        ("clip.mp4", "walk", "0.000", "0.200"), ("clip.mp4", "eat", "0.200", "0.400"),
    ]  # fmt: skip
    assert imported(path, VIDEOS).rows == [("clip.mp4", "person", "0.000", "0.400")]


def test_the_last_frame_of_a_task_with_a_step_lasts_as_long(tmp_path: Path) -> None:
    track = f'<track id="0" label="walk">{box(0)}{box(5)}{box(10)}</track>'
    path = write(tmp_path / "annotations.xml", track, META.format(filter="step=5"))
    assert imported(path, VIDEOS).rows == [("clip.mp4", "walk", "0.000", "1.500")]


def test_tags_of_frames_in_a_row_are_a_segment(tmp_path: Path) -> None:
    def image(number: int, inner: str) -> str:
        name = f"frame_{number:06d}"
        return f'<image id="{number}" name="{name}" width="2" height="2">{inner}</image>'

    tag = '<tag label="walk" source="manual"></tag>'
    photo = '<image id="5" name="photos/x.jpg"><tag label="walk"/></image>'
    images = [image(0, tag), image(1, tag + '<tag label="eat"/>'), image(2, ""), image(3, tag),
              image(4, box(4)), photo]  # fmt: skip
    found = imported(write(tmp_path / "annotations.xml", "".join(images)), VIDEOS)
    assert sorted(found.rows) == [
        ("clip.mp4", "eat", "0.100", "0.200"), ("clip.mp4", "walk", "0.000", "0.200"),
        ("clip.mp4", "walk", "0.300", "0.400"),
    ]  # fmt: skip
    text = "\n".join(found.lines)
    assert "it has shapes and no tag" in text and "it is a picture and no frame of a video" in text


def test_a_project_s_tasks_have_their_own_videos(tmp_path: Path) -> None:
    meta = "<meta><project><tasks>" + "".join(
        f"<task><id>{number}</id><source>{name}</source></task>"
        for number, name in ((1, "clip.mp4"), (2, "other.mp4"))
    ) + "</tasks></project></meta>"  # fmt: skip
    track = f'<track id="0" label="walk" task_id="2">{box(0)}{box(1, 1)}</track>'
    found = imported(write(tmp_path / "annotations.xml", track, meta), VIDEOS)
    assert found.rows == [("other.mp4", "walk", "0.000", "0.100")]
    with pytest.raises(UserError, match="export the tasks one by one"):
        untold = track.replace(' task_id="2"', "")
        imported(write(tmp_path / "annotations.xml", untold, meta), VIDEOS)


def test_the_export_of_a_job_is_known_by_its_own_name(tmp_path: Path) -> None:
    meta = "<meta><job><id>4</id><size>10</size><mode>interpolation</mode></job></meta>"
    track = f'<track id="0" label="walk">{box(0)}{box(2, 1)}</track>'
    found = imported(write(tmp_path / "clip.xml", track, meta), VIDEOS)
    assert found.rows == [("clip.mp4", "walk", "0.000", "0.200")]
    assert "names no video (a job's export)" in "\n".join(found.said)


def test_frames_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    track = f'<track id="9" label="walk">{box(0).replace("0", "x", 1)}</track>'
    with pytest.raises(UserError, match="track 9: frame 'x' is no number"):
        imported(write(tmp_path / "annotations.xml", track), VIDEOS)
