"""What the probe says of a video's light, fields and alpha, and the words for people."""

from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.listing.video_table import count_pictures
from slowfast_dist.video.pictures import PictureCounts, picture_notes
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.transcode import transcode
from tests.helpers.shapes import write_disc

PQ, HLG = 16, 18
"""Codes of transfer functions, ITU-T H.273."""


@pytest.mark.parametrize(("code", "light"), [(PQ, "pq"), (HLG, "hlg"), (1, "sdr"), (14, "sdr")])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.mp4", "libx265", "yuv420p10le"), ("a.mkv", "libsvtav1", "yuv420p10le"),
     ("a.mov", "prores_ks", "yuv422p10le"), ("a.mp4", "libx264", "yuv420p")],
)  # fmt: skip
def test_light_is_found(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, code: int, light: str
) -> None:
    path = write_disc(
        tmp_path / name, 96, 128, None, codec=codec, pix_fmt=pix_fmt, frames=4, color_trc=code,
        color_primaries=9, colorspace=9,
    )  # fmt: skip
    assert probe_file(path).light == light


def test_a_prepared_copy_of_hdr_is_still_called_so(tmp_path: Path) -> None:
    source = write_disc(
        tmp_path / "a.mp4", 96, 128, None, codec="libx265", pix_fmt="yuv420p10le", color_trc=PQ
    )
    transcode(source, tmp_path / "copy.mp4", 64)
    assert probe_file(tmp_path / "copy.mp4").light == "pq"


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("a.mp4", "libx264", {"flags": "+ildct+ilme", "x264-params": "tff=1"}),
     ("a.ts", "mpeg2video", {"flags": "+ildct+ilme"}),
     ("a.mkv", "ffv1", {})],
)  # fmt: skip
def test_fields_are_found(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    fields = codec != "ffv1"
    path = write_disc(tmp_path / name, 96, 128, None, codec=codec, options=options, frames=6)
    assert probe_file(path).interlaced is fields


def _rgba(alpha: int) -> NDArray[np.uint8]:
    return np.dstack([np.full((48, 64, 3), 100, np.uint8), np.full((48, 64), alpha, np.uint8)])


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.mov", "qtrle", "argb"), ("a.mov", "png", "rgba"), ("a.mkv", "ffv1", "bgra"),
     ("a.mov", "prores_ks", "yuva444p10le")],
)  # fmt: skip
@pytest.mark.parametrize("alpha", [255, 90])
def test_alpha_counts_where_something_is_transparent(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, alpha: int
) -> None:
    options = {"profile": "4444"} if codec == "prores_ks" else {}
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, pix_fmt
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(_rgba(alpha), format="rgba")
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    assert probe_file(tmp_path / name).alpha is (alpha < 255)


def counts(*infos: VideoInfo) -> PictureCounts:
    return count_pictures(InfoColumns.of(infos))


def info(**facts: object) -> VideoInfo:
    return VideoInfo(30, 25.0, 64, 48, 0, "h264", True, **facts)  # type: ignore[arg-type]


def test_usual_videos_are_worth_no_word() -> None:
    usual = counts(info(), info(stated_aspect=16 / 11))
    assert picture_notes(usual) == []
    trained = {"videos": 9, "hdr": 0, "interlaced": 0, "alpha": 0, "not_square": 0}
    assert picture_notes(usual, None, trained) == []


def test_each_fact_is_one_line_with_its_count() -> None:
    mixed = counts(
        info(light="pq"), info(light="pq"), info(light="hlg"), info(), info(interlaced=True),
        info(alpha=True), info(alpha=True), info(stated_aspect=50.0),
    )  # fmt: skip
    hdr, fields, alpha, shape = picture_notes(mixed)
    assert hdr.startswith("3 of 8 videos are HDR (HLG 1, PQ 2), the others not: read as if")
    assert fields.startswith("1 of 8 videos is interlaced, the others not: ")
    assert alpha.startswith("2 of 8 videos are partly transparent, the others not: alpha is")
    assert shape == "1 of 8 videos has pixels of a shape that no video has (50:1): read as square"
    every = counts(info(light="pq"), info(light="pq"))
    [line] = picture_notes(every)
    kinetics = "the networks pretrained on Kinetics"
    assert line.startswith(f"all 2 videos are HDR (PQ 2), unlike what {kinetics} saw: ")
    [line] = picture_notes(counts(info(interlaced=True)))
    assert line.startswith("the video is interlaced: the two fields")


def test_stored_pixels_are_counted_with_the_worst() -> None:
    videos = counts(info(stated_aspect=16 / 11), info(stated_aspect=8 / 9), info())
    [line] = picture_notes(videos, "--data.pixel-aspect stored")
    assert line == (
        "2 of 3 videos have pixels that are not square (16:11, 8:9), read as they are stored, up "
        "to 1.45 times too narrow: --data.pixel-aspect stored"
    )


def test_what_the_training_videos_were_is_compared() -> None:
    sdr = {"videos": 9, "hdr": 0, "interlaced": 0, "alpha": 0, "not_square": 0}
    hdr = {**sdr, "hdr": 9}
    [line] = picture_notes(counts(info(light="hlg")), None, sdr)
    assert line.startswith("the video is HDR (HLG 1), and of the 9 training videos none were: ")
    assert picture_notes(counts(info(light="hlg")), None, hdr) == []
    [line] = picture_notes(counts(info(), info()), None, hdr)
    assert line == "none of 2 videos are HDR, and of the 9 training videos 9 were"
    assert picture_notes(counts(info()), None, {**sdr, "hdr": 1}) == []  # they were mixed
    assert counts(info(light="pq"), info(stated_aspect=2.0)).as_facts() == {
        "videos": 2, "hdr": 1, "interlaced": 0, "alpha": 0, "not_square": 1
    }  # fmt: skip


def test_counts_of_two_sides_add_up() -> None:
    both = counts(info(light="pq"), info()) + counts(info(light="pq", stated_aspect=2.0))
    assert (both.videos, both.hdr, both.not_square) == (3, 2, Counter({2.0: 1}))
