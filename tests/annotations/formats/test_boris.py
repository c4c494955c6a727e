"""BORIS: projects, exports by its own code where it is installed, and exports of old versions."""

import json
from pathlib import Path
from typing import Any

import pytest

from slowfast_dist.annotations.formats.boris import write_project
from slowfast_dist.annotations.formats.writing import Found, VideoSegments
from slowfast_dist.config.errors import UserError
from tests.helpers.boris_exports import boris, export_aggregated, export_tabular, project_of
from tests.helpers.importing import imported

VIDEOS = {"day/a.mp4": (10.0, 25.0), "day/b.mp4": (20.0, 25.0), "c.mp4": (30.0, 25.0)}

RUNNING = ("day/a.mp4", "walk", "2.500", "4.000"), ("day/a.mp4", "walk", "9.000", "10.000"), (
    "day/b.mp4", "walk", "0.000", "2.000"), ("day/b.mp4", "eat", "5.125", "7.000")  # fmt: skip
"""What `project` holds of the first observation: 9 to 12 s is in two files."""


def project() -> dict[str, Any]:
    """Two media files one behind the other, a point, a state that never ends, two players, live."""
    def observation(kind: str, files: dict[str, list[str]], events: list[Any]) -> dict[str, Any]:
        paths = [path for player in files.values() for path in player]
        lengths = {"a": 10.0, "b": 20.0, "c": 30.0}
        media = {
            "length": {path: lengths[Path(path.replace("\\", "/")).stem] for path in paths},
            "fps": dict.fromkeys(paths, 25.0), "hasVideo": dict.fromkeys(paths, True),
            "hasAudio": dict.fromkeys(paths, False), "offset": {"1": 0.0, "2": 3.0},
        }  # fmt: skip
        return {
            "file": files, "type": kind, "date": "2024-05-06T07:08:09", "description": "",
            "time offset": 100.0, "events": events, "observation time interval": [0, 0],
            "independent_variables": {"weather; \"sun\"": "a,b"}, "media_info": media,
            "visualize_spectrogram": False, "close_behaviors_between_videos": False,
        }  # fmt: skip

    files = ["C:\\videos\\day\\a.mp4", "C:\\videos\\day\\b.mp4"]
    states = [[2.5, "Kim", "walk", "", ""], [4, "Kim", "walk", "", ""], [3, "", "call", "", ""],
              [9, "Kim", "walk", "", ""], [12, "Kim", "walk", "", ""],
              [15.125, "", "eat", "fast|left", ""], [16, "", "eat", "slow|left", ""],
              [17, "", "eat", "fast|left", ""]]  # fmt: skip
    return {
        "time_format": "hh:mm:ss", "project_name": "p", "project_date": "2024-05-06T07:08:09",
        "project_description": "", "project_format_version": "7.0",
        "subjects_conf": {"0": {"key": "k", "name": "Kim", "description": ""}},
        "behaviors_conf": {
            str(place): {"type": kind, "key": code[0], "code": code, "description": "",
                         "category": "", "modifiers": {}, "excluded": "", "coding map": ""}
            for place, (code, kind) in enumerate(
                {"walk": "State event", "eat": "State event", "call": "Point event"}.items())
        },
        "observations": {
            "one": observation("MEDIA", {"1": files, "2": []}, states),
            "two": observation("MEDIA", {"1": ["/x/c.mp4"], "2": ["/x/other/a.mp4"]},
                               [[1, "Kim", "walk", "", ""], [29.5, "Kim", "walk", "", ""]]),
        },
        "behavioral_categories": [], "behavioral_categories_conf": {}, "coding_map": {},
        "independent_variables": {"0": {"label": "weather; \"sun\"", "type": "text",
                                        "description": "", "default value": "",
                                        "possible values": ""}},
        "behaviors_coding_map": [], "converters": {},
    }  # fmt: skip


def write(path: Path, value: str | dict[str, Any]) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_project_s_events_become_segments_of_the_right_files(tmp_path: Path) -> None:
    found = imported(write(tmp_path / "p.boris", project()), VIDEOS)
    assert found.format == "boris"
    assert found.rows == [*RUNNING, ("c.mp4", "walk", "1.000", "29.500")]
    assert found.column("subject") == ["Kim", "Kim", "Kim", "", "Kim"]
    text = "\n".join([*found.lines, *found.said])
    assert "1 row changed: it goes on into the next media file" in text
    assert "1 row dropped: START without STOP" in text and "observation 'one', 16.000 s" in text
    assert "1 row dropped: it is a moment without length: --point-seconds" in text
    assert "the video of player #1 is taken" in text and "classes that are lost" in text


def test_point_events_get_seconds_around_them(tmp_path: Path) -> None:
    found = imported(write(tmp_path / "p.boris", project()), VIDEOS, point_seconds=1.0)
    assert ("day/a.mp4", "call", "2.500", "3.500") in found.rows
    assert any("1 row changed: it is a moment and becomes 1 s around it" in line
               for line in found.lines)  # fmt: skip


def test_live_observations_and_unknown_behaviors_are_counted(tmp_path: Path) -> None:
    value = project()
    value["observations"]["live"] = project()["observations"]["two"] | {"type": "LIVE", "file": []}
    value["observations"]["two"]["events"] += [[2, "", "gone", "", ""], ["x", "", "walk"]]
    found = imported(write(tmp_path / "p.boris", value), VIDEOS)
    text = "\n".join(found.lines)
    assert "1 row dropped: its observation has no media file (live, or of pictures)" in text
    assert "1 row dropped: its behavior is not in the ethogram" in text
    assert "1 row dropped: it is an event without a time" in text


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_what_boris_itself_exports_gives_what_its_project_gives(
    ending: str, tmp_path: Path
) -> None:
    value = project()
    opened = project_of(json.dumps(value))
    value["observations"]["one"]["events"].pop(-2)  # of a state that never ends it aggregates none
    paired = project_of(json.dumps(value))
    aggregated, tabular = tmp_path / f"all.{ending}", tmp_path / f"one.{ending}"
    export_aggregated(paired, aggregated)
    export_tabular(opened, "one", tabular)
    found = imported(aggregated, VIDEOS)
    assert found.format == "boris"
    assert sorted(found.rows) == sorted([*RUNNING, ("c.mp4", "walk", "1.000", "29.500")])
    assert "1 row changed: it goes on into the next media file" in "\n".join(found.lines)
    found = imported(tabular, VIDEOS)
    assert sorted(found.rows) == sorted(RUNNING)
    assert "1 row dropped: START without STOP" in "\n".join(found.lines)


AGGREGATED = (
    "Observation id;Observation date;Source;Media duration (s);FPS (frame/s);Subject;Behavior;"
    "Modifier #1;Behavior type;Start (s);Stop (s);Duration (s);Media file name;Comment start\n"
    "o;2024;player #1:a.mp4;10.000;25.000;No focal subject;walk;;STATE;1.5;3.25;1.75;/x/a.mp4;\n"
    "o;2024;player #1:a.mp4;10.000;25.000;Kim;call;;POINT;4.0;4.0;NA;/x/a.mp4;\n"
    "o;2024;player #1:a.mp4;99.000;25.000;Kim;walk;;STATE;4.0;5.0;NA;/x/a.mp4;\n"
    "l;2024;NA;NA;NA;Kim;walk;;STATE;4.0;5.0;1;NA;\n"
)


def test_an_aggregated_export(tmp_path: Path) -> None:
    found = imported(write(tmp_path / "e.csv", AGGREGATED), VIDEOS)
    assert found.rows == [("day/a.mp4", "walk", "1.500", "3.250")]
    assert found.column("subject") == [""]
    text = "\n".join(found.lines)
    assert "its video is of another length than its file says" in text and "line 4" in text
    assert "its observation has no media file" in text and "line 5" in text


OLD_TABULAR = (
    "Observation id,o,,,,,,,\n,,,,,,,,\nMedia file(s),,,,,,,,\nPlayer #1,a.mp4,,,,,,,\n"
    "Time offset (s),0.0,,,,,,,\nvariable,value,,,,,,,\n,,,,,,,,\n"
    "Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status\n"
    "1.5,/x/a.mp4,10.0,25.0,Kim,walk,,,START\n"
    "2.0,/x/a.mp4,10.0,25.0,Lee,walk,,,START\n"
    "3.0,/x/a.mp4,10.0,25.0,Kim,walk,,,STOP\n"
    "3.5,/x/a.mp4,10.0,25.0,Lee,walk,,,STOP\n"
)


def test_a_tabular_export_of_an_old_version_with_lines_before_its_header(tmp_path: Path) -> None:
    found = imported(write(tmp_path / "e.csv", OLD_TABULAR), VIDEOS)
    assert [row[2:] for row in found.rows] == [("1.500", "3.000"), ("2.000", "3.500")]
    assert found.column("subject") == ["Kim", "Lee"]


def test_times_that_run_on_over_files_of_unknown_length_are_not_guessed(tmp_path: Path) -> None:
    text = (
        "Observation id\tMedia file\tTotal length\tFPS\tSubject\tBehavior\tBehavior type\t"
        "Start (s)\tStop (s)\n"
        "o\ta.mp4\t30.0\t25\tKim\twalk\tSTATE\t1\t2\no\tb.mp4\t30.0\t25\tKim\twalk\tSTATE\t12\t13\n"
        "p\tc.mp4\t30.0\t25\tKim\twalk\tSTATE\t1\t2\n"
    )
    found = imported(write(tmp_path / "e.tsv", text), VIDEOS)
    assert found.rows == [("c.mp4", "walk", "1.000", "2.000")]
    assert "2 rows dropped: times run on over the files of its observation" in found.lines[0]
    assert "import the project (.boris)" in found.lines[0]


def test_decimal_commas_are_named_with_row_column_and_remedy(tmp_path: Path) -> None:
    text = AGGREGATED.replace("1.5;3.25", "1,5;3,25")
    path = write(tmp_path / "e.csv", text)
    message = r"line 2: column 'Start \(s\)' holds '1,5'.*--decimal-comma"
    with pytest.raises(UserError, match=message):
        imported(path, VIDEOS)
    found = imported(path, VIDEOS, comma=True)
    assert found.rows == [("day/a.mp4", "walk", "1.500", "3.250")]


def test_times_of_the_day_are_refused(tmp_path: Path) -> None:
    value = project()
    value["observations"]["one"]["media_creation_date_as_offset"] = True
    with pytest.raises(UserError, match="observation .one.: its times are those of the day"):
        imported(write(tmp_path / "p.boris", value), VIDEOS)


SEGMENTS = VideoSegments(
    "/videos/day/a.mp4", 10.0, 25.0, ["eat", "walk & run"],
    [Found(0.0, 1.234, "walk & run", 0.9), Found(1.234, 2.5, "eat", 0.8),
     Found(2.5, 3.001, "walk & run", 0.7)],
)  # fmt: skip


def test_a_written_project_gives_the_same_segments(tmp_path: Path) -> None:
    found = imported(write(tmp_path / "p.boris", write_project(SEGMENTS)), VIDEOS)
    assert sorted(found.rows, key=lambda row: row[2]) == [
        ("day/a.mp4", one.label, f"{one.start:.3f}", f"{one.end:.3f}") for one in SEGMENTS.segments
    ]
    assert found.lines == []


def test_boris_opens_and_exports_a_written_project(tmp_path: Path) -> None:
    path = write(tmp_path / "p.boris", write_project(SEGMENTS))
    with boris() as module:
        _, _, opened, message = module("project_functions").open_project_json(str(path))
    assert "error" not in opened and not message
    export_aggregated(opened, tmp_path / "e.csv")
    found = imported(tmp_path / "e.csv", VIDEOS)
    assert len(found.rows) == 3 and ("day/a.mp4", "eat", "1.234", "2.500") in found.rows
