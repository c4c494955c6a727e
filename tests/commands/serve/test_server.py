"""The server as programs use it, and as they misuse it: a real process, real videos, over HTTP."""

import base64
import contextlib
import hashlib
import json
import re
import shutil
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from slowfast_dist.commands.predict.videos import predict_video, probe_video
from slowfast_dist.inference.predictor import open_predictor
from tests.helpers.serving import BINARY, CLASSES, LINES, Server
from tests.helpers.shapes import write_disc

# What it answers


def test_a_video_gives_the_classes_of_predict_and_segments_from_its_start_to_its_end(
    server: Server, run: Path, video: Path
) -> None:
    status, answer = server.predict(video.read_bytes())
    assert status == 200
    assert set(answer) == {"prediction", "top", "segments", "duration", "seconds", "notes"}
    assert answer["prediction"] == answer["top"][0]["class"]
    predictor = open_predictor(run, "torch", "no")
    expected = predict_video(predictor, video, probe_video(video), 2, 1, 8)
    order = sorted(range(len(CLASSES)), key=lambda place: -expected[place])
    assert [one["class"] for one in answer["top"]] == [CLASSES[place] for place in order]
    found = [one["probability"] for one in answer["top"]]
    assert found == pytest.approx([expected[place] for place in order], abs=1e-5)
    segments = answer["segments"]
    assert answer["duration"] == pytest.approx(4.0, abs=0.1)
    assert segments[0]["start"] == 0
    assert segments[-1]["end"] == pytest.approx(answer["duration"], abs=0.01)
    assert len(segments) > 1
    for before, after in pairwise(segments):
        assert before["end"] == after["start"] and before["class"] != after["class"]
    assert all(one["class"] in CLASSES and 0 < one["confidence"] <= 1 for one in segments)
    assert server.left_soon() == []


def test_what_the_classes_are_not_of_is_said_as_predict_says_it(
    run: Path, video: Path, tmp_path: Path
) -> None:
    """A rate that the training did not see, and the part of the video that was not looked at."""
    shutil.copytree(run.parent, tmp_path / "run")
    path = tmp_path / "run" / "models" / "best_model.json"
    content = json.loads(path.read_text())
    content["clip"]["temporal_views"] = 1
    content["data"] = {"frame_rates": [{"rate": 30.0, "videos": 9}]}
    path.write_text(json.dumps(content))
    with Server(tmp_path / "run", tmp_path / "server") as server:
        status, answer = server.predict(video.read_bytes())
    assert status == 200
    rate, part = answer["notes"]
    assert rate.startswith("the video has another frame rate than the training videos' 30 a sec")
    assert part.startswith("looked at of the video: ")
    assert part.endswith(" s; the segments tell what happens when in all of it")


def test_hdr_is_said_with_the_answer(server: Server, tmp_path: Path) -> None:
    path = write_disc(
        tmp_path / "a.mp4", 48, 64, None, codec="libx265", pix_fmt="yuv420p10le", color_trc=16
    )
    status, answer = server.predict(path.read_bytes())
    assert status == 200
    note, *_ = answer["notes"]
    assert note.startswith("the video is HDR (PQ 1)")


def test_lines_tell_how_far_it_is_and_end_with_the_same_answer(
    server: Server, video: Path
) -> None:
    _, whole = server.predict(video.read_bytes())
    status, content, headers = server.ask(
        "POST", "/predict", video.read_bytes(), BINARY | LINES
    )
    assert status == 200 and headers["content-type"] == "application/x-ndjson"
    *lines, last = [json.loads(line) for line in content.splitlines()]
    progress = [line["progress"] for line in lines if "progress" in line]
    assert progress[0] == 0 and progress[-1] == 1 and progress == sorted(progress)
    first_top = next(place for place, line in enumerate(lines) if "top" in line)
    assert any("progress" in line and line["progress"] > 0 for line in lines[first_top:])
    assert last | {"seconds": 0} == whole | {"seconds": 0}


def test_a_chunked_upload_without_a_length_is_taken(server: Server, video: Path) -> None:
    content = video.read_bytes()
    parts = (content[start : start + 5000] for start in range(0, len(content), 5000))
    status, answer = server.predict(parts)
    assert status == 200 and len(answer["top"]) == len(CLASSES)


def test_the_model_tells_its_classes_and_limits(server: Server) -> None:
    status, facts, _ = server.ask("GET", "/model")
    assert status == 200
    assert facts["classes"] == list(CLASSES) and facts["run"] == "demo"
    assert (facts["max_bytes"], facts["max_seconds"]) == (1_000_000, 30)


# What it refuses


def sound_alone(path: Path) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame("fltp", "mono", 1024)
        frame.sample_rate = 8000
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def no_size(content: bytes) -> bytes:
    """The same H.264 mp4, which now says that its pictures have 0 x 0 pixels."""
    place = content.index(b"avc1") + 4 + 24
    return content[:place] + bytes(4) + content[place + 4 :]


Refused = tuple[bytes, int, str]


def refused_uploads(content: bytes, folder: Path) -> dict[str, Refused]:
    return {
        "empty": (b"", 400, "the file is empty"),
        "text": (b"hello, I am a video", 415, "not a video"),
        "random": (bytes(range(7, 251)) * 40, 415, "not a video"),
        "playlist": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 415, "not a video"),
        "list of files": (b"ffconcat version 1.0\nfile a.mp4\n", 415, "not a video"),
        "session": (b"v=0\no=- 0 0 IN IP4 1.2.3.4\nc=IN IP4 1.2.3.4\n", 415, "not a video"),
        "truncated": (content[: len(content) // 2], 422, "cannot be read"),
        "sound": (sound_alone(folder / "sound.mp4"), 422, "no video stream"),
        "garbage inside": (content[:48] + b"\xff" * 5000, 422, "cannot be read"),
        "too large": (content[:8] + bytes(1_000_000), 413, "larger than the 1 MB"),
    }


@pytest.mark.parametrize(
    "name",
    ["empty", "text", "random", "playlist", "list of files", "session", "truncated", "sound",
     "garbage inside", "too large"],
)  # fmt: skip
def test_what_is_no_video_or_too_large_is_refused_in_one_line_and_leaves_nothing(
    server: Server, video: Path, tmp_path: Path, name: str
) -> None:
    upload, expected, words = refused_uploads(video.read_bytes(), tmp_path)[name]
    status, answer = server.predict(upload)
    assert status == expected
    assert set(answer) == {"error"} and words in answer["error"] and "\n" not in answer["error"]
    assert str(server.temporary) not in answer["error"] and "/proc" not in answer["error"]
    assert server.left_soon() == [] and server.is_up()
    _, content, _ = server.ask("POST", "/predict", upload, BINARY | LINES)
    assert json.loads(content.splitlines()[-1]) == answer | {"status": expected}


def test_pictures_without_a_size_are_predicted_or_refused(server: Server, video: Path) -> None:
    status, answer = server.predict(no_size(video.read_bytes()))
    assert status in (200, 422) and (status == 200 or "cannot be read" in answer["error"])
    assert server.left_soon() == [] and server.is_up()


def test_a_length_that_lies_does_not_pass_the_limit(server: Server, video: Path) -> None:
    """Chunks without an end are cut off: it does not wait for the last of them."""
    with server.connect() as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + video.read_bytes()[:8] + bytes(65528) + b"\r\n"
        for _ in range(16):  # the last one passes it, and what came after might find it closed
            connection.sendall(chunk)
        assert b" 413 " in connection.recv(1000)
    assert server.left_soon() == []


def test_a_length_beyond_the_limit_is_refused_before_anything_is_sent(server: Server) -> None:
    with server.begin(10**12) as connection:
        assert b" 413 " in connection.recv(1000)
    assert server.left_soon() == []


def test_a_video_that_plays_too_long_is_refused(
    server: Server, black: Callable[[int, int, float], bytes]
) -> None:
    status, answer = server.predict(black(40, 64, 1))
    assert status == 422
    assert "40 s long, more than the 30 s taken here" in answer["error"]
    assert server.left_soon() == []


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Content-Type": "multipart/form-data; boundary=x"}, "a form"),
        ({"Content-Encoding": "gzip"}, "compressed"),
    ],
)
def test_a_form_or_a_compressed_body_is_refused_with_the_remedy(
    server: Server, video: Path, headers: dict[str, str], words: str
) -> None:
    status, answer, _ = server.ask("POST", "/predict", video.read_bytes(), headers)
    assert status == 415 and words in answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/predict", 405), ("PUT", "/predict", 405), ("POST", "/", 405),
        ("DELETE", "/model", 405), ("GET", "/nothing", 404), ("GET", "/predict/", 404),
        ("GET", "/../../../../etc/passwd", 404), ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "//etc/passwd", 404), ("GET", "/page.js", 404), ("GET", "/\\..\\x", 404),
        ("BREW", "/", 405),
    ],
)  # fmt: skip
def test_other_addresses_and_methods_are_refused(
    server: Server, method: str, path: str, expected: int
) -> None:
    status, answer, headers = server.ask(method, path)
    assert status == expected and set(answer) == {"error"}
    assert headers["x-content-type-options"] == "nosniff"


# Who may ask


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200), ("127.0.0.1:{port}", 200), ("[::1]:{port}", 200),
        ("LocalHost:9000", 200), ("evil.example", 403), ("evil.example:{port}", 403),
        ("localhost.evil.example", 403), ("127.0.0.1.evil.example", 403), ("192.168.0.9", 403),
        ("", 403), ("[::2]", 403), ("localhost@evil.example", 403),
    ],
)  # fmt: skip
def test_only_the_names_of_this_machine_are_answered(
    server: Server, host: str, expected: int
) -> None:
    name = host.format(port=server.port)
    assert server.ask("GET", "/", headers={"Host": name})[0] == expected


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Origin": "http://{here}"}, True),
        ({"Origin": "https://{here}"}, True),
        ({"Origin": "https://demo.example", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://localhost:1"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "http://evil.example/{here}"}, False),
    ],
)
def test_pages_of_other_sites_may_not_upload(
    server: Server, headers: dict[str, str], allowed: bool
) -> None:
    here = f"{server.host}:{server.port}"
    given = {name: value.format(here=here) for name, value in headers.items()}
    status, answer, _ = server.ask("POST", "/predict", b"", BINARY | given)
    assert status == (400 if allowed else 403), answer


def test_the_page_runs_its_own_script_and_style_only_and_names_no_other_place(
    server: Server,
) -> None:
    status, content, headers = server.ask("GET", "/")
    page = content.decode()
    assert status == 200
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag in ("script", "style"):
        [inside] = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert " style=" not in page and not re.search(r"\son\w+=", page.partition("<script>")[0])
    head, nothing, _ = server.ask("HEAD", "/")
    assert (head, nothing) == (200, b"")


# It stays up, and leaves nothing


def test_a_client_that_goes_away_is_forgotten(server: Server, video: Path) -> None:
    content = video.read_bytes()
    server.begin(len(content), content[:1000]).close()
    assert server.left_soon() == []
    server.begin(len(content), content).close()
    assert server.left_soon() == []
    with server.begin(len(content), content, LINES["Accept"]) as connection:
        assert b" 200 " in connection.recv(1000)  # and goes while the lines come
    assert server.left_soon() == []
    with server.begin(len(content), content[:1000]) as connection:  # a reset, in place of an end
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert server.left_soon() == []
    assert server.predict(content)[0] == 200


@pytest.mark.slow
def test_of_twenty_at_once_some_are_scored_and_others_asked_to_wait(
    server: Server, video: Path
) -> None:
    content = video.read_bytes()
    files = server.open_files()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: server.predict(content), range(20)))
    good = [answer for status, answer in answers if status == 200]
    busy = [answer for status, answer in answers if status == 429]
    assert len(good) + len(busy) == 20 and len(good) >= 8 and busy
    assert all("try again soon" in answer["error"] for answer in busy)
    first = good[0] | {"seconds": 0}
    assert all(answer | {"seconds": 0} == first for answer in good)
    assert server.left_soon() == []
    assert server.opened_since(files) == []
    assert server.predict(content)[0] == 200


def test_garbage_and_half_a_request_cost_their_connection_alone(
    server: Server, video: Path
) -> None:
    files = server.open_files()
    garbage = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),  # TLS
        b"GET\r\n\r\n", b"\0" * 5000, b"A" * 70_000, b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Content-Length: 6\r\n\r\nhello",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]  # fmt: skip
    half = [server.connect() for _ in range(20)]
    for place, connection in enumerate(half):
        connection.sendall(b"POST /predict HT"[: place % 17])
    for data in garbage:
        with server.connect() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
                with contextlib.suppress(OSError):  # it was closed before all had come
                    connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
    assert server.predict(video.read_bytes())[0] == 200
    for connection in half:
        connection.close()
    assert server.is_up() and server.left_soon() == []
    assert server.opened_since(files) == []


@pytest.mark.slow
def test_what_computes_is_said_before_the_address_and_answers_the_same(
    run: Path, video: Path, server: Server, tmp_path: Path
) -> None:
    flags = ("--backend", "auto", "--mixed-precision", "no")
    with Server(run, tmp_path / "server", *flags) as other:
        assert other.log.read_text().startswith(("backend openvino: ", "backend torch: "))
        _, found = other.predict(video.read_bytes())
    _, expected = server.predict(video.read_bytes())
    for one, other_one in zip(found["top"], expected["top"], strict=True):
        assert one["class"] == other_one["class"]
        assert one["probability"] == pytest.approx(other_one["probability"], abs=1e-2)


@pytest.mark.slow
def test_each_odd_file_gives_a_prediction_or_one_line(
    run: Path, tmp_path: Path, real_data: Path
) -> None:
    with Server(run, tmp_path / "server") as server:
        answers: dict[str, Any] = {}
        for path in sorted((real_data / "odd").iterdir()):
            status, answer = server.predict(path.read_bytes())
            answers[path.name] = answer.get("error", "")
            assert status == 200 or (status in (400, 415, 422) and answer["error"]), path.name
            assert "\n" not in answers[path.name]
            assert server.left_soon() == []
        assert sum(not error for error in answers.values()) >= 20
        assert server.is_up() and server.log.read_text() == ""
