"""benchmark loader: what it reads, what it measures, and what it prints, with real small videos."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from slowfast_dist.commands.benchmark.baselines import (
    SEED,
    STAGES,
    PlainClips,
    decode_bare,
    frame_times,
    stage_seconds,
)
from slowfast_dist.commands.benchmark.output import Cost
from slowfast_dist.commands.benchmark.reading.clips import GroupCosts
from slowfast_dist.commands.benchmark.reading.loader import clip_rows
from slowfast_dist.commands.benchmark.videos import Group, write_benchmark_video
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.model.description import MEAN, STD
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.views import training_view
from tests.helpers.training_runs import launch

DATA = DataConfig(num_frames=8, sampling_rate=2, short_side=(150, 180), crop_size=120)
SMALL = (
    "--num-frames", "8", "--crop-size", "32", "--short-side", "32", "48", "--clips", "3", "--json",
)  # fmt: skip


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> VideoTable:
    """One made video."""
    path = tmp_path_factory.mktemp("made") / "video.mp4"
    write_benchmark_video(path, "240x180", 12, 60, seed=0)
    return VideoTable.of_paths([path]).probed(InfoColumns.of([probe_file(path)]))


def benchmark(*arguments: str | Path, tmp: Path) -> Any:
    """The JSON in the last line, the text before it, and standard error."""
    done = launch(
        "-m", "slowfast_dist", "benchmark", "loader", *arguments, env={"TMPDIR": str(tmp)}
    )
    assert done.returncode == 0, done.stderr
    *text, last = done.stdout.splitlines()
    return json.loads(last), "\n".join(text), done.stderr


# --- what is measured ----------------------------------------------------------------------------


def test_all_ways_are_measured_on_made_videos_which_are_then_removed(tmp_path: Path) -> None:
    result, text, _ = benchmark(
        "--synthetic", "1", "--sizes", "96x64", "--key-intervals", "6", "30", *SMALL,
        "--workers", "0", "1", tmp=tmp_path,
    )  # fmt: skip
    rows = result["clips"]
    assert [(row["key_interval"], row["reader"]) for row in rows] == [
        (interval, reader)
        for interval in (6, 30)
        for reader in ("pyav", "decord", "auto", "auto, after prepare")
    ]
    for row in rows:
        assert row["clips"] == 3 and row["cpu_ms"] > 0 and row["bare_cpu_ms"] > 0
        assert row["ratio"] == pytest.approx(row["cpu_ms"] / row["plain_cpu_ms"])
        assert row["ratio_to_bare"] == pytest.approx(row["cpu_ms"] / row["bare_cpu_ms"])
    for row in result["stages"]:
        assert all(row[name] > 0 for name in STAGES)
        assert row["rest_share"] == pytest.approx(row["rest"] / row["cpu_ms"])
    assert [(row["workers"], row["clips"]) for row in result["workers"]] == [(0, 2), (1, 2)] * 2
    for row in result["workers"]:
        speeds = row["clips_per_second"], row["plain_clips_per_second"]
        assert row["ratio"] == pytest.approx(speeds[0] / speeds[1])
    assert result["handover"]["collate_ms"] > 0
    assert result["machine"]["cpus"] > 0 and result["machine"]["av"] == av.__version__
    assert "ours / plain" in text and "96x64 keyframes 30" in text
    assert list(tmp_path.iterdir()) == []


def test_the_videos_of_a_folder_are_measured_but_the_unreadable_ones(tmp_path: Path) -> None:
    root, temporary = tmp_path / "videos", tmp_path / "temporary"
    temporary.mkdir()
    make_videos(root, 2, seed=0, size=48, frames=24, classes=("moves up",))
    (root / "moves up" / "note.mp4").write_text("no video")
    result, _, errors = benchmark(
        root, *SMALL, "--workers", "none", "--prepared", "false", tmp=temporary
    )
    assert {row["videos"] for row in result["clips"]} == {"h264 up to 288 lines"}
    assert all(row["files"] == 2 and row["ratio"] > 0 for row in result["clips"])
    assert result["workers"] == [] and "note.mp4 is left out" in errors


def test_epochs_with_frames_that_are_kept_take_less_and_show_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "a"
    folder.mkdir(parents=True)
    for seed in range(2):
        write_benchmark_video(folder / f"{seed}.mp4", "240x180", 60, 60, seed)
    words = (folder.parent, *SMALL, "--cache")
    result, text, _ = benchmark(*words, "auto", tmp=tmp_path)
    assert result["different"] == 0 and result["clips"][0]["clips"] == 6
    assert result["ratio"] == pytest.approx(result["clips"][0]["ratio"]) and 0 < result["ratio"] < 1
    assert "decoded frames are kept in memory" in text and result["budget"] > 0
    result, text, _ = benchmark(*words, "1MB", "--epochs", "2", tmp=tmp_path)
    assert result["different"] == 0 and result["clips"][0]["clips"] == 2
    assert "1.0 MB, the first that fit; all take about 7.8 MB (--data.cache 1MB)" in text


def test_ratios_are_those_of_medians() -> None:
    def costs(*milliseconds: float) -> list[Cost]:
        return [Cost(1e-3 * time, wall=0.0) for time in milliseconds]

    group = Group("some", {"files": 1}, [0])
    measured = GroupCosts(
        costs={"pyav": costs(1, 2, 90), "plain": costs(4, 80, 8), "bare": costs(1, 1, 70)}
    )
    (row,) = clip_rows(group, measured)
    assert row["cpu_ms"] == pytest.approx(2)
    assert row["ratio"] == pytest.approx(2 / 8)
    assert row["ratio_to_bare"] == pytest.approx(2)


def test_a_group_takes_its_videos_in_turn() -> None:
    keys = list(Group("some", {}, [4, 7]).keys(3))
    assert keys == [ClipKey(0, 4), ClipKey(0, 7), ClipKey(1, 4)]


# --- what is read --------------------------------------------------------------------------------


def test_the_plain_way_reads_the_clips_that_training_reads(video: VideoTable) -> None:
    ours, plain = TrainingClips(video, DATA, SEED), PlainClips(video, DATA)
    for epoch in range(6):
        frames = ours[ClipKey(epoch, 0)].frames
        assert frames is not None
        mine = frames.permute(1, 0, 2, 3).float()
        same = 255 * (plain[ClipKey(epoch, 0)] * STD + MEAN)
        assert same.shape == mine.shape == (3, 8, 120, 120)
        off = (mine - same).abs().mean()
        assert off < 4, "more than whole pixels and two ways to resize make"
        assert off < 0.5 * (mine - same.roll(1, dims=1)).abs().mean(), "the frames are others"
        assert off < 0.5 * (mine - same.flip(-1)).abs().mean(), "mirrored"


def test_the_bare_decode_begins_at_the_keyframe_and_ends_at_the_last_frame(
    video: VideoTable,
) -> None:
    path, info = video.path(0), video.info(0)
    times = frame_times(path, info)
    assert times is not None and len(times) == 60
    assert decode_bare(path, times, 0, 59) == 60
    assert decode_bare(path, times, 30, 40) == 40 - 24 + 1


def test_the_stages_read_the_whole_clip(video: VideoTable) -> None:
    path, info = video.path(0), video.info(0)
    times = frame_times(path, info)
    assert times is not None
    view = training_view(180, 240, DATA, np.random.default_rng(0))
    for start in (0, 11, 44):  # also the last frame, and over a keyframe
        seconds = stage_seconds(path, info, times, np.arange(start, 60, 3), view)
        assert tuple(seconds) == STAGES and min(seconds.values()) > 0


def test_made_videos_are_as_ffmpeg_writes_them_and_move_everywhere(video: VideoTable) -> None:
    with av.open(str(video.path(0))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [number for number, packet in enumerate(packets) if packet.is_keyframe] == [
        0, 12, 24, 36, 48,
    ]  # fmt: skip
    shown = [packet.pts for packet in packets if packet.pts is not None]
    assert shown != sorted(shown), "no B-frames"
    with av.open(str(video.path(0))) as container:
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    first, later = (pictures[number].astype(float) for number in (0, 30))
    blocks = np.abs(first - later).reshape(12, 15, 16, 15).mean(axis=(1, 3))
    assert blocks.min() > 2, "a part of the picture stands still"


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "--synthetic 1"),
        (("EMPTY",), "no class folder with videos"),
        (("MISSING",), "there is no such folder"),
        (("EMPTY", "--synthetic", "1"), "either"),
        (("--synthetic", "1", "--sizes", "1280"), "--sizes 1280"),
        (("--synthetic", "1", "--workers", "-1"), "--workers -1"),
        (("--synthetic", "1", "--cache", "5"), "--cache 5: give auto, off, or a size"),
        (("--synthetic", "1", "--short-side", "100", "120"), "--short-side 100 120"),
        (("--sintetic", "1"), "did you mean --synthetic"),
    ],
)
def test_a_mistake_is_one_line(
    words: tuple[str, ...],
    named: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from slowfast_dist.cli.main import main

    (tmp_path / "EMPTY").mkdir()
    places = [str(tmp_path / word) if word.isupper() else word for word in words]
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "loader", *places])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert named in error and error.count("\n") == 1
