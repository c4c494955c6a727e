"""Files that other people's packages write, not we: each test is skipped where its package is
missing. docs/importing.md tells the versions that were tried."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.importing import imported

VIDEOS = {"clip.mp4": (10.0, 25.0), "sub/b, c.mp4": (10.0, 25.0)}

Row = tuple[str, str, float, float]

SEGMENTS: list[Row] = [
    ("clip.mp4", "walk", 0.1, 1.0), ("clip.mp4", "eat", 1.2345678, 2.5),
    ("sub/b, c.mp4", 'says "no", twice', 0.1 + 0.2, 3600.0 / 1001),
]  # fmt: skip


def timed(rows: list[tuple[str, ...]]) -> list[Row]:
    """The rows of an import, times as numbers."""
    return [(video, label, float(start), float(end)) for video, label, start, end in rows]


def to_the_microsecond(rows: list[Row]) -> list[Row]:
    return [(video, label, round(start, 6), round(end, 6)) for video, label, start, end in rows]


def in_frames(rows: list[tuple[str, ...]], fps: float = 25.0) -> list[tuple[str, int, int]]:
    """(label, first frame from 0, frame behind the last)."""
    return [(label, round(start * fps), round(end * fps)) for _, label, start, end in timed(rows)]


# --- Hugging Face's datasets ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hugging_face")))
        found = pytest.importorskip("datasets", reason="needs datasets, of Hugging Face")
        yield found


@pytest.mark.parametrize("video", ["file_name", "recorded_file_name"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_the_metadata_of_a_videofolder(
    ending: str, video: str, datasets: Any, tmp_path: Path
) -> None:
    """As the package writes it, and as it writes again what its own loader made of that."""
    table = dict(zip((video, "label", "start", "end"), map(list, zip(*SEGMENTS, strict=True)),
                     strict=True))  # fmt: skip
    folder = tmp_path / "folder"
    for name in VIDEOS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    path = folder / f"metadata.{ending}"

    def write(dataset: Any, path: Path) -> None:
        (dataset.to_csv if ending == "csv" else dataset.to_json)(str(path))

    write(datasets.Dataset.from_dict(table), path)
    found = imported(path, VIDEOS)
    assert found.format == "videofolder" and found.lines == []
    assert timed(found.rows) == to_the_microsecond(SEGMENTS)

    loaded = datasets.load_dataset(
        "videofolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    [column] = [name for name, kind in loaded.features.items() if isinstance(kind, datasets.Video)]
    assert column == {"file_name": "video", "recorded_file_name": "recorded"}[video]
    if column != "video":
        loaded = loaded.rename_column(column, "video")
    again = tmp_path / f"again.{ending}"
    write(loaded, again)
    assert imported(again, VIDEOS).rows == found.rows


def test_classes_of_datasets_are_numbers_with_names(datasets: Any, tmp_path: Path) -> None:
    names = ["eat", "walk slowly"]
    kind = datasets.ClassLabel(names=names)
    dataset = datasets.Dataset.from_dict({"file_name": ["clip.mp4", "sub/b, c.mp4"],
                                          "label": ["walk slowly", "eat"]})  # fmt: skip
    dataset = dataset.cast_column("label", kind)
    dataset.to_csv(str(tmp_path / "metadata.csv"))
    classes = {str(kind.str2int(name)): name for name in names}
    found = imported(tmp_path / "metadata.csv", VIDEOS, classes=classes)
    assert [row[:2] for row in found.rows] == [("clip.mp4", "walk slowly"), ("sub/b, c.mp4", "eat")]


def test_one_row_of_json_lines_is_enough(datasets: Any, tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_dict({"file_name": ["clip.mp4"], "label": ["walk"]})
    dataset.to_json(str(tmp_path / "metadata.jsonl"))
    found = imported(tmp_path / "metadata.jsonl", VIDEOS)
    assert (found.format, found.rows) == ("videofolder", [("clip.mp4", "walk", "", "")])


# --- Label Studio ---------------------------------------------------------------------------------

CONFIG = """<View><Choices name="kind" toName="video"><Choice value="in"/></Choices>
<TimelineLabels name="timelineLabels" toName="video"><Label value="walk"/><Label value="eat"/>
</TimelineLabels><Video name="video" value="$video" frameRate="$fps"/></View>"""


@pytest.mark.parametrize("minimal", [False, True])
def test_regions_of_label_studios_own_models(minimal: bool, tmp_path: Path) -> None:
    """The labelling setup makes the regions, its models the task, its converter the export."""
    def sdk(name: str) -> Any:
        return pytest.importorskip(f"label_studio_sdk.{name}", reason="needs label-studio-sdk")

    models = sdk("label_interface.objects")
    timeline = sdk("label_interface").LabelInterface(CONFIG).get_control("timelineLabels")
    ranges = [("walk", 1, 25), ("eat", 26, 26), ("walk", 27, 250)]
    regions = [timeline.label(label=[label], ranges=[{"start": first, "end": last}])
               for label, first, last in ranges]  # fmt: skip
    task = models.TaskValue(
        data={"video": "/data/upload/1/ab12cd34-clip.mp4", "fps": 25.0},
        annotations=[models.AnnotationValue(completed_by=1, result=regions)],
    )
    times = dict.fromkeys(("created_at", "updated_at"), "2024-01-01T00:00:00Z")
    document = task.model_dump()
    document["annotations"][0] |= {"id": 1, **times}
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"id": 7, **times, **document}]))
    tool = sdk("converter").Converter(CONFIG, str(tmp_path))
    export = tool.convert_to_json_min if minimal else tool.convert_to_json
    export(str(path), str(tmp_path / "out"), is_dir=False)
    [written] = (tmp_path / "out").iterdir()
    found = imported(written, VIDEOS)
    assert found.format == "label-studio" and found.lines == []
    assert in_frames(found.rows) == [(label, first - 1, last) for label, first, last in ranges]


# --- CVAT -----------------------------------------------------------------------------------------


def write_cvat(folder: Path, tracks: bool) -> Path:
    """12 frames of clip.mp4 (the name of the subset): boxes of two tracks, or tags."""
    kinds, sets, items, media = (
        pytest.importorskip(f"datumaro.components.{name}", reason="needs datumaro")
        for name in ("annotation", "dataset", "dataset_base", "media")
    )

    def box(label: int, track: int, outside: bool = False) -> Any:
        attributes = {"track_id": track, "outside": outside, "keyframe": True}
        return kinds.Bbox(1, 1, 2, 2, label=label, attributes=attributes)

    def annotations(frame: int) -> list[Any]:
        if tracks:
            first = [box(0, 0, outside=frame == 5)] if 2 <= frame <= 5 else []
            return first + ([box(1, 3)] if frame in (10, 11) else [])
        tags = [kinds.Label(0)] if frame in (2, 3, 4, 8) else []
        mood = kinds.Label(1, attributes={"mood": "calm & <good>"})
        return [*tags, mood] if frame in (4, 5) else tags

    picture = media.Image.from_numpy(np.zeros((8, 8, 3), np.uint8))
    frames = [
        items.DatasetItem(f"frame_{frame:06d}", subset="clip", media=picture,
                          attributes={"frame": frame}, annotations=annotations(frame))
        for frame in range(12)
    ]  # fmt: skip
    dataset = sets.Dataset.from_iterable(frames, categories=["walk", "eat"])
    dataset.export(str(folder), "cvat", save_media=False, use_track=tracks,
                   allow_undeclared_attrs=True)  # fmt: skip
    return folder / "clip.xml"


def test_tracks_of_cvat_as_datumaro_writes_them(tmp_path: Path) -> None:
    found = imported(write_cvat(tmp_path / "cvat", tracks=True), VIDEOS)
    assert found.format == "cvat" and found.lines == []
    assert in_frames(found.rows) == [("walk", 2, 5), ("eat", 10, 12)]


def test_tags_of_cvat_as_datumaro_writes_them(tmp_path: Path) -> None:
    path = write_cvat(tmp_path / "cvat", tracks=False)
    found = imported(path, VIDEOS)
    assert found.format == "cvat" and found.lines == []
    assert sorted(in_frames(found.rows)) == [("eat", 4, 6), ("walk", 2, 5), ("walk", 8, 9)]
    moods = imported(path, VIDEOS, tier=("mood",))
    assert ("calm & <good>", 4, 6) in in_frames(moods.rows)


# --- FiftyOne -------------------------------------------------------------------------------------

SUPPORTS = [("walk", 1, 25), ("eat", 26, 249), ("run", 100, 100), ("walk", 250, 250)]
"""Of a video of 250 frames: first and last, from 1."""


@pytest.fixture(scope="module")
def fiftyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package; its exporters and documents need no database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("fiftyone")))
        patch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
        yield pytest.importorskip("fiftyone", reason="needs fiftyone")


@pytest.fixture
def sample(fiftyone: Any, tmp_path: Path) -> Any:
    path = tmp_path / "clip.mp4"
    path.touch()
    metadata = fiftyone.VideoMetadata(frame_rate=25.0, total_frame_count=250, duration=10.0)
    detections = [fiftyone.TemporalDetection(label=label, support=[first, last], confidence=0.5)
                  for label, first, last in SUPPORTS]  # fmt: skip
    return fiftyone.Sample(
        filepath=str(path), metadata=metadata, kind=fiftyone.Classification(label="in"),
        events=fiftyone.TemporalDetections(detections=detections),
    )  # fmt: skip


@pytest.mark.parametrize("how", [{}, {"abs_paths": True}, {"classes": ["run", "walk", "eat"]}])
def test_temporal_detections_of_fiftyone(how: dict[str, Any], sample: Any, tmp_path: Path) -> None:
    found = imported(export(sample, tmp_path, **how), VIDEOS)
    assert found.format == "fiftyone" and found.lines == []
    assert in_frames(found.rows) == [(label, first - 1, last) for label, first, last in SUPPORTS]


def test_timestamps_of_fiftyone_are_right_to_a_frame(sample: Any, tmp_path: Path) -> None:
    """It stretches the frames over the duration, and an end is when the last frame begins: what
    is one frame long has no length left."""
    found = imported(export(sample, tmp_path, use_timestamps=True), VIDEOS)
    assert "end up to a frame early" in "\n".join(found.said)
    [line] = found.lines
    assert line.startswith("2 rows dropped: it is a moment without length")
    times = [(label, start * 25, end * 25) for _, label, start, end in timed(found.rows)]
    for (label, first, last), (named, start, end) in zip(SUPPORTS[:2], times, strict=True):
        assert label == named and 0 <= start - (first - 1) <= 1.03 and 0 <= last - end <= 1.03


def export(sample: Any, folder: Path, **how: Any) -> Path:
    exporters = importlib.import_module("fiftyone.utils.data.exporters")
    exporter = exporters.FiftyOneTemporalDetectionDatasetExporter(
        export_dir=str(folder), export_media=False, **how
    )
    with exporter:
        exporter.export_sample(sample.filepath, sample.events, None, metadata=sample.metadata)
    return folder / "labels.json"


@pytest.mark.parametrize("legacy", [False, True])
def test_samples_of_fiftyone(legacy: bool, sample: Any, tmp_path: Path) -> None:
    """samples.json of FiftyOneDataset, through what writes its documents, or of the older one."""
    if legacy:
        exporters = importlib.import_module("fiftyone.utils.data.exporters")
        exporter = exporters.LegacyFiftyOneDatasetExporter(str(tmp_path), export_media=False)
        with exporter:
            exporter.export_sample(sample)
    else:
        odm = importlib.import_module("fiftyone.core.odm")
        odm.export_collection([sample.to_mongo_dict()], str(tmp_path / "samples.json"),
                              key="samples")  # fmt: skip
    path = tmp_path / "samples.json"
    found = imported(path, VIDEOS, tier=("events",))
    assert found.format == "fiftyone" and found.lines == []
    assert in_frames(found.rows) == [(label, first - 1, last) for label, first, last in SUPPORTS]
    assert imported(path, VIDEOS, tier=("kind",)).rows == [("clip.mp4", "in", "", "")]
