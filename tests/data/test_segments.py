"""Parts of videos: listed, located, split, read, written back; exact by the frames' own times."""

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slowfast_dist.annotations.segments import parse_sample_name, sample_name
from slowfast_dist.commands.prepare.command import run_prepare
from slowfast_dist.config.commands.dataset import Prepare
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.clips import clip_indices
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.segments import CUT, OUTSIDE, UNTIMED, WITHIN, locate, overlaps
from slowfast_dist.data.listing.split import write_split
from slowfast_dist.data.sampler import ClipKey, EvaluationSampler, ViewKey
from slowfast_dist.data.samples.dataset import ClipDataset
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.runs.predictions import read_predictions, write_predictions
from slowfast_dist.runs.run import read_split_names
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo, read_frames
from tests.helpers.clip_times import decoded_times, nearest_frames
from tests.helpers.video_kinds import KINDS, Kind, read_number
from tests.helpers.video_kinds import write as write_video

HALF_MS = Fraction(1, 2000)

COUNTED = DataConfig(num_frames=8, sampling_rate=2)
BY_TIME = DataConfig(num_frames=8, sampling_rate=2, frame_rate=30.0)


def own_times(path: Path, kind: str, info: VideoInfo) -> list[Fraction]:
    """Seconds from the first shown frame to each, by a decode of everything."""
    times = decoded_times(path)
    if "AVI" in kind or info.moved_frames:  # what is shown n-th is shown at the n-th of the times
        times = sorted(times)
    return [time - times[0] for time in times]


def random_segments(times: list[Fraction], count: int) -> list[tuple[float, float]]:
    """With milliseconds, no nearer to a frame's time than a tick of a container's clock."""
    rng, found = np.random.default_rng(0), list[tuple[float, float]]()
    while len(found) < count:
        start, end = (Fraction(round(1000 * t), 1000) for t in sorted(rng.uniform(0, 1, 2)
                      * float(times[-1])))  # fmt: skip
        edges = (abs(time - edge + HALF_MS) for time in times for edge in (start, end))
        if start < end and min(edges) > Fraction(11, 10_000):
            found.append((float(start), float(end)))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_clips_are_of_frames_whose_own_times_lie_inside(videos: Any, kind: str) -> None:
    path = videos.path(kind)
    info, whole = probe_file(path), videos.whole(path)
    times = own_times(path, kind, info)
    bounds = np.array(random_segments(times, 12))
    spans = locate(info, bounds).spans.tolist()
    for (start, end), span in zip(bounds.tolist(), spans, strict=True):
        inside = [n for n, time in enumerate(times)
                  if Fraction(start) <= time + HALF_MS < Fraction(end)]  # fmt: skip
        shown = [n for n, time in enumerate(times) if time <= Fraction(start)][-1:]
        assert list(range(*span)) == (inside or shown)
        part = [times[n] for n in inside or shown]
        for position in (0.0, 0.4, 1.0):
            clip = clip_indices(info, COUNTED, position, tuple(span)).tolist()
            steps = [min(clip[0] + 2 * k, span[1] - 1) for k in range(8)]
            assert clip == steps and span[0] <= clip[0]
            frames = read_frames(path, np.array(clip), info, "auto", None)
            assert all((a == whole[n]).all() for a, n in zip(frames, clip, strict=True))
            timed = [n - span[0] for n in clip_indices(info, BY_TIME, position, tuple(span))]
            if info.uneven_times and info.by_packets:
                assert timed == nearest_frames(part, timed[0], 8, Fraction(2, 30))
            assert min(timed) >= 0 and max(timed) < len(part)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos at 25 frames a second, of 1.6 and 1.64 s."""
    folder = tmp_path_factory.mktemp("made")
    write_video(folder / "a.mp4", Kind(".mp4", frames=40))
    write_video(folder / "b.mp4", Kind(".mp4", frames=41))
    return folder


ROWS = (
    "a.mp4,x,0.2,0.6,train,ann", "a.mp4,y,0.6,1,train,", "a.mp4,x,1,1.6,val,ann",
    "b.mp4,y,0,0.4,val,ben", "b.mp4,x,0:00:00.400,0:00:01.2,train,", "b.mp4,y,,,test,",
)  # fmt: skip
HEADER = "path,label,start,end,split,subject"


def write(made: Path, *rows: str, header: str = HEADER, name: str = "list.csv") -> Path:
    table = made / name
    table.write_text("\n".join((header, *rows)) + "\n")
    return table


def settings(table: Path, **others: Any) -> DataConfig:
    return DataConfig(
        root=table, num_frames=8, crop_size=64, resize="square", flip=False, num_workers=0, **others
    )


def numbers(clip: Any) -> list[int]:
    """Which frames a clip (T, 3, H, W) has."""
    return [read_number(frame.numpy()) for frame in clip.permute(0, 2, 3, 1)]


def test_a_list_gives_segments_their_frames_and_a_split_that_reads_back(
    made: Path, tmp_path: Path
) -> None:
    videos = find_videos(settings(write(made, *ROWS)), seed=0)
    assert videos.train.counted("training") == "3 training segments of 2 files"
    assert list(videos.train.samples()) == ["a.mp4@0.2-0.6", "b.mp4@0.4-1.2", "a.mp4@0.6-1"]
    assert [videos.train.span(row) for row in range(3)] == [(5, 15), (10, 30), (15, 25)]
    assert list(videos.val.group_names()) == ["a.mp4", "b.mp4"]
    assert videos.val.extra() == [("1", "1.6", "ann"), ("0", "0.4", "ben")]
    assert [remark.kind for remark in videos.remarks] == ["split-test", "groups-cross-split"]

    write_split(made / "split.csv", videos.classes, videos.train, videos.val)
    again = find_videos(settings(made / "split.csv"), seed=1)
    assert again.fingerprint() == videos.fingerprint()
    assert again.val.extra() == videos.val.extra()

    clips = TrainingClips(videos.train, settings(made, sampling_rate=1), seed=0)
    keys = [ClipKey(epoch, sample) for epoch in range(8) for sample in (2, 0, 1)]
    for key, sample in zip(keys, clips.__getitems__(keys), strict=True):
        first, end = [(5, 15), (10, 30), (15, 25)][key.sample]
        seen = numbers(sample.frames)
        assert first <= seen[0] and seen == list(range(seen[0], seen[0] + 8)) and seen[-1] < end
        assert sample.label == [0, 0, 1][key.sample]
    starts = {numbers(clips[ClipKey(epoch, 0)].frames)[0] for epoch in range(40)}
    assert starts == {5, 6, 7}  # each that fits

    scored = EvaluationClips(videos.val, settings(made, sampling_rate=1), temporal_views=3)
    views = scored.__getitems__([ViewKey(0, view) for view in range(3)])
    assert [numbers(view.frames)[0] for view in views] == [25, 29, 32]  # spread over 25 to 39


def test_a_file_is_read_once_and_in_time_for_what_a_batch_needs_of_it(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{name}.mp4,{label},{start / 10},{start / 10 + 0.4},train,"
            for start in range(0, 12, 4) for name in "ab" for label in ("walk", "run")]  # fmt: skip
    data = settings(write(made, *rows, "a.mp4,run,1.2,1.6,val,"), sampling_rate=1)
    table = find_videos(data, seed=0).train
    read: list[tuple[str, int]] = []
    real = ClipDataset._read

    def noted(self: ClipDataset, video: int, indices: Any, views: Any, *others: Any) -> Any:
        read.append((self.videos.names[video], int(indices[0])))
        return real(self, video, indices, views, *others)

    monkeypatch.setattr(ClipDataset, "_read", noted)
    order = np.random.default_rng(0).permutation(len(table))
    clips, keys = TrainingClips(table, data, seed=0), [ClipKey(0, int(row)) for row in order]
    batch = clips.__getitems__(keys)
    assert [name for name, _ in read] == ["a.mp4"] * 6 + ["b.mp4"] * 6
    assert all(one[1] // 10 <= other[1] // 10 for one, other in pairwise(read[:6]))
    for key, sample in zip(keys, batch, strict=True):  # bitwise what each is alone
        alone = clips[key].frames
        assert sample.sample == key.sample and sample.frames is not None and alone is not None
        assert torch.equal(sample.frames, alone)

    scored = EvaluationClips(table, data)
    sampler = EvaluationSampler(len(table), 1, 4, order=scored.reading_order())
    views = [key for batch in sampler for key in batch]
    assert sorted(key.video for key in views) == list(range(len(table)))
    assert [table.names[key.video] for key in views] == ["a.mp4"] * 6 + ["b.mp4"] * 6
    assert table.segments is not None
    assert [table.segments.bounds[key.video, 0] for key in views] == [0, 0, 0.4, 0.4, 0.8, 0.8] * 2
    assert EvaluationClips(table.per_file(), data).reading_order() is None


def test_short_segments_repeat_their_last_frame_or_show_what_is_around(made: Path) -> None:
    table = write(
        made, "a.mp4,x,0.8,0.96", "b.mp4,y,0,0.12", "a.mp4,y,1.48,1.6", "b.mp4,x,0,1.64",
        header="path,label,start,end",
    )  # fmt: skip
    expected = {
        "repeat": {"a.mp4@0.8-0.96": [20, 21, 22, 23, 23, 23, 23, 23],
                   "b.mp4@0-0.12": [0, 1, 2, 2, 2, 2, 2, 2],
                   "a.mp4@1.48-1.6": [37, 38, 39, 39, 39, 39, 39, 39]},
        "context": {"a.mp4@0.8-0.96": list(range(18, 26)),
                    "b.mp4@0-0.12": list(range(8)),
                    "a.mp4@1.48-1.6": list(range(32, 40))},
    }  # fmt: skip
    for how, wanted in expected.items():
        for sampling in ("dense", "uniform"):
            for rate in ("video", 25.0):
                data = settings(
                    table, sampling_rate=1, short_segments=how, sampling=sampling, frame_rate=rate,
                    val_fraction=0.5,
                )  # fmt: skip
                videos = find_videos(data, seed=0)
                for side in (videos.train, videos.val):
                    for row, name in enumerate(side.samples()):
                        if name in wanted:
                            clip = clip_indices(side.info(row), data, 0.5, side.span(row))
                            assert clip.tolist() == wanted[name], (how, sampling, rate, name)


def test_all_segments_of_a_file_stand_on_one_side(made: Path) -> None:
    rows = [f"{file},{'xy'[n % 2]},{n / 10},{n / 10 + 0.1}" for file in ("a.mp4", "b.mp4")
            for n in range(14)]  # fmt: skip
    table = write(made, *rows, header="path,label,start,end")
    for seed in range(5):
        videos = find_videos(settings(table, val_fraction=0.5), seed)
        assert {*videos.train.names} & {*videos.val.names} == set()
        assert len(videos.train) == len(videos.val) == 14
    alone = write(made, *rows[:14], header="path,label,start,end", name="alone.csv")
    with pytest.raises(UserError, match=r"all 14 rows are of one group, 'a.mp4'.*column split"):
        find_videos(settings(alone), seed=0)


def test_ends_behind_the_video_are_cut_and_what_lies_outside_is_left_out(made: Path) -> None:
    table = write(
        made, "a.mp4,x,0.4,2", "b.mp4,y,0.4,1.64", "a.mp4,y,0.1,0.3", "b.mp4,x,5,7.5",
        header="path,label,start,end",
    )  # fmt: skip
    videos = find_videos(settings(table, val_fraction=0.5), seed=0)
    both = [*videos.train.samples(), *videos.val.samples()]
    assert sorted(both) == ["a.mp4@0.1-0.3", "a.mp4@0.4-2", "b.mp4@0.4-1.64"]
    [cut, outside] = [remark for remark in videos.remarks if remark.kind.startswith("segments-")]
    assert str(cut).startswith("1 of 4 segments end behind the end of their videos and are cut")
    assert "a.mp4@0.4-2 by 0.4 s" in str(cut)
    assert "1 of 4 segments lie outside of their videos" in str(outside)
    assert videos.rejected == (("b.mp4@5-7.5", "starts at 5 s; its video lasts 1.64 s", "list"),)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (("a.mp4,x,5,20", "b.mp4,y,10,30", "b.mp4,x,2,12"),
         ["line 2", "start 5 is behind the end of a.mp4", "lasts 1.6 s", "3 of 3 rows",
          "numbers of frames", "(25)"]),
        (("b.mp4,y,0,1", "a.mp4,x,75.5,80.2", "b.mp4,y,600,610"),
         ["line 3", "start 75.5", "2 of 3 rows", "times of another file", "path, start or end"]),
        (("a.mp4,x,0,1", "nowhere.mp4,y,0,1"),
         ["line 3: nowhere.mp4", "do not exist", "--data.videos"]),
        (("a.mp4,x,0,1", "b.mp4,x,0,1", "a.mp4,x,0.0,1.0"), ["line 4", "a.mp4@0-1", "line 2"]),
        (("a.mp4,x,,", "a.mp4,y,,"), ["line 3", "a.mp4 stands in line 2 already"]),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line(made: Path, rows: tuple[str, ...], words: list[str]) -> None:
    table = write(made, *rows, header="path,label,start,end")
    with pytest.raises(UserError) as caught:
        find_videos(settings(table), seed=0)
    message = str(caught.value)
    assert message.startswith(f"--data.root {table}") and "\n" not in message
    assert all(word in message for word in words), message


def test_overlaps_of_other_classes_are_counted_and_said(made: Path) -> None:
    table = write(
        made, "a.mp4,x,0,0.5", "a.mp4,y,0.4,0.9", "a.mp4,x,0.9,1.2", "a.mp4,x,1,1.3",
        "b.mp4,y,0.4,0.9", "b.mp4,y,,", "b.mp4,x,1.2,1.3", header="path,label,start,end",
    )  # fmt: skip
    listing = list_videos(table, "data.root")
    assert listing.videos.segments is not None
    pairs = overlaps(listing.videos.segments, listing.videos.labels)
    names = [tuple(listing.videos.sample(row) for row in pair) for pair in pairs.tolist()]
    assert names == [("a.mp4@0-0.5", "a.mp4@0.4-0.9"), ("b.mp4", "b.mp4@1.2-1.3")]
    videos = find_videos(settings(table, val_fraction=0.5), seed=0)
    said = next(remark for remark in videos.remarks if remark.kind == "overlapping-segments")
    assert "4 of 7 segments overlap one of another class, as a.mp4@0-0.5" in str(said)


def test_where_segments_begin_and_end_against_a_file() -> None:
    def info(**others: Any) -> VideoInfo:
        return VideoInfo(100, 25.0, 64, 64, 0, "h264", True, **others)

    bounds = np.array([(0, 4), (3.9, 4.5), (4, 5), (9, 10), (np.nan, np.nan), (1.001, 1.003)])
    found = locate(info(), bounds)
    assert found.states.tolist() == [WITHIN, CUT, OUTSIDE, OUTSIDE, WITHIN, WITHIN]
    assert found.spans[[0, 1, 4, 5]].tolist() == [[0, 100], [98, 100], [0, 100], [25, 26]]
    untold = locate(VideoInfo(100, 0.0, 64, 64, 0, "h264", True), bounds)
    assert untold.states.tolist() == [UNTIMED] * 4 + [WITHIN, UNTIMED]


def test_names_of_samples_read_back() -> None:
    for path, start, end in (("a b/c@1-2.mp4", 12.4, 15.1), ("x.mp4", 0.0, 7200.000001)):
        assert parse_sample_name(sample_name(path, start, end)) == (path, start, end)
    assert parse_sample_name("a@1-2.mp4")[0] == "a@1-2.mp4"


def test_predictions_and_the_split_of_segments_read_back(tmp_path: Path) -> None:
    logits, labels = np.array([[2.0, -1.0], [0.5, 0.6], [0.0, 3.0]]), np.array([0, 0, 1])
    extra = [("12.4", "15.1", "ann"), ("0", "7200.5", ""), ("", "", "")]
    path = tmp_path / "predictions.csv"
    write_predictions(path, ["a.mp4", "a.mp4", "b, c.mp4"], labels, logits, ["x", "y"], extra)
    header, first, *_ = path.read_text().splitlines()
    assert header == "path,label,prediction,start,end,subject,prob_x,prob_y"
    assert first.startswith("a.mp4,x,x,12.4,15.1,ann,0.95")
    found = read_predictions(path)
    assert found.names == ["a.mp4@12.4-15.1", "a.mp4@0-7200.5", "b, c.mp4"]
    assert list(found.classes) == ["x", "y"] and found.labels.tolist() == [0, 0, 1]

    split = tmp_path / "split.csv"
    split.write_text(
        "path,class,split,group,start,end,subject\na.mp4,x,train,g,12.4,15.1,ann\n"
        "a.mp4,y,val,g,,,\nb.mp4,y,val,h,soon,2,\n"
    )
    assert read_split_names(split) == {"a.mp4@12.4-15.1": "train", "a.mp4": "val"}


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_prepare_rewrites_a_file_once_and_its_list_whole(
    made: Path, tmp_path: Path, name: str
) -> None:
    rows = [("a.mp4", "x", 0.2, 0.6), ("a.mp4", "y", 0.6, 1.0), ("b.mp4", "y", 0.0, 0.4)]
    keys = ("path", "label", "start", "end")
    table = made / name
    lines = [",".join(map(str, row)) for row in (keys, *rows)]
    if name.endswith("jsonl"):
        lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
    table.write_text("\n".join(lines) + "\n")
    run_prepare(table, tmp_path / "out", Prepare(num_workers=1))
    listing = list_videos(tmp_path / "out" / name, "data.root")
    assert sorted(listing.videos.samples()) == ["a.mp4@0.2-0.6", "a.mp4@0.6-1", "b.mp4@0-0.4"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mp4")) == ["a.mp4", "b.mp4"]
