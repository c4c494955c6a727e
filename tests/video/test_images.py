"""A folder of numbered images is a video: their own pixels, in natural order, at their times."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.images.listing import find_sequence
from slowfast_dist.video.ordered_reader import open_in_order
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames, read_views
from slowfast_dist.video.thumbnails import read_thumbnails
from slowfast_dist.video.transcode import transcode
from slowfast_dist.video.views import SpatialView, apply_view

Pixels = NDArray[np.uint8]


def pictures(count: int, height: int = 24, width: int = 32) -> Pixels:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def write(folder: Path, frames: Pixels, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True)
    for frame, name in zip(frames, names, strict=True):
        Image.fromarray(frame).save(folder / name, quality=90)
    return folder


def test_png_gives_its_own_pixels_in_natural_order_through_every_reader(tmp_path: Path) -> None:
    frames = pictures(6)
    folder = write(tmp_path / "a", frames, [f"f_{n}.png" for n in range(7, 13)])
    info = probe_file(folder, image_fps=25)
    assert (info.frames, info.fps, info.width, info.height, info.missing_images) == (
        6, 25.0, 32, 24, 0
    )  # fmt: skip
    assert not info.uneven_times
    wanted = np.array([5, 0, 3, 3])
    assert (read_frames(folder, wanted, info, "auto", None) == frames[wanted]).all()
    views = [SpatialView(2, 4, 20, 20, 16, False), SpatialView(2, 4, 20, 20, 16, True)]
    expected = np.stack([apply_view(frames[wanted], view) for view in views])
    assert (read_views(folder, wanted, info, "auto", views) == expected).all()
    guarded = GuardedReader()
    assert (guarded.read_views(folder, wanted, info, "auto", views) == expected).all()
    guarded.close()
    with open_in_order(folder, info) as ordered:
        for number, time, frame in ordered.read([1, 4]):
            assert time == number / 25 and (frame.to_ndarray() == frames[number]).all()


def test_jpeg_is_as_pillow_and_opencv_decode_it_and_turned_by_exif(tmp_path: Path) -> None:
    smooth = cv2.GaussianBlur(pictures(1)[0], (9, 9), 3)
    exif = Image.Exif()
    for orientation in range(1, 9):
        folder = tmp_path / str(orientation)
        folder.mkdir()
        exif[0x0112] = orientation
        for kind in ("jpg", "png"):
            for number in (1, 2):
                path = folder / f"{kind}{number}.{kind}"
                Image.fromarray(smooth).save(path, exif=exif)
            for number in (1, 2):
                path.with_name(f"{kind}{number}.{kind}").rename(folder / f"{number}.{kind}")
            info = probe_file(folder, 10)
            [read] = read_frames(folder, np.array([1]), info, "auto", None)
            with Image.open(folder / f"2.{kind}") as image:
                assert (read == np.asarray(ImageOps.exif_transpose(image))).all()
            if kind == "jpg":
                told = cv2.imread(str(folder / "2.jpg"), cv2.IMREAD_COLOR)
                assert told is not None and (read == told[..., ::-1]).all(), orientation
            for path in folder.iterdir():
                path.unlink()


def test_16_bits_palettes_grey_and_alpha_are_as_in_a_video_of_png(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    colours = pictures(2)
    kinds: dict[str, list[bytes]] = {
        "16 bits": [encoded(rng.integers(0, 65536, (24, 32, 3), dtype=np.uint16)) for _ in "ab"],
        "grey 16": [encoded(rng.integers(0, 65536, (24, 32), dtype=np.uint16)) for _ in "ab"],
        "grey": [encoded(rng.integers(0, 256, (24, 32), dtype=np.uint8)) for _ in "ab"],
        "alpha": [encoded(rng.integers(0, 256, (24, 32, 4), dtype=np.uint8)) for _ in "ab"],
        "palette": [palette(frame) for frame in colours],
    }
    for kind, contents in kinds.items():
        folder = tmp_path / kind
        folder.mkdir()
        with av.open(str(tmp_path / f"{kind}.mov"), "w") as container:
            stream = container.add_stream("png", rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 24, "rgb24"
            for number, content in enumerate(contents):
                (folder / f"{number}.png").write_bytes(content)
                packet = av.Packet(content)
                packet.stream, packet.is_keyframe = stream, True
                packet.pts = packet.dts = number
                packet.time_base = Fraction(1, 25)
                container.mux(packet)
        both = []
        for path in (folder, tmp_path / f"{kind}.mov"):
            info = probe_file(path, 25)
            both.append(read_frames(path, np.array([0, 1]), info, "auto", None))
            assert info.alpha == (kind == "alpha"), kind
        assert (both[0] == both[1]).all(), kind


def encoded(picture: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1].tobytes())


def palette(picture: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).quantize(16).save(file, "PNG")
    return file.getvalue()


def test_the_numbers_tell_order_times_and_what_is_missing(tmp_path: Path) -> None:
    names = ["img_8.png", "img_0009.PNG", "img_10.jpeg", "img_12.jpg", "img_15.jpg"]
    folder = write(tmp_path / "a", pictures(5), names)
    for other in ("flow_x_8.jpg", "flow_y_8.jpg", "cover.jpg", "fps.txt"):
        (folder / other).write_text("10\n")
    info = probe_file(folder, image_fps=99)  # what the folder says counts
    times = info.times()
    assert times is not None and times.tolist() == pytest.approx([0, 0.1, 0.2, 0.4, 0.7])
    assert info.missing_images == 3 and info.mean_rate() == pytest.approx(4 / 0.7)
    tenth = find_sequence(f"{n}.jpg" for n in (0, 10, 20, 40))
    assert tenth is not None and (tenth.step, tenth.missing) == (10, 1)
    target = tmp_path / "copy.mp4"
    assert transcode(folder, target, 24).frames == 5
    assert probe_file(target).times() == pytest.approx(times, abs=1e-4)
    assert len(read_thumbnails(folder, full=True)) == 5


def test_numbers_and_files_have_a_largest_size(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", pictures(2), ["1.png", f"{10**15}.png"])
    assert probe_file(folder, image_fps=25).frames == 2
    (folder / f"{10**15}.png").rename(folder / "999999999999999999.png")
    with pytest.raises(DecodeError, match="numbers of 1.png and 9{18}.png are more than 1,000,"):
        probe_file(folder, image_fps=25)
    (folder / "999999999999999999.png").rename(folder / "2.png")
    info = probe_file(folder, image_fps=25)
    with open(folder / "2.png", "r+b") as file:
        file.truncate(2**29 + 1)  # its pixels are all there
    for read in (
        lambda: probe_file(folder, image_fps=25),
        lambda: read_frames(folder, np.array([1]), info, "auto", None),
    ):
        with pytest.raises(DecodeError, match="2.png has more than 536,870,912 bytes"):
            read()


def test_what_is_no_such_video_says_why(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", pictures(2), ["1.png", "2.png"])
    with pytest.raises(DecodeError, match=r"give --data.image-fps .* or write .* fps.txt"):
        probe_file(folder)
    (folder / "fps.txt").write_text("fast")
    with pytest.raises(DecodeError, match="fps.txt holds 'fast': write one number"):
        probe_file(folder)
    (folder / "fps.txt").write_text("30000/1001")
    info = probe_file(folder)
    (folder / "2.png").write_bytes((folder / "1.png").read_bytes()[:-30])
    with pytest.raises(DecodeError, match="2.png: damaged"):
        read_frames(folder, np.array([0, 1]), info, "auto", None)
    Image.fromarray(pictures(1, 24, 30)[0]).save(folder / "2.png")
    with pytest.raises(DecodeError, match="several sizes: 2.png is of 30 x 24 pixels, 1.png of 32"):
        probe_file(folder)
    with pytest.raises(DecodeError, match="2.png is of 30 x 24 pixels, the video of 32 x 24"):
        read_frames(folder, np.array([0, 1]), info, "auto", None)
    (folder / "02.jpg").touch()
    with pytest.raises(DecodeError, match="number 2 is there twice, 02.jpg and 2.png"):
        probe_file(folder)
    (folder / "02.jpg").rename(folder / "left_3.png")
    with pytest.raises(DecodeError, match="2 sequences, as 1.png and left_3.png"):
        probe_file(folder)
    for name in ("left_3.png", "2.png"):
        (folder / name).unlink()
    with pytest.raises(DecodeError, match="a folder without 2 numbered images"):
        probe_file(folder)
    (folder / "2.jpg").write_text("no image")
    with pytest.raises(DecodeError, match="2.jpg: neither JPEG nor PNG"):
        probe_file(folder)
    Image.fromarray(pictures(1)[0]).save(folder / "2.jpg")
    content = (folder / "2.jpg").read_bytes()
    (folder / "2.jpg").write_bytes(content[: len(content) * 4 // 5])
    with pytest.raises(DecodeError, match="2.jpg: image file is truncated"):
        probe_file(folder)
