"""The lists of public datasets, as miniatures of their layouts; and FiftyOne."""

import json
from pathlib import Path
from typing import Any

import pytest

from slowfast_dist.config.errors import UserError
from tests.helpers.importing import imported


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_kinetics_takes_cut_clips_first_and_reads_ids_with_odd_characters(tmp_path: Path) -> None:
    text = ("label,youtube_id,time_start,time_end,split,is_cc\n"
            "playing chess,-a_b_c,10,20,train,0\nplaying chess,abc,7,17,validate,0\n"
            "playing chess,abc,8,17,eval,0\n"
            "walking,-lost,1,11,test,0\n")  # fmt: skip
    videos = {"playing chess/-a_b_c_000010_000020.mp4": (10.0, 30.0), "abc.mp4": (300.0, 30.0)}
    found = imported(write(tmp_path / "train.csv", text), videos)
    assert found.format == "kinetics"
    assert found.rows == [("playing chess/-a_b_c_000010_000020.mp4", "playing chess", "", ""),
                          ("abc.mp4", "playing chess", "7.000", "17.000")]  # fmt: skip
    text = "\n".join([*found.lines, *found.said])
    assert found.column("split") == ["train", "val"]
    assert "1 row changed: its split 'eval' is neither train, val nor test" in text
    assert "1 row dropped: it has no split while others are val or test" in text
    assert "1 row dropped: no such video below --videos (train.csv, line 5: -lost" in text
    assert "classes that are lost with all their rows: 1: walking" in text


EPIC = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
    "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,"
    "\"['door']\",[3]\n"
)


def test_epic_kitchens_takes_timestamps_and_the_label_that_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "EPIC_100_train.csv", EPIC)
    videos = {"P01/videos/P01_01.MP4".replace("MP4", "mp4"): (100.0, 59.94)}
    found = imported(path, videos)
    assert found.format == "epic-kitchens"
    assert found.rows == [("P01/videos/P01_01.mp4", "open", "0.140", "3.370")]
    assert found.column("subject") == ["P01"] and "the verb is the label" in "\n".join(found.said)
    assert imported(path, videos, tier=("verb", "noun")).rows[0][1] == "open door"


def test_charades_cells_hold_many_actions_or_none(tmp_path: Path) -> None:
    text = ("id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,"
            "length\n"
            'YSKX3,Q2,Kitchen,6,7,Yes,"a; b","x;y",d,c092 11.90 21.20;c147 0.00 32.60,30.5\n'
            "EMPTY,Q2,Kitchen,6,7,Yes,a,x,d,,30.5\n")  # fmt: skip
    videos = {"YSKX3.mp4": (30.5, 30.0), "EMPTY.mp4": (30.5, 30.0)}
    found = imported(write(tmp_path / "Charades_v1_train.csv", text), videos,
                     classes={"c147": "Sitting at a table"})  # fmt: skip
    assert found.format == "charades" and found.column("subject") == ["Q2", "Q2"]
    assert found.rows == [("YSKX3.mp4", "c092", "11.900", "21.200"),
                          ("YSKX3.mp4", "Sitting at a table", "0.000", "30.500")]  # fmt: skip
    text = "\n".join(found.lines)
    assert "its cell actions is empty" in text and "its end is behind the video's" in text


def test_something_something_has_its_template_for_a_label(tmp_path: Path) -> None:
    value = [{"id": "74225", "label": "spinning cube", "template": "Spinning [something] [so]",
              "placeholders": ["cube"]}, {"id": "1"}]  # fmt: skip
    found = imported(write(tmp_path / "something-something-v2-train.json", value),
                     {"74225.webm": (4.0, 12.0), "1.webm": (4.0, 12.0)})  # fmt: skip
    assert found.format == "ssv2"
    assert found.rows == [("74225.webm", "Spinning something so", "", "")]
    assert "1 row dropped: it has no label" in found.lines[0]


def test_activitynet_finds_its_files_with_v_in_front(tmp_path: Path) -> None:
    value = {"version": "VERSION 1.3", "taxonomy": [], "database": {
        "-abc": {"duration": 50.0, "subset": "validation", "url": "x", "resolution": "320x240",
                 "annotations": [{"segment": [1.5, 20.25], "label": "Ballet"}]},
        "tst": {"duration": 50.0, "subset": "testing", "annotations": []},
    }}  # fmt: skip
    found = imported(write(tmp_path / "a.json", value), {"v_-abc.mp4": (50.0, 30.0)})
    assert found.format == "activitynet" and found.column("split") == ["val"]
    assert found.rows == [("v_-abc.mp4", "Ballet", "1.500", "20.250")]
    assert "it has no annotations" in found.lines[0]
    value["database"]["-abc"]["annotations"][0]["segment"] = ["1,5", 2]  # type: ignore[index]
    with pytest.raises(UserError, match=r"video -abc: an annotation has no segment \[start, end\]"):
        imported(write(tmp_path / "a.json", value), {"v_-abc.mp4": (50.0, 30.0)})


def test_fiftyone_frames_count_from_1_with_their_ends(tmp_path: Path) -> None:
    value = {"classes": ["walk", "eat"], "labels": {
        "one": [{"label": 1, "support": [1, 25]}, {"label": "run", "timestamps": [1.5, 2.5]}],
        "two": None,
    }}  # fmt: skip
    found = imported(write(tmp_path / "labels.json", value), {"one.mp4": (10.0, 25.0)})
    assert found.format == "fiftyone"
    assert [row[1:] for row in found.rows] == [
        ("eat", "0.000", "1.000"), ("run", "1.500", "2.500"),
    ]  # fmt: skip
    assert "1 row dropped: it has no detections" in found.lines[0]


def test_fiftyone_samples_with_several_fields_are_asked_about(tmp_path: Path) -> None:
    def detections(label: str) -> dict[str, Any]:
        one = {"_cls": "TemporalDetection", "label": label, "support": [26, 50]}
        return {"_cls": "TemporalDetections", "detections": [one]}

    value = {"samples": [{"filepath": "/x/one.mp4", "events": detections("walk"),
                          "other": detections("eat")}]}  # fmt: skip
    path = write(tmp_path / "samples.json", value)
    with pytest.raises(UserError, match="sample 1: has several fields.*events, other.*--tier"):
        imported(path, {"one.mp4": (10.0, 25.0)})
    found = imported(path, {"one.mp4": (10.0, 25.0)}, tier=("events",))
    assert found.rows == [("one.mp4", "walk", "1.000", "2.000")]
