"""Files of other tools in place of a list: the rows of the list that ``import`` writes of them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.annotations.importing.writing import LEFT_OUT
from slowfast_dist.annotations.table import Table
from slowfast_dist.cli.main import main
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.manifest import list_videos, open_list
from slowfast_dist.data.videos.finding import find_videos
from tests.helpers.video_kinds import Kind, write


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of 2 s at 20 frames a second."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("one.mp4", "day/two.mp4", "day/three.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        write(folder / name, Kind(".mp4", rate=20, frames=40))
    return folder


TABLE = "file\tbehavior\tsubject\tstart\tend\tsplit\n" + "".join(
    f"X:\\lab\\{name}.avi\t{label}\tKim\t{start}\t{start + 0.5}\t{split}\n"
    for name, label, start, split in (
        ("one", "walk", 0.25, "train"), ("one", "eat", 1.0, "train"), ("gone", "eat", 0, "train"),
        ("two", "walk", 0.5, "val"), ("three", "eat", 1.75, "val"), ("three", "eat", 9, "val"),
    )
)  # fmt: skip
"""One row is of a video that is not there, one begins behind the end of its own, one is cut."""

KINETICS = "label,youtube_id,time_start,time_end,split\nwalk,one,0,2,train\neat,two,0,1,train\n"
TIER = """<ANNOTATION_DOCUMENT><HEADER><MEDIA_DESCRIPTOR MEDIA_URL="file:///x/one.mp4"/></HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="100"/><TIME_SLOT TIME_SLOT_ID="b"
TIME_VALUE="900"/><TIME_SLOT TIME_SLOT_ID="c" TIME_VALUE="1500"/></TIME_ORDER>
<TIER TIER_ID="acts">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="1" TIME_SLOT_REF1="a" TIME_SLOT_REF2="b">
<ANNOTATION_VALUE>walk</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="2" TIME_SLOT_REF1="b" TIME_SLOT_REF2="c">
<ANNOTATION_VALUE>eat</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
</TIER></ANNOTATION_DOCUMENT>"""

FILES = {"observed.tsv": TABLE, "kinetics.csv": KINETICS, "acts.eaf": TIER,
         "list.txt": "/x/one.mp4 0\n/y/day/two.mp4 1\n"}  # fmt: skip


def facts(listing: Listing) -> list[object]:
    """All of a listing but where its rows begin, and what is said."""
    table = listing.videos
    columns = (table.names, table.labels, table.groups, listing.sides, table.stamps)
    segments = table.segments
    told = () if segments is None else (segments.bounds, segments.files, segments.subjects)
    return [listing.classes, *([] if c is None else [np.nan_to_num(c, nan=-1)] if isinstance(
        c, np.ndarray) else list(c) for c in (*columns, *told))]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_training_takes_a_file_of_another_tool_as_what_import_makes_of_it(
    videos: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    main(["import", str(path), "--videos", str(videos), "--output", str(tmp_path / "made.csv")])
    direct = list_videos(path, "data.root", start=videos)
    made = list_videos(tmp_path / "made.csv", "data.root", start=videos)
    for mine, other in zip(facts(direct), facts(made), strict=True):
        np.testing.assert_equal(mine, other)
    assert made.imported is None and direct.imported is not None


def test_an_import_on_the_way_is_said_and_what_it_left_out_is_listed(
    videos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "observed.tsv"
    path.write_text(TABLE)
    data = DataConfig(root=path, videos=videos)
    found = find_videos(data, 0, folder=tmp_path)
    said = [str(remark) for remark in found.remarks]
    assert said[0] == (
        f"{path}: a table with columns for video and label, imported on the way: 4 rows of 3 "
        f"videos and 2 classes; left out: 2, changed: 1: {LEFT_OUT} in the run's folder lists them"
    )
    assert any("no such video below --data.videos (observed.tsv, line 4" in one for one in said)
    with open(tmp_path / LEFT_OUT, newline="") as file:
        listed = [(row["what"], row["where"]) for row in csv.DictReader(file)]
    assert sorted(listed) == [("changed", "6"), ("dropped", "4"), ("dropped", "7")]
    assert find_videos(data, 0).fingerprint() == found.fingerprint()  # as a run that goes on asks
    path.write_text(TABLE.replace("gone", "two"))
    assert find_videos(data, 0).fingerprint() != found.fingerprint()


def test_check_data_and_prepare_tell_what_the_import_left_out(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "acts.eaf"
    path.write_text(TIER.replace('"1500"', '"2600"'))
    with pytest.raises(SystemExit):  # one recording makes no split
        main(["check-data", str(path), "--videos", str(videos), "--json", str(tmp_path / "r.json"),
              "--num-frames", "8", "--sampling-rate", "1"])  # fmt: skip
    report = json.loads((tmp_path / "r.json").read_text())
    [finding] = [one for one in report["findings"] if one["kind"] == "rows-left-out"]
    assert [(item["what"], item["label"]) for item in finding["items"]] == [("changed", "eat")]
    text = " ".join(capsys.readouterr().out.split())
    assert "Of the annotations' rows 0 are left out, and 1 are changed." in text
    assert "acts.eaf: ELAN, imported on the way: 2 rows of 1 video and 2 classes" in text
    out = tmp_path / "out"
    main(["prepare", str(path), str(out), "--videos", str(videos), "--short-side", "16"])
    assert f"--data.root {out / 'acts.csv'}" in capsys.readouterr().out
    with open(out / "acts.csv", newline="") as file:
        rows = [(row["path"], row["label"], row["end"]) for row in csv.DictReader(file)]
    assert rows == [("one.mp4", "eat", "2"), ("one.mp4", "walk", "0.9")]
    assert (out / LEFT_OUT).read_text().startswith("what,file,where,")


LISTED = "path,label,start,end\none.mp4,walk,0,1\none.mp4,eat,0,1\n"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "where,what\none.mp4,walk\n", ["first line must name the columns path,label",
                                                 "where,what"]),
        ("a.csv", LISTED.replace(",1\n", ",25\n").replace(",0,", ",20,"),
         ["a.csv, line 2: start 20 is behind the end of one.mp4", "numbers of frames"]),
        ("a.txt", "gone.mp4 0\n", ["a.txt, line 1: video 'gone.mp4' is not below --data.videos"]),
        ("a.tsv", "file\tlabel\tstart\tend\none.mp4\twalk\t40\t50\n",
         ["a.tsv, line 2: start 40 s is behind the end of one.mp4 (2.000 s)", "--times frames",
          "a flag of python -m slowfast_dist import"]),
        ("a.tsv", "file\tlabel\tstart\tend\none.mp4\twalk\t0,5\t1\n",
         ["a.tsv, line 2: column 'start' holds '0,5'", "--decimal-comma",
          "a flag of python -m slowfast_dist import"]),
        ("a.eaf", "<ANNOTATION_DOCUMENT><HEADER/>", ["is no whole XML"]),
        ("a.txt", "what is this\n\n", ["its format is not known"]),
        ("a.mp4", "", ["give a folder of class folders"]),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_line_with_its_flag(
    videos: Path, tmp_path: Path, name: str, text: str, words: list[str]
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError) as error:
        find_videos(DataConfig(root=path, videos=videos, val_fraction=0.5), 0, folder=tmp_path)
    message = str(error.value)
    assert message.startswith(f"--data.root {path}") and "\n" not in message
    assert all(word in message for word in words), message
    assert not (tmp_path / LEFT_OUT).exists()


def test_a_whole_video_keeps_all_of_its_classes_where_several_are_asked_for(
    videos: Path, tmp_path: Path
) -> None:
    def choices(video: str, *names: str) -> object:
        one = {"type": "choices", "from_name": "kind", "value": {"choices": names}}
        return {"data": {"video": video}, "annotations": [{"result": [one]}]}

    path = tmp_path / "project.json"
    path.write_text(json.dumps([choices("one.mp4", "walk", "wave"), choices("two.mp4", "wave")]))
    for several in (True, None):
        found = list_videos(path, "data.root", start=videos, several=several)
        names, cells = found.videos.names, found.videos.label_cells(found.classes)
        told = dict(zip(names, cells, strict=True))
        assert told == {"one.mp4": "walk|wave", "day/two.mp4": "wave"}
        assert found.imported is not None and found.imported.notes.dropped() == 0
    found = list_videos(path, "data.root", start=videos)
    assert found.counts().tolist() == [1, 1]
    assert any("--loss.name bce" in str(remark) for remark in found.remarks)


def test_a_plain_list_is_none_to_import(tmp_path: Path) -> None:
    for name, text in (
        ("a.csv", "\n" + LISTED), ("b.csv", LISTED.replace(",", ";")),
        ("c.jsonl", '{"path": "one.mp4", "label": "walk"}\n'), ("d.csv", "class,PATH\n"),
        ("e.csv", ""), ("f.csv", "nothing\n"), ("g.jsonl", "[]\n"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        assert type(open_list(tmp_path / name, "data.root", tmp_path)) is Table, name
