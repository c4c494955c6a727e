"""Label Studio: exports of the documented layout; what is written, its own SDK checks."""

import json
from pathlib import Path
from typing import Any

import pytest

from slowfast_dist.annotations.formats.label_studio import write_tasks
from slowfast_dist.annotations.formats.writing import Found, VideoSegments
from slowfast_dist.config.errors import UserError
from tests.helpers.importing import imported

VIDEOS = {"clip.mp4": (10.0, 30.0), "sub/other.mp4": (10.0, 30.0)}

CONFIG = """<View><Choices name="kind" toName="video"><Choice value="in"/></Choices>
<TimelineLabels name="timelineLabels" toName="video"><Label value="walk"/><Label value="eat"/>
</TimelineLabels>
<Video name="video" value="$video" frameRate="$fps"/>
</View>"""


def timeline(start: Any, end: Any, *labels: str, name: str = "timelineLabels") -> dict[str, Any]:
    return {"id": "x", "from_name": name, "to_name": "video", "type": "timelinelabels",
            "value": {"ranges": [{"start": start, "end": end}],
                      "timelinelabels": list(labels)}}  # fmt: skip


def task(*results: dict[str, Any], video: str = "/data/upload/1/ab12cd34-clip.mp4",
         **more: Any) -> dict[str, Any]:  # fmt: skip
    annotation = {"id": 1, "was_cancelled": False, "result": list(results)}
    return {"id": 7, "data": {"video": video, **more}, "predictions": [],
            "annotations": [annotation]}  # fmt: skip


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_frames_of_a_timeline_count_at_24_a_second_unless_told(tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", [task(timeline(1, 24, "walk"))])
    found = imported(path, VIDEOS)
    assert found.format == "label-studio"
    assert found.rows == [("clip.mp4", "walk", "0.000", "1.000")]
    said = "\n".join(found.said)
    assert "24 a second, the default of Label Studio's <Video>" in said and "--frame-rate" in said
    assert "from frame 1, their ends included" in said
    assert imported(path, VIDEOS, frame_rate=30.0).rows[0][3] == "0.800"
    exclusive = imported(path, VIDEOS, frame_rate=10.0, frame_base=0, frame_end="exclusive")
    assert exclusive.rows[0][2:] == ("0.100", "2.400")


def test_the_rate_is_taken_from_the_task_or_from_regions_that_tell_it(tmp_path: Path) -> None:
    box = {"type": "videorectangle", "value": {"framesCount": 250, "duration": 10.0, "labels": []}}
    tasks = [task(timeline(1, 30, "walk"), fps=30), task(timeline(1, 25, "eat"), box)]
    found = imported(write(tmp_path / "e.json", tasks), VIDEOS)
    assert [row[3] for row in found.rows] == ["1.000", "1.000"]
    assert "1 row dropped: regions of type videorectangle" in found.lines[0]
    assert "24 a second" not in "\n".join(found.said)


def test_classes_of_whole_videos_and_paths_of_local_files(tmp_path: Path) -> None:
    choice = {"type": "choices", "from_name": "kind", "value": {"choices": ["walk", "eat"]}}
    tasks = [task(choice, video="/data/local-files/?d=store/sub/other.mp4")]
    found = imported(write(tmp_path / "e.json", tasks), VIDEOS)
    assert found.rows == [("sub/other.mp4", "walk", "", "")]
    assert found.lines[0].startswith("1 row dropped: its whole video has a row already")
    assert "videos with several classes become as many rows" in "\n".join(found.said)


def test_skipped_and_repeated_annotations(tmp_path: Path) -> None:
    value = task(timeline(1, 24, "walk"))
    value["annotations"] += [
        {"was_cancelled": True, "result": [timeline(1, 48, "eat")]},
        {"was_cancelled": False, "result": [timeline(1, 24, "walk"), timeline(25, 48, "eat")]},
    ]
    value["predictions"] = [{"result": [timeline(1, 99, "eat")]}]
    found = imported(write(tmp_path / "e.json", [value]), VIDEOS)
    assert [row[1:] for row in found.rows] == [
        ("walk", "0.000", "1.000"), ("eat", "1.000", "2.000"),
    ]  # fmt: skip
    text = "\n".join([*found.lines, *found.said])
    assert "was_cancelled" in text and "it is there twice" in text
    assert "predictions of models are not taken" in text and "1 tasks have several" in text


def test_one_of_several_controls_is_chosen(tmp_path: Path) -> None:
    tasks = [task(timeline(1, 24, "walk"), timeline(1, 24, "left", name="side"))]
    message = r"several controls: timelineLabels \(1\), side.*--tier NAME"
    with pytest.raises(UserError, match=message):
        imported(write(tmp_path / "e.json", tasks), VIDEOS)
    found = imported(write(tmp_path / "e.json", tasks), VIDEOS, tier=("side",))
    assert [row[1] for row in found.rows] == ["left"]
    assert "its from_name is none of --tier" in found.lines[0]


def test_the_minimal_export(tmp_path: Path) -> None:
    tasks = [
        {"id": 1, "video": "/data/upload/1/ab12cd34-clip.mp4", "annotator": 1, "annotation_id": 2,
         "timelineLabels": [{"ranges": [{"start": 25, "end": 48}], "timelinelabels": ["eat"]}]},
        {"id": 2, "video": "other.mp4", "annotator": 1, "annotation_id": 3, "kind": "walk",
         "created_at": "2024", "lead_time": 3.5},
    ]  # fmt: skip
    found = imported(write(tmp_path / "e.json", tasks), VIDEOS)
    assert found.format == "label-studio"
    assert found.rows == [("clip.mp4", "eat", "1.000", "2.000"), ("sub/other.mp4", "walk", "", "")]


def test_seconds_of_an_audio_tag_beside_the_video(tmp_path: Path) -> None:
    result = {"type": "labels", "value": {"start": 1.25, "end": 2.5, "labels": ["walk"]}}
    found = imported(write(tmp_path / "e.json", [task(result)]), VIDEOS)
    assert found.rows == [("clip.mp4", "walk", "1.250", "2.500")]


@pytest.mark.parametrize("ranges", [[{"start": None, "end": 2}], [{"start": "x", "end": "nan"}]])
def test_ranges_without_numbers_are_counted(ranges: Any, tmp_path: Path) -> None:
    broken = timeline(1, 2, "walk")
    broken["value"]["ranges"] = ranges
    found = imported(write(tmp_path / "e.json", [task(broken, timeline(1, 24, "eat"))]), VIDEOS)
    assert [row[1] for row in found.rows] == ["eat"]
    assert "only one of start and end" in found.lines[0]


def test_deep_nesting_ends_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text("[" * 200_000)
    with pytest.raises(UserError, match="nested too deep|no whole JSON"):
        imported(path, VIDEOS)


@pytest.mark.parametrize("minimal", [False, True])
def test_what_its_own_converter_exports(minimal: bool, tmp_path: Path) -> None:
    converter = pytest.importorskip("label_studio_sdk.converter", reason="needs label-studio-sdk")
    kind = {"id": "c", "from_name": "kind", "to_name": "video", "type": "choices",
            "value": {"choices": ["in"]}}  # fmt: skip
    value = task(timeline(1, 24, "walk"), timeline(25, 48, "eat"), kind)
    times = dict.fromkeys(("created_at", "updated_at"), "2024-01-01T00:00:00Z")
    value["annotations"][0] |= {"completed_by": 1, "lead_time": 2.5, **times}
    path = write(tmp_path / "e.json", [value | times])
    tool = converter.Converter(CONFIG, str(tmp_path))
    export = tool.convert_to_json_min if minimal else tool.convert_to_json
    export(str(path), str(tmp_path / "out"), is_dir=False)
    [written] = (tmp_path / "out").iterdir()
    found = imported(written, VIDEOS, tier=("timelineLabels",))
    assert found.format == "label-studio"
    assert [row[1:] for row in found.rows] == [
        ("walk", "0.000", "1.000"), ("eat", "1.000", "2.000"),
    ]  # fmt: skip
    assert imported(written, VIDEOS, tier=("kind",)).rows == [("clip.mp4", "in", "", "")]


@pytest.mark.parametrize("fps", [30.0, 30000 / 1001])
def test_written_tasks_give_the_same_frames(fps: float, tmp_path: Path) -> None:
    frames = [(0, 45), (45, 46), (46, 200)]
    found = [Found(a / fps, b / fps, "walk", 0.5) for a, b in frames]
    video = VideoSegments("/x/clip.mp4", 10.0, fps, ["walk"], found)
    path = tmp_path / "t.json"
    path.write_text(write_tasks(video))
    rows = imported(path, {"clip.mp4": (10.0, fps)}).rows
    assert [(round(float(a) * fps), round(float(b) * fps)) for *_, a, b in rows] == frames


def test_the_sdk_accepts_written_tasks() -> None:
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="needs label-studio-sdk")
    video = VideoSegments("/x/clip.mp4", 10.0, 30.0, ["walk", "eat"],
                          [Found(0.0, 1.5, "walk", 0.9), Found(1.5, 3.0, "eat", 0.8)])  # fmt: skip
    [written] = json.loads(write_tasks(video))
    interface = sdk.LabelInterface(CONFIG)
    interface.validate()
    assert interface.validate_task({"data": written["data"]}) in (True, [])
    for prediction in written["predictions"]:
        assert interface.validate_prediction(prediction) is True
    wrong = json.loads(json.dumps(written["predictions"][0]).replace("walk", "fly"))
    assert interface.validate_prediction(wrong) is not True
