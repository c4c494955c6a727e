"""Live sources that are real servers on this machine: what they show now, or one clear line."""

import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.config import RunError, UserError
from slowfast_dist.data.live_source import LATE_SECONDS, Pace
from slowfast_dist.data.stream_process import Message
from slowfast_dist.model_settings import Predict
from slowfast_dist.prediction.live import safe_name, watch
from slowfast_dist.prediction.live_window import DENSITY, NewestFrames, Window
from tests.prediction.predictors import SMALL, UNIFORM, brightness, predictor

FPS = 25
HALF = Predict(window=0.4, stride=0.2, timeout=5, json=True)
X264 = {"preset": "ultrafast", "tune": "zerolatency", "g": "10", "x264-params": "repeat-headers=1"}


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


def frames(count: int, shade: Callable[[int], int]) -> Iterator[av.VideoFrame]:
    """One after the other as a camera gives them: grey pictures of 48 x 48 px."""
    begin = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begin + number / FPS - time.monotonic()))
        image = np.full((48, 48, 3), shade(number), np.uint8)
        yield av.VideoFrame.from_ndarray(image, format="rgb24")


def encode(container: Any, count: int, shade: Callable[[int], int]) -> Iterator[None]:
    stream = container.add_stream("libx264", rate=FPS, options=X264)
    stream.width = stream.height = 48
    stream.pix_fmt = "yuv420p"
    for frame in frames(count, shade):
        container.mux(stream.encode(frame))
        yield
    container.mux(stream.encode(None))


def dark_then_light(number: int) -> int:
    return 20 if number < 50 else 230


class Camera(BaseHTTPRequestHandler):
    """MPEG-TS over HTTP, 25 frames a second: /COUNT, and /COUNT/stall, which then says no more."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        _, count, *stall = self.path.partition("?")[0].split("/")
        pieces = Pieces()
        try:
            with av.open(pieces, "w", format="mpegts") as container:
                for _ in encode(container, int(count), dark_then_light):
                    self.wfile.write(pieces.take())
            self.wfile.write(pieces.take())
            if stall:
                time.sleep(20)
        except OSError:  # who watched has gone
            pass

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def camera() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_is_shown_now_is_told_until_it_ends(camera, capsys, new_children):
    watch(predictor(), f"http://user:secret@{camera}/80?token=secret", HALF)
    told = lines(capsys)
    labels = [line["prediction"] for line in told]
    assert len(told) >= 6 and labels == sorted(labels) and set(labels) == {"dark", "light"}
    # It changes 1.2 s before its end; of a window of .4 s half is dark .2 s later.
    changed = next(line["time"] for line in told if line["prediction"] == "light")
    assert 0.5 <= told[-1]["time"] - changed <= 1.2 and told[-1]["confidence"] > 0.9
    assert all(line["source"] == f"http://{camera}/80" for line in told)
    assert not new_children()


def test_a_slow_model_drops_frames_and_does_not_lag(camera, capsys, new_children):
    """Each window takes .6 s and shows .2 s of the source: two thirds of it are never seen."""

    def slow(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(0.6)
        return brightness(clips)

    command = Predict(window=0.2, timeout=5, json=True, seconds=4)
    watch(predictor(slow), f"http://{camera}/1000", command)
    told = lines(capsys)
    assert 4 <= len(told) <= 8
    assert told[-1]["dropped"] > 0.4 * FPS * (told[-1]["time"] - told[0]["time"])
    assert all(line["lag"] < 2 for line in told)  # what one window takes, whatever came before
    assert not new_children()


def test_seconds_end_it_and_a_line_for_people(camera, capsys):
    begin = time.monotonic()
    watch(predictor(), f"http://{camera}/1000", Predict(window=0.3, timeout=5, seconds=0.6))
    assert time.monotonic() - begin < 15
    (first, *_) = capsys.readouterr().out.splitlines()
    assert "dark" in first and "%" in first and "dropped 0" in first and "lag" in first


def test_a_source_that_falls_silent_is_given_up(camera, capsys, new_children):
    begin = time.monotonic()
    with pytest.raises(RunError, match=r"/40/stall: fell silent for 1 s: given up \(--timeout\)"):
        watch(predictor(), f"http://{camera}/40/stall", Predict(window=0.2, timeout=1))
    assert time.monotonic() - begin < 15
    assert "dark" in capsys.readouterr().out
    assert not new_children()


def test_what_is_not_a_number_is_no_line(camera, capsys, new_children):
    def broken(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return brightness(clips) * np.float32("nan")

    with pytest.raises(RunError, match="the model's output is not a number"):
        watch(predictor(broken), f"http://{camera}/1000", HALF)
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
    assert time.monotonic() - begin < 15 and "secret" not in str(error.value)


def test_a_closed_port_and_a_wrong_name_are_one_line():
    with silent_port() as port:
        pass
    for address, reason in (
        (f"rtsp://127.0.0.1:{port}/x", "Connection refused"),
        ("http://no.such.host.invalid/x", "host no.such.host.invalid: "),
        ("nonsense://127.0.0.1/x", "Protocol not found"),
    ):
        with pytest.raises(RunError, match=reason):
            watch(predictor(), address, Predict(timeout=5))


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
            packets.settimeout(1)
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
            for _ in encode(container, 50, lambda number: 230):
                pass


def test_rtsp(capsys):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), RtspCamera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"rtsp://127.0.0.1:{server.server_address[1]}/x"
        watch(predictor(), address, Predict(window=0.4, timeout=5, json=True, seconds=1.0))
        server.shutdown()
    told = lines(capsys)
    assert told and {line["prediction"] for line in told} == {"light"}


# --- the buffer ----------------------------------------------------------------------------------


def add(newest: NewestFrames, number: int, at: float, skipped: int = 0) -> None:
    header = {"time": at, "arrived": at, "late": 0.0, "skipped": skipped}
    newest.add(Message(header, np.full((1, 4, 4, 3), number % 256, np.uint8)))


def taken(newest: NewestFrames) -> Window:
    window = newest.take()
    assert window is not None
    return window


def test_a_dense_window_is_the_newest_clip_and_what_nobody_saw_is_counted():
    newest = NewestFrames(SMALL, None)
    assert newest.take() is None
    for number in range(40):
        assert newest.full == (number >= 15)
        add(newest, number, number / 25)
    window = taken(newest)
    assert window.clips[0, :, 0, 0, 0].tolist() == list(range(25, 40, 2))
    assert window.dropped == 25 and not newest.unseen
    for number in range(40, 50):
        add(newest, number, number / 25, skipped=3)
    window = taken(newest)
    assert window.dropped == 28  # all that came since is in the window


@pytest.mark.parametrize("rate", [10, 1000])
def test_a_long_window_of_a_quick_source_is_bounded_and_even(rate):
    newest = NewestFrames(UNIFORM, 4.0)
    for number in range(10 * rate):
        add(newest, 0, number / rate)
    assert len(newest._frames) <= 2 * DENSITY * UNIFORM.num_frames + 1
    window = taken(newest)
    assert window.clips.shape == (1, 8, 4, 4, 3)
    assert window.last.time == pytest.approx(10 - 1 / rate)
    assert window.start == pytest.approx(6.0, abs=0.3)


def test_a_clock_that_is_set_anew_begins_a_new_window():
    newest = NewestFrames(UNIFORM, 1.0)
    for number in range(40):
        add(newest, number, 100 + number / 10)
    before = newest.full
    add(newest, 200, 3.0)
    assert (before, newest.full) == (True, False)
    window = taken(newest)
    assert set(window.clips.ravel()) == {200}


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
