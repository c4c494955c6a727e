"""Clips of what lies between segments: never within the margin of one, drawn by the key alone."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from slowfast_dist.commands.evaluate import opening
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.background.drawn import ScoredBackground
from slowfast_dist.data.background.gaps import Gap, Part, gaps_of_file, windows
from slowfast_dist.data.listing.split import write_split
from slowfast_dist.data.sampler import ClipKey, DistributedBatchSampler, ViewKey
from slowfast_dist.data.samples.batch import collate
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.data.videos.labelled import find_labelled_videos
from slowfast_dist.data.videos.video_set import VideoSet
from tests.helpers.video_kinds import Kind, read_number
from tests.helpers.video_kinds import write as write_video

FPS, FRAMES = 25, 200
SECONDS = FRAMES / FPS
SEGMENTS = {  # of files of 8 s
    "a.mp4": [("x", 1.0, 2.0), ("y", 4.2, 5.0)],
    "b.mp4": [("x", 0.0, 1.0), ("y", 6.0, 8.0)],
    "c.mp4": [("y", 2.0, 3.2), ("x", 3.5, 4.5)],
    "d.mp4": [("x", 3.0, 4.0), ("y", 3.8, 5.0)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos of 8 s; nobody looked at e.mp4."""
    folder = tmp_path_factory.mktemp("made")
    for name in (*SEGMENTS, "e.mp4"):
        write_video(folder / name, Kind(".mp4", frames=FRAMES))
    rows = [f"{name},{label},{start},{end}" for name, parts in SEGMENTS.items()
            for label, start, end in parts]  # fmt: skip
    (folder / "list.csv").write_text("\n".join(("path,label,start,end", *rows)) + "\n")
    return folder


def settings(table: Path, **others: Any) -> DataConfig:
    known = {
        "root": table, "num_frames": 8, "sampling_rate": 1, "crop_size": 64, "resize": "square",
        "flip": False, "num_workers": 0, "background": "nothing", "val_fraction": 0.25,
        "margin": 0.4,
    }  # fmt: skip
    return DataConfig(**{**known, **others})


def numbers(clip: Any) -> list[int]:
    return [read_number(frame.numpy()) for frame in clip.permute(0, 2, 3, 1)]


def is_free(name: str, frames: list[int], margin: float = 0.4) -> bool:
    """Whether none is shown within the margin of a segment, to the rounding of lists."""
    return all(
        start - margin - 6e-4 > frame / FPS or frame / FPS >= end + margin - 6e-4
        for frame in frames
        for _, start, end in SEGMENTS.get(name, [])
    )


def drawn(videos: VideoSet) -> list[int]:
    """The samples of an epoch that are of gaps."""
    assert videos.background is not None
    first = videos.background.first
    return list(range(first, first + videos.background.clips))


def told(videos: VideoSet, kind: str) -> str:
    return next(str(remark) for remark in videos.remarks if remark.kind == kind)


def test_gaps_are_what_is_no_segment_and_not_near_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        bounds = np.sort(rng.integers(0, 95, (rng.integers(1, 7), 2)), axis=1) / 10
        margin, duration = rng.integers(0, 12) / 10, 10.05
        parts = [Part(start, end + 0.1, n, 0) for n, (start, end) in enumerate(bounds.tolist())]
        found = gaps_of_file(parts, [], duration, margin)
        assert found.between == [] and set(found.of_side) <= {0}
        moments = np.arange(0, 10.05, 0.01) + 0.005
        free = np.ones(len(moments), bool)
        for part in parts:
            free &= (moments < part.start - margin) | (moments > part.end + margin)
        inside = np.zeros(len(moments), bool)
        for gap in found.of_side.get(0, []):
            inside |= (moments > gap.start) & (moments < gap.end)
        assert (free == inside).all()


def test_a_gap_between_two_sides_is_on_neither() -> None:
    parts = [Part(1, 2, 0, 0), Part(4, 5, 1, 0), Part(7, 8, 2, 1), Part(9, 9.5, 3, -1)]
    found = gaps_of_file(parts, [], 12, 0)
    assert dict(found.of_side) == {0: [Gap(0, 1, 0), Gap(2, 4, 0)]}
    assert [gap[:2] for gap in found.between] == [(5, 7), (8, 9), (9.5, 12)]
    stated = [Part(0, float("inf"), 9, 1)]
    found = gaps_of_file(parts, stated, 12, 0.5)
    assert [gap[:2] for gap in found.of_side[1]] == [
        (0, 0.5), (2.5, 3.5), (5.5, 6.5), (10, 12),
    ]  # fmt: skip


def test_windows_lie_beside_each_other_and_a_window_is_itself() -> None:
    parts = windows(Gap(1, 6, 7), 1.5)
    assert [part.end - part.start for part in parts] == pytest.approx([1.5] * 3)
    assert parts[0].start > 1 and parts[-1].end < 6
    assert all(a.end < b.start for a, b in pairwise(parts))
    for part in (*parts, Gap(0, 1.2, 7)):
        assert windows(part, 1.5) == [part]


def test_clips_are_drawn_outside_of_segments_as_many_as_the_median_class(folder: Path) -> None:
    videos = find_videos(settings(folder / "list.csv"), seed=1)
    assert videos.classes == ("nothing", "x", "y") and videos.background is not None
    assert videos.train_counts().tolist() == [3, 3, 3]
    assert np.bincount(videos.val.labels).tolist() == [1, 1, 1]
    assert {row.name for row in videos.val}.isdisjoint(row.name for row in videos.train)
    assert "3 clips an epoch (as the median class)" in told(videos, "background")
    assert "left out: 1 shorter than half a clip" not in told(videos, "background")
    clips = TrainingClips(videos.train, settings(folder), 1, videos.background)
    assert len(clips) == 9
    keys = [ClipKey(epoch, sample) for epoch in range(30) for sample in (*drawn(videos), 0)]
    places = set()
    for key, sample in zip(keys, clips.__getitems__(keys), strict=True):
        row, seen = videos.train[sample.video], numbers(sample.frames)
        assert sample.sample == sample.video and videos.classes[sample.label] == (
            "x" if key.sample == 0 else "nothing"
        )
        assert seen == list(range(seen[0], seen[0] + 8))
        if key.sample:
            assert is_free(row.name, seen)
            places.add((row.name, seen[0]))
    assert len(places) > 60  # of 90 clips: anew in each epoch


def test_a_share_of_all_clips_and_a_wider_margin(folder: Path) -> None:
    videos = find_videos(
        settings(folder / "list.csv", background_share=0.5, margin=1.0), seed=1
    )
    assert videos.train_counts().tolist() == [6, 3, 3]
    assert np.bincount(videos.val.labels)[0] == min(2, len(videos.val) - 2)
    clips = TrainingClips(videos.train, settings(folder), 1, videos.background)
    for sample in (clips[ClipKey(e, s)] for e in range(4) for s in drawn(videos)):
        assert is_free(videos.train[sample.video].name, numbers(sample.frames), 1.0)


def test_gaps_shorter_than_half_a_clip_are_left_out_and_context_wants_a_whole_one(
    folder: Path,
) -> None:
    long = {"num_frames": 32, "sampling_rate": 1}  # 1.28 s
    repeated = find_videos(settings(folder / "list.csv", **long), seed=1)
    whole = find_videos(settings(folder / "list.csv", **long, short_segments="context"), seed=1)
    assert "shorter than half a clip (0.4 s around segments are none)" in told(
        repeated, "background"
    )
    for videos, least in ((repeated, 0.64), (whole, 1.28)):
        assert videos.background is not None
        bounds = videos.train.segments.bounds[videos.background.first :]  # type: ignore[union-attr]
        assert np.diff(bounds, axis=1).min() >= least - 1e-9
    clips = TrainingClips(
        whole.train, settings(folder, **long, short_segments="context"), 1, whole.background
    )
    for key in (ClipKey(epoch, sample) for epoch in range(4) for sample in drawn(whole)):
        sample = clips[key]
        assert is_free(whole.train[sample.video].name, numbers(sample.frames))
    scored = EvaluationClips(whole.val, settings(folder, **long, short_segments="context"), 3)
    background = np.flatnonzero(whole.val.labels == whole.background.label)  # type: ignore[union-attr]
    for video in background.tolist():
        for view in range(3):
            seen = numbers(scored[ViewKey(video, view)].frames)
            assert is_free(whole.val[video].name, seen)


def test_classes_drawn_alike_count_the_background_as_one_of_them(folder: Path) -> None:
    """Of segments, and of gaps, of which each draw is another part."""
    videos = find_videos(settings(folder / "list.csv", class_sampling="balanced"), seed=1)
    assert videos.background is not None
    sampling = videos.class_sampling("balanced")
    assert sampling is not None
    clips = TrainingClips(videos.train, settings(folder), 1, videos.background)
    assert len(sampling.labels) == len(clips)
    order, repeats = sampling.draw(np.random.default_rng(0))
    drawn = np.bincount(sampling.labels[order], minlength=len(videos.classes))
    assert drawn.max() - drawn.min() <= 1 and len(order) == len(clips)
    keys = [ClipKey(0, int(s), int(r)) for s, r in zip(order, repeats, strict=True)]
    for key in keys:
        assert clips[key].label == sampling.labels[key.sample]
    gap = videos.background.first
    again = {numbers(clips[ClipKey(0, gap, repeat)].frames)[0] for repeat in range(12)}
    assert len(again) > 1


def test_workers_and_processes_do_not_change_the_clips(folder: Path) -> None:
    videos = find_videos(settings(folder / "list.csv"), seed=1)

    def seen(workers: int, processes: int) -> Counter[tuple[int, bytes]]:
        found: Counter[tuple[int, bytes]] = Counter()
        for rank in range(processes):
            clips = TrainingClips(videos.train, settings(folder), 1, videos.background)
            sampler = DistributedBatchSampler(len(clips), 4, 2, 1, rank, processes)
            sampler.set_epoch(3)
            loader = DataLoader(
                clips, batch_sampler=sampler, num_workers=workers, collate_fn=collate
            )
            for batch in loader:
                for video, frames in zip(batch.videos.tolist(), batch.frames, strict=True):
                    found[video, frames.numpy().tobytes()] += 1
        return found

    alone = seen(0, 1)
    assert alone.total() == 9 and alone == seen(2, 1) == seen(0, 3)


def test_split_csv_gives_the_same_background(folder: Path, tmp_path: Path) -> None:
    data = settings(folder / "list.csv", num_frames=32, background_share=0.6)
    videos = find_videos(data, seed=1)
    write_split(folder / "split.csv", videos.classes, videos.train, videos.val)
    rows = (folder / "split.csv").read_text().splitlines()
    assert videos.background is not None
    gaps = len(videos.train) - videos.background.first
    assert sum(",nothing,train," in row for row in rows) == gaps > 3
    again = find_videos(
        settings(folder / "split.csv", num_frames=32, background_share=0.6), seed=1
    )
    assert again.fingerprint() == videos.fingerprint()
    assert again.background == videos.background
    assert list(again.val.samples()) == list(videos.val.samples())


def test_rows_of_its_name_say_where_it_is_and_other_files_stay_out(folder: Path) -> None:
    table = folder / "stated.csv"
    lines = (folder / "list.csv").read_text().replace("\n", ",train\n").replace(
        "end,train", "end,split"
    )  # fmt: skip
    lines = lines.replace("d.mp4,x,3.0,4.0,train", "d.mp4,x,3.0,4.0,val").replace(
        "d.mp4,y,3.8,5.0,train", "d.mp4,y,3.8,5.0,val"
    )
    table.write_text(f"{lines}e.mp4,nothing,,,train\na.mp4,nothing,5,7,train\n")
    videos = find_videos(settings(table), seed=1)
    assert videos.background is not None
    gaps = [row.sample for row in videos.train.select(
        range(videos.background.first, len(videos.train))
    )]  # fmt: skip
    assert gaps == [
        "a.mp4@5.4-7", "b.mp4@1.4-5.6", "c.mp4@0-1.6", "c.mp4@4.9-8", "e.mp4@0-8",
    ]  # fmt: skip
    assert told(videos, "background-stated").startswith("2 rows of the label 'nothing' say")
    assert not any("overlap" in remark.kind and "nothing" in str(remark)
                   for remark in videos.remarks)  # fmt: skip


def test_what_is_left_out_of_a_training_is_no_background(folder: Path) -> None:
    table = folder / "test.csv"
    rows = [f"{name},{label},{start},{end},{'test' if label == 'y' and name == 'a.mp4' else side}"
            for (name, parts), side in zip(SEGMENTS.items(), ("train",) * 3 + ("val",), strict=True)
            for label, start, end in parts]  # fmt: skip
    table.write_text("\n".join(("path,label,start,end,split", *rows)) + "\n")
    videos = find_videos(settings(table), seed=1)
    assert videos.background is not None
    gaps = [row.sample for row in videos.train.select(
        range(videos.background.first, len(videos.train))
    )]  # fmt: skip
    assert gaps[0] == "a.mp4@0-0.6" and not any(name.startswith("a.mp4@2") for name in gaps)
    assert "2 between segments of two sides" in told(videos, "background")


def test_one_class_and_two_lists(folder: Path) -> None:
    header = "path,label,start,end"
    for name, rows in {
        "one.csv": ["a.mp4,x,1,2", "a.mp4,x,4.2,5", "b.mp4,x,0,1", "b.mp4,x,6,8"],
        "two.csv": ["c.mp4,x,2,3.2", "c.mp4,x,3.5,4.5", "e.mp4,nothing,,"],
    }.items():
        (folder / name).write_text("\n".join((header, *rows)) + "\n")
    data = settings(folder)
    data = DataConfig(**{**vars(data), "root": None, "train_dir": folder / "one.csv",
                         "val_dir": folder / "two.csv"})  # fmt: skip
    videos = find_videos(data, seed=1)
    assert videos.classes == ("nothing", "x") and videos.train_counts().tolist() == [4, 4]
    assert np.bincount(videos.val.labels).tolist() == [2, 2]
    assert not any(remark.kind == "unscored-class" for remark in videos.remarks)


@pytest.mark.parametrize(
    ("text", "others", "words"),
    [
        ("path,label\na.mp4,x\nb.mp4,y\nc.mp4,x\nd.mp4,y\n", {},
         "nothing: is for lists with start and end"),
        ("path,label,start,end\na.mp4,x,0,8\nb.mp4,y,0,8\nc.mp4,x,0,8\nd.mp4,y,0,8\n", {},
         "nothing: the training videos have no gap to draw from: lower --data.margin"),
        (None, {"margin": 5.0}, "nothing: the training videos have no gap to draw from"),
    ],
)  # fmt: skip
def test_where_there_is_no_background(
    folder: Path, text: str | None, others: dict[str, Any], words: str
) -> None:
    table = folder / "list.csv"
    if text is not None:
        table = folder / "none.csv"
        table.write_text(text)
    with pytest.raises(UserError, match=f"^--data.background {words}"):
        find_videos(settings(table, **others), seed=1)


def test_an_evaluation_takes_it_from_a_list_in_the_same_way(folder: Path) -> None:
    data = settings(folder)
    drawn = ScoredBackground("nothing", data, 1.0)
    found = find_labelled_videos(
        folder / "list.csv", "data", ("nothing", "x", "y"), drawn=drawn
    ).videos
    assert np.bincount(found.labels).tolist() == [4, 4, 4]
    clips = EvaluationClips(found, data)
    for video in np.flatnonzero(found.labels == 0).tolist():
        assert is_free(found[video].name, numbers(clips[ViewKey(video, 0)].frames))
        assert found[video].end - found[video].start == pytest.approx(1.0)


def test_regions_of_interest_stay_with_their_rows(folder: Path, tmp_path: Path) -> None:
    rows = [f"{name},{label},{start},{end},8,0,{20 + 4 * number},40"
            for name, parts in SEGMENTS.items()
            for number, (label, start, end) in enumerate(parts)]  # fmt: skip
    table = tmp_path / "boxes.csv"
    table.write_text("\n".join(("path,label,start,end,x,y,w,h", *rows)) + "\n")
    config = settings(table, videos=folder)
    with_gaps, without = find_videos(config, 0), find_videos(replace(config, background=None), 0)
    for side, other in ((with_gaps.train, without.train), (with_gaps.val, without.val)):
        assert list(side.samples())[: len(other)] == list(other.samples())
        assert side.segments is not None and side.segments.boxes is not None
        assert np.isfinite(side.segments.boxes).all()  # a gap has that of a row beside it
    clips, plain = (
        TrainingClips(one.train, replace(config, background=None), seed=0)
        for one in (with_gaps, without)
    )
    key = ClipKey(0, 0)
    assert torch.equal(clips[key].frames, plain[key].frames)  # type: ignore[arg-type]


def test_gaps_of_an_imported_file_are_of_their_own_videos(folder: Path, tmp_path: Path) -> None:
    """Its rows have no lines that would tell them apart."""
    database = {
        name.removesuffix(".mp4"): {"subset": "training", "annotations": [
            {"label": label, "segment": [start, end]} for label, start, end in parts
        ]}
        for name, parts in SEGMENTS.items()
    }  # fmt: skip
    path = tmp_path / "activitynet.json"
    path.write_text(json.dumps({"database": database}))
    listed = find_videos(settings(folder / "list.csv"), 0)
    imported = find_videos(settings(path, videos=folder), 0)
    assert told(imported, "background") == told(listed, "background")
    assert list(imported.train.samples()) == list(listed.train.samples())
    assert list(imported.val.samples()) == list(listed.val.samples())


def test_what_an_import_left_out_is_no_background(folder: Path, tmp_path: Path) -> None:
    rows = [f"X:\\lab\\{name},{label},{start},{end}" for name, parts in SEGMENTS.items()
            for label, start, end in parts]  # fmt: skip
    path = tmp_path / "observed.csv"
    left_out = ["X:\\lab\\a.mp4,jump,3,3", "X:\\lab\\b.mp4,jump,3,", "X:\\gone\\e.mp4,jump,3,3"]
    path.write_text("\n".join(("video,behavior,start,end", *rows, *left_out)))
    data = settings(path, videos=folder)
    with pytest.raises(UserError, match="^--data.background nothing: 2 rows .*point-seconds") as e:
        find_videos(data, 0)
    assert "1: it has only one of start and end" in str(e.value) and "\n" not in str(e.value)
    scored = ScoredBackground("nothing", data, 1.0)
    for one in (scored, None):  # clips, and whole files
        with pytest.raises(UserError, match="^--data .*for a model with the background .*: 2 rows"):
            find_labelled_videos(
                path, "data", ("nothing", "x", "y", "jump"), folder, data=data, drawn=one,
                whole_files=one is None,
            )  # fmt: skip
    assert len(find_videos(settings(path, videos=folder, background=None), 0).train)
    path.write_text("\n".join(("video,behavior,start,end", *rows, left_out[2])))
    assert find_videos(data, 0).background is not None


def test_the_runs_own_validation_knows_what_its_training_list_says_of_its_files(
    folder: Path, tmp_path: Path
) -> None:
    for name, rows in {
        "first.csv": ["a.mp4,x,1,2", "b.mp4,x,0,1", "d.mp4,x,3,4"],
        "second.csv": ["a.mp4,y,4.2,5", "d.mp4,y,3.8,5"],
    }.items():
        (folder / name).write_text("\n".join(("path,label,start,end", *rows)) + "\n")
    (folder / "first.csv").write_text((folder / "first.csv").read_text() + "c.mp4,y,2,3.2\n")
    data = replace(
        settings(folder, background_share=0.8), root=None, train_dir=folder / "first.csv",
        val_dir=folder / "second.csv",
    )  # fmt: skip
    videos = find_videos(data, seed=1)
    (tmp_path / "models").mkdir()
    (tmp_path / "config.yaml").write_text(
        f"data:\n  train_dir: {data.train_dir}\n  val_dir: {data.val_dir}\n"
    )
    seconds = videos.segments().median_seconds()
    best = SimpleNamespace(
        folder=tmp_path / "models", classes=videos.classes, data=data, background="nothing",
        video_seconds=seconds, seed=1, task=SimpleNamespace(several=False),
    )  # fmt: skip
    found = opening._find(cast(Any, best), EvaluateCommand())[2]
    assert list(found.videos.samples()) == list(videos.val.samples())
