"""Pixels that are not square: what is round on a screen is round on every way to a picture."""

import queue
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import slowfast_dist
from slowfast_dist.commands.predict.annotate import annotate
from slowfast_dist.commands.predict.live import watch
from slowfast_dist.commands.predict.videos import predict_video
from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.data.sampler import ClipKey, ViewKey
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.inference.segments import SegmentedVideo, find_segments
from slowfast_dist.inference.windows import score_windows
from slowfast_dist.report.thumbnails import thumbnail_size
from slowfast_dist.system.child import Ended, Message
from slowfast_dist.tracking.wandb_media import excerpt
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.live import live_frames
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo, read_frames
from slowfast_dist.video.transcode import transcode
from tests.helpers.predictors import predictor
from tests.helpers.shapes import roundness, write_disc

Frames = NDArray[np.uint8]

DATA = DataConfig(
    num_frames=8, sampling_rate=2, short_side=(128, 144), crop_size=120, flip=False
)  # fmt: skip
STORED = replace(DATA, pixel_aspect="stored")
SAR = Fraction(16, 11)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PAL's 4:3 as DVDs store it is 176 x 144 pixels here, each 16:11."""
    return write_disc(tmp_path_factory.mktemp("wide") / "wide.mp4", 144, 176, SAR)


def table(path: Path) -> VideoTable:
    videos = VideoTable.of_paths([path])
    return videos.probed(probe_videos(videos, 1, None, show_progress=False).infos)


def training(path: Path, data: DataConfig) -> Frames:
    clips = TrainingClips(table(path), data, 0)
    for epoch in range(50):  # crops lie at random: one that holds all of the disc
        sample = clips[ClipKey(epoch, 0)]
        assert sample.frames is not None
        frames = sample.frames.permute(0, 2, 3, 1).numpy()
        edges = frames[:, [0, -1]].max(), frames[:, :, [0, -1]].max()
        if max(edges) < 90:
            return frames
    raise AssertionError("no crop holds the disc")


def evaluation(path: Path, data: DataConfig) -> Frames:
    clips = EvaluationClips(table(path), data, spatial_crops=3)
    sample = clips[ViewKey(0, 1)]
    assert sample.frames is not None
    return sample.frames.permute(0, 2, 3, 1).numpy()


def seen(path: Path, data: DataConfig, how: Callable[..., Any]) -> Frames:
    """What a network sees of it."""
    clips: list[Frames] = []

    def network(batch: Frames) -> NDArray[np.float32]:
        clips.append(batch.copy())
        return np.zeros((len(batch), 2), np.float32)

    how(predictor(network, data), path, probe_file(path))
    return clips[0][0]


def predicted(path: Path, data: DataConfig) -> Frames:
    return seen(path, data, predict_video)


def segmented(path: Path, data: DataConfig) -> Frames:
    def score(model: Predictor, path: Path, info: VideoInfo) -> object:
        return score_windows(model, path, info, None, None, 8)

    return seen(path, data, score)


def live(path: Path, data: DataConfig) -> Frames:
    messages: queue.Queue[Message | Ended] = queue.Queue()
    with live_frames(str(path), data, 1, 60.0, messages.put):
        while True:
            message = messages.get(timeout=100)
            assert isinstance(message, Message) and "failed" not in message.header
            if message.data is not None:
                return np.array(message.data)


NETWORKS = [training, evaluation, predicted, segmented, live]
"""All ways to what a network sees."""


@pytest.mark.parametrize("way", NETWORKS)
def test_a_network_sees_a_disc_as_a_disc(wide: Path, way: Callable[..., Frames]) -> None:
    for frame in way(wide, DATA)[:3]:
        assert frame.shape == (120, 120, 3)
        assert roundness(frame) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("way", NETWORKS)
def test_a_network_that_was_trained_on_stored_pixels_sees_them(
    wide: Path, way: Callable[..., Frames]
) -> None:
    assert roundness(way(wide, STORED)[0]) == pytest.approx(11 / 16, rel=0.02)


@pytest.mark.parametrize("sar", [Fraction(16, 11), Fraction(8, 9), Fraction(1, 2)])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_turned_video_s_pixels_are_turned_too(
    tmp_path: Path, sar: Fraction, rotation: int
) -> None:
    path = write_disc(tmp_path / "a.mov", 160, 176, sar, rotation=rotation)
    info = probe_file(path)
    assert info.rotation == rotation
    aspect = float(1 / sar if rotation in (90, 270) else sar)
    assert info.pixel_aspect == pytest.approx(aspect)
    for way in (training, evaluation, predicted, segmented):
        assert roundness(way(path, DATA)[0]) == pytest.approx(1, abs=0.02), way
    frames = slowfast_dist.read_frames(path, [0, 7])
    assert frames.shape == (2, info.height, round(info.width * aspect), 3)
    assert roundness(frames[1]) == pytest.approx(1, abs=0.02)
    assert roundness(live(path, DATA)[0]) == pytest.approx(1, abs=0.02)


def test_decord_s_frames_are_cut_in_the_same_shape(wide: Path) -> None:
    assert probe_file(wide).decord_exact
    ours, theirs = (training(wide, replace(DATA, decoder=name)) for name in ("pyav", "decord"))
    assert roundness(theirs[0]) == pytest.approx(1, abs=0.02)
    assert np.abs(ours.astype(int) - theirs).max() <= 4  # they round colours in other ways


@pytest.mark.parametrize(
    ("suffix", "codec", "stored"),
    [
        (".mkv", "libx264", "yuv420p"), (".mov", "mpeg4", "yuv420p"),
        (".avi", "mpeg4", "yuv420p"), (".mpg", "mpeg2video", "yuv420p"),
        (".ts", "libx264", "yuv420p"), (".mp4", "libx265", "yuv420p10le"),
        (".mp4", "libvpx-vp9", "yuv420p"), (".mp4", "libsvtav1", "yuv420p"),
        (".mov", "prores_ks", "yuv422p10le"),
    ],
)  # fmt: skip
def test_the_ratio_is_the_container_s_or_the_codec_s(
    tmp_path: Path, suffix: str, codec: str, stored: str
) -> None:
    sar = Fraction(12, 11) if codec == "mpeg2video" else SAR  # MPEG-2 knows shapes of pictures
    path = write_disc(
        tmp_path / f"a{suffix}", 144, 176, sar, codec=codec, pix_fmt=stored, frames=12
    )
    info = probe_file(path)
    assert info.pixel_aspect == pytest.approx(float(sar), rel=0.002)
    assert info.shown_width == pytest.approx(float(sar) * 176, abs=1)
    assert roundness(evaluation(path, DATA)[0]) == pytest.approx(1, abs=0.02)


def test_frames_are_as_wide_as_ffmpeg_s_scale_makes_them(wide: Path) -> None:
    graph = av.filter.Graph()
    with av.open(str(wide)) as container:
        stream = container.streams.video[0]
        source = graph.add_buffer(template=stream)
        tagged, scale = graph.add("setsar", "16/11"), graph.add("scale", "iw*sar:ih")
        square, sink = graph.add("setsar", "1"), graph.add("buffersink")
        source.link_to(tagged)
        tagged.link_to(scale)
        scale.link_to(square)
        square.link_to(sink)
        graph.configure()
        graph.push(next(container.decode(stream)))
        theirs = graph.pull()
    assert isinstance(theirs, av.VideoFrame)
    expected = theirs.to_ndarray(format="rgb24")
    [ours] = slowfast_dist.read_frames(wide, [0])
    assert ours.shape == expected.shape == (144, 256, 3)
    assert np.abs(ours.astype(int) - expected).mean() < 1
    found = slowfast_dist.probe(wide)
    assert (found.width, found.height, found.pixel_aspect) == (256, 144, float(SAR))


def test_the_library_gives_the_stored_pixels_to_the_bit(wide: Path) -> None:
    whole = read_frames(wide, np.array([3]), probe_file(wide), "pyav", None)
    found = slowfast_dist.read_frames(wide, [3], pixel_aspect="stored")
    np.testing.assert_array_equal(found, whole)
    assert found.shape == (1, 144, 176, 3)
    assert slowfast_dist.read_frames(wide, []).shape == (0, 144, 256, 3)
    with pytest.raises(slowfast_dist.UserError, match="give 'square' or 'stored'"):
        slowfast_dist.read_frames(wide, [3], "round")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sar", "expected"),
    [(None, 1), (Fraction(1), 1), (Fraction(1279, 1280), 1), (Fraction(100), 1),
     (Fraction(1, 40), 1), (Fraction(32, 11), 32 / 11)],
)  # fmt: skip
def test_what_is_unknown_nearly_square_or_senseless_counts_as_square(
    tmp_path: Path, sar: Fraction | None, expected: float
) -> None:
    info = probe_file(write_disc(tmp_path / "a.mkv", 96, 128, sar, frames=4))
    assert info.pixel_aspect == pytest.approx(expected)
    assert info.shown_width == round(128 * expected)


def test_squeezed_to_a_square_the_shape_does_not_matter(wide: Path) -> None:
    for way in (training, evaluation, predicted):
        square = replace(DATA, resize="square")
        if way is evaluation:
            continue  # one crop alone
        stored = replace(square, pixel_aspect="stored")
        np.testing.assert_array_equal(way(wide, square), way(wide, stored))


def test_a_prepared_copy_is_as_wide_as_a_player_shows_it(wide: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.mp4"
    made = transcode(wide, target, 96)
    copy = probe_file(target)
    assert (made.width, made.height) == (copy.width, copy.height) == (170, 96)
    assert copy.stated_aspect == 1 and copy.frames == 40
    assert roundness(evaluation(target, STORED)[0]) == pytest.approx(1, abs=0.02)


def test_a_copy_that_keeps_the_stored_shape_says_of_what_shape_its_pixels_are(
    wide: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy.mp4"
    transcode(wide, target, 96, pixel_aspect="stored")
    copy = probe_file(target)
    assert (copy.width, copy.height) == (118, 96)
    assert copy.shown_width == pytest.approx(96 * 176 / 144 * 16 / 11, abs=1)
    assert roundness(evaluation(target, DATA)[0]) == pytest.approx(1, abs=0.02)
    assert roundness(evaluation(target, STORED)[0]) == pytest.approx(11 / 16, rel=0.02)


def test_an_annotated_copy_has_square_pixels(wide: Path, tmp_path: Path) -> None:
    model = predictor(data=DATA)
    info = probe_file(wide)
    scores = score_windows(model, wide, info, None, None, 8)
    segments = find_segments(scores, model.classes, None)
    target = tmp_path / "annotated.mp4"
    annotate(wide, info, target, SegmentedVideo(scores, segments, model.classes, None))
    copy = probe_file(target)
    assert (copy.width, copy.height, copy.stated_aspect) == (256, 144, 1)
    [frame] = read_frames(target, np.array([5]), copy, "pyav", None)
    upper = frame[:72]  # half of the disc; captions are below
    assert roundness(np.concatenate([upper, upper[::-1]])) == pytest.approx(1, abs=0.02)


def test_thumbnails_and_excerpts_are_for_people(wide: Path, tmp_path: Path) -> None:
    from slowfast_dist.report import thumbnails

    info = probe_file(wide)
    assert thumbnail_size(info.shown_width, info.height) == (176, 99)
    reader = GuardedReader()
    drawn = thumbnails.draw(reader, wide, info, np.array([0, 9]))
    for jpeg in drawn.pictures:
        drawing = Image.open(BytesIO(jpeg))
        assert drawing.size == (176, 99)
        assert roundness(np.asarray(drawing)) == pytest.approx(1, abs=0.02)
    target = tmp_path / "excerpt.mp4"
    target.write_bytes(excerpt(wide, info, "auto", False, reader))
    reader.close()
    [frame] = slowfast_dist.read_frames(target, [0])
    assert frame.shape == (144, 256, 3)
    assert roundness(frame) == pytest.approx(1, abs=0.02)


def test_a_live_source_s_pixels_are_said_once(
    wide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(predictor(data=STORED), str(wide), Predict(window=0.4, stride=0.4, json=True))
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) > 1
    [line] = shown.err.splitlines()
    assert "the video has pixels that are not square (16:11), read as they are stored" in line
