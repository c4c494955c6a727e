"""Live sources that are real servers on this machine: what they show now, or one clear line."""

import json
import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.commands.predict.live import safe_name, watch
from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.video.live import LATE_SECONDS, Pace
from tests.helpers.predictors import brightness, predictor

FPS = 25
TIMEOUT = 60
"""Seconds of silence after which a source is given up, for a test that is not about them: this
machine may be busy."""

HALF = Predict(window=0.4, stride=0.2, timeout=TIMEOUT, json=True)
GROUP = 10
"""Frames from one keyframe to the next."""

X264 = {
    "preset": "ultrafast", "tune": "zerolatency", "g": str(GROUP),
    "x264-params": "repeat-headers=1",
}  # fmt: skip


class Pieces:
    """A file that hands over what was written since."""

    def __init__(self) -> None:
        self._data = b""

    def write(self, data: bytes) -> int:
        self._data += bytes(data)
        return len(data)

    def take(self) -> bytes:
        data, self._data = self._data, b""
        return data


def frames(shades: Iterable[int]) -> Iterator[av.VideoFrame]:
    """One after the other as a camera gives them: grey pictures of 48 x 48 px."""
    begin = time.monotonic()
    for number, shade in enumerate(shades):
        time.sleep(max(0.0, begin + number / FPS - time.monotonic()))
        image = np.full((48, 48, 3), shade, np.uint8)
        yield av.VideoFrame.from_ndarray(image, format="rgb24")


def encode(container: Any, shades: Iterable[int]) -> Iterator[None]:
    stream = container.add_stream("libx264", rate=FPS, options=X264)
    stream.width = stream.height = 48
    stream.pix_fmt = "yuv420p"
    for frame in frames(shades):
        container.mux(stream.encode(frame))
        yield
    container.mux(stream.encode(None))


DARK, LIGHT = 20, 230


class Scenes:
    """A dark source until so many windows of it were scored, then a light one until as many were:
    then it ends, as it does where none is within a minute."""

    def __init__(self, windows: int) -> None:
        self._windows = windows
        self._scored = 0
        self.light = 0
        """Frames shown."""

    def network(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = brightness(clips)
        self._scored += 1
        return logits

    def __iter__(self) -> Iterator[int]:
        for shade in (DARK, LIGHT):
            before = self._scored
            for _ in range(60 * FPS):
                if self._scored - before >= self._windows:
                    break
                self.light += shade == LIGHT
                yield shade


class Camera(BaseHTTPRequestHandler):
    """MPEG-TS over HTTP, 25 frames a second: /COUNT dark ones, /COUNT/stall, which then says no
    more, and /scenes, those of its server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        _, what, *stall = self.path.partition("?")[0].split("/")
        scenes: Iterable[int] = self.server.scenes  # type: ignore[attr-defined]
        shades = scenes if what == "scenes" else repeat(DARK, int(what))
        pieces = Pieces()
        try:
            with av.open(pieces, "w", format="mpegts") as container:
                for _ in encode(container, shades):
                    self.wfile.write(pieces.take())
            self.wfile.write(pieces.take())
            if stall:
                self.rfile.read(1)  # until who watches has gone
        except OSError:  # who watched has gone
            pass

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(scenes: Iterable[int] = ()) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        server.daemon_threads = True
        server.scenes = scenes  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def camera() -> Iterator[str]:
    with serving() as address:
        yield address


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_is_shown_now_is_printed_until_it_ends(capsys, new_children):
    scenes = Scenes(windows=4)
    with serving(scenes) as camera:
        address = f"http://user:secret@{camera}/scenes?token=secret"
        watch(predictor(scenes.network), address, HALF)
    printed = lines(capsys)
    labels = [line["prediction"] for line in printed]
    assert len(printed) >= 8 and labels == sorted(labels)
    # The last line is of its last frame, or of the last keyframe where this machine was late.
    light = (scenes.light - 1) / FPS
    for line in printed:
        ago = printed[-1]["time"] - line["time"]
        if line["prediction"] == "light":
            assert ago <= light
        else:  # of a window of .4 s some is dark
            assert ago >= light - 0.4 - GROUP / FPS
    assert printed[-1]["confidence"] > 0.9
    assert all(line["source"] == f"http://{camera}/scenes" for line in printed)
    assert not new_children()


def test_a_slow_model_drops_frames_and_does_not_lag(camera, capsys, new_children):
    """Each window takes .6 s and shows .2 s of the source: two thirds of it are never seen.

    Without that, each would be .4 s later than the one before.
    """

    def slow(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(0.6)
        return brightness(clips)

    command = Predict(window=0.2, timeout=TIMEOUT, json=True, seconds=5)
    watch(predictor(slow), f"http://{camera}/5000", command)
    printed = lines(capsys)
    assert 4 <= len(printed) <= 9
    shown = FPS * (printed[-1]["time"] - printed[0]["time"])
    dropped = printed[-1]["dropped"] - printed[0]["dropped"]
    # 5 in a window, or 6 by their rounding
    assert shown - 6 * (len(printed) - 1) <= dropped < shown
    # What one window takes, whatever came before; and the machine may stop for a moment.
    assert min(line["lag"] for line in printed[-3:]) < 2
    assert not new_children()


def test_seconds_end_it_and_a_line_for_people(camera, capsys):
    begin = time.monotonic()
    command = Predict(window=0.3, timeout=TIMEOUT, seconds=0.6)
    watch(predictor(), f"http://{camera}/5000", command)
    assert time.monotonic() - begin < 100  # it lasts 200 s
    (first, *_) = capsys.readouterr().out.splitlines()
    assert re.search(r"  dark +\d+\.\d%  dropped \d+  lag \d+\.\d\d s$", first)


def test_a_source_that_falls_silent_is_given_up(camera, capsys, new_children):
    with pytest.raises(RunError, match=r"/20/stall: fell silent for 4 s: given up \(--timeout\)"):
        watch(predictor(), f"http://{camera}/20/stall", Predict(window=0.2, timeout=4))
    assert "dark" in capsys.readouterr().out
    assert not new_children()


def test_a_process_that_hangs_is_given_up(camera, capsys, new_children):
    """As in a camera's driver: no time limit of FFmpeg's ends that."""

    def stop(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        for child in new_children():
            child.suspend()
        return brightness(clips)

    with pytest.raises(RunError, match=r"/5000: fell silent for 4 s: given up \(--timeout\)"):
        watch(predictor(stop), f"http://{camera}/5000", Predict(window=0.2, timeout=4))
    assert "dark" in capsys.readouterr().out
    assert not new_children()


def test_the_end_is_printed_before_it_is_due(camera, capsys):
    watch(predictor(), f"http://{camera}/20", replace(HALF, stride=60.0))
    first, last = lines(capsys)
    assert last["time"] - first["time"] > 0.2  # of .76 s; where this machine was late, a keyframe's


def test_what_is_not_a_number_is_no_line(camera, capsys, new_children):
    def broken(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return brightness(clips) * np.float32("nan")

    with pytest.raises(RunError, match="the model's output is not a number"):
        watch(predictor(broken), f"http://{camera}/5000", HALF)
    assert capsys.readouterr().out == "" and not new_children()


@contextmanager
def silent_port() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp"])
def test_a_server_that_does_not_answer_is_one_line_in_time(scheme):
    with silent_port() as port:
        begin = time.monotonic()
        with pytest.raises(RunError, match="sent no picture for 1 s") as error:
            watch(predictor(), f"{scheme}://me:secret@127.0.0.1:{port}/x", Predict(timeout=1))
    assert time.monotonic() - begin < 100 and "secret" not in str(error.value)


def test_a_closed_port_and_a_wrong_name_are_one_line():
    with socket.socket() as taken:  # so that nobody else comes to listen there
        taken.bind(("127.0.0.1", 0))
        for address, reason in (
            (f"rtsp://127.0.0.1:{taken.getsockname()[1]}/x", "Connection refused"),
            ("http://no.such.host.invalid/x", "host no.such.host.invalid: "),
            ("nonsense://127.0.0.1/x", "Protocol not found"),
        ):
            with pytest.raises(RunError, match=reason):
                watch(predictor(), address, Predict(timeout=TIMEOUT))


def test_a_camera_that_is_not_there():
    with pytest.raises(UserError, match="INPUT 77: there is no camera /dev/video77"):
        watch(predictor(), "77", Predict())


# --- RTSP ----------------------------------------------------------------------------------------

SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=test
c=IN IP4 127.0.0.1
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1
a=control:track
"""

ANSWERS = {
    "OPTIONS": "Public: DESCRIBE, SETUP, PLAY\r\n",
    "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n",
    "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
    "PLAY": "Session: 1\r\n",
}


class RtspCamera(socketserver.StreamRequestHandler):
    """As little of RFC 2326 as a camera needs: 50 frames, over the connection itself."""

    def handle(self) -> None:
        method = ""
        while method != "PLAY":
            head = [line.decode().strip() for line in iter(self.rfile.readline, b"\r\n")]
            if not head:
                return
            method = head[0].split()[0]
            number = next(line for line in head if line.lower().startswith("cseq"))
            body = SDP if method == "DESCRIBE" else ""
            answer = f"RTSP/1.0 200 OK\r\n{number}\r\n{ANSWERS.get(method, '')}\r\n{body}"
            self.wfile.write(answer.encode())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
            packets.bind(("127.0.0.1", 0))
            packets.settimeout(TIMEOUT)
            port = packets.getsockname()[1]
            threading.Thread(target=self._film, args=(port,), daemon=True).start()
            try:
                while True:
                    packet = packets.recv(65536)
                    self.wfile.write(b"$\0" + len(packet).to_bytes(2, "big") + packet)
            except OSError:  # the film is over, or who watched has gone
                return

    def _film(self, port: int) -> None:
        with av.open(f"rtp://127.0.0.1:{port}", "w", format="rtp") as container:
            for _ in encode(container, repeat(LIGHT, 50)):
                pass


def test_rtsp(capsys):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), RtspCamera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"rtsp://127.0.0.1:{server.server_address[1]}/x"
        watch(predictor(), address, Predict(window=0.4, timeout=TIMEOUT, json=True, seconds=1.0))
        server.shutdown()
    printed = lines(capsys)
    assert printed and {line["prediction"] for line in printed} == {"light"}


def test_a_source_read_too_slowly_is_caught_up_with():
    pace = Pace(is_file=False)
    arrivals = [50.0, 51.5, 52.1 + LATE_SECONDS, 53.7, 54.2]
    found = [(pace.of(own, now), pace.behind) for own, now in enumerate(arrivals)]
    assert [late for late, _ in found] == pytest.approx([0, 0.5, 1.1, 0.7, 0.2])
    assert [behind for _, behind in found] == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("0", "camera 0"),
        ("rtsp://user:p@ss@cam.local:554/live?pwd=x#y", "rtsp://cam.local:554/live"),
        ("http://[::1", "http://…"),
        ("rtsp://a:b@\n/x", "rtsp:///x"),
    ],
)
def test_no_secret_of_an_address_is_shown(address, name):
    assert safe_name(address) == name
