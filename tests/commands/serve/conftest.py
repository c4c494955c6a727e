"""One small model and a few videos for the tests of the server."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path

import av
import numpy as np
import pytest

from slowfast_dist.data.synthetic import MOTIONS, moving_disc
from slowfast_dist.video.writer import write_video
from tests.helpers.serving import CLASSES, Server
from tests.helpers.small_model import write_model


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("serve") / "demo" / "models", CLASSES, (2, 1), 40)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds, 128 x 128 px: a disc that moves, then black, which the model takes for another
    class."""
    path = tmp_path_factory.mktemp("video") / "a 100% <real> vidéo.mp4"
    disc = moving_disc(MOTIONS["moves left"], 128, 30, np.random.default_rng(0))
    write_video(path, chain(disc, repeat(np.zeros((128, 128, 3), np.uint8), 30)), 15)
    return path


@pytest.fixture(scope="session")
def unplayable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of MPEG-4 part 2, which no browser plays."""
    path = tmp_path_factory.mktemp("video") / "old.avi"
    disc = moving_disc(MOTIONS["turns clockwise"], 64, 30, np.random.default_rng(1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=15)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        for frame in disc:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def black(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int, float], bytes]:
    """Black videos of so many frames, at a size, frames a second."""
    folder = tmp_path_factory.mktemp("black")

    def make(frames: int, size: int, rate: float) -> bytes:
        path = folder / f"{frames}-{size}-{rate}.mp4"
        if path.exists():
            return path.read_bytes()
        picture = av.VideoFrame(size, size, "yuv420p")
        for plane, value in zip(picture.planes, (16, 128, 128), strict=True):
            plane.update(np.full(plane.buffer_size, value, np.uint8).tobytes())
        with av.open(str(path), "w") as container:
            stream = container.add_stream(
                "libx264", rate=Fraction(str(rate)), options={"preset": "ultrafast"}
            )
            assert isinstance(stream, av.VideoStream)
            stream.width = stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = 1 / Fraction(str(rate))
            for number in range(frames):
                picture.pts = number
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        return path.read_bytes()

    return make


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that takes a megabyte and 30 seconds of video."""
    folder = tmp_path_factory.mktemp("server")
    flags = ("--max-megabytes", "1", "--max-seconds", "30", "--mixed-precision", "no")
    with Server(run, folder, *flags) as server:
        yield server
        assert server.log.read_text() == ""
