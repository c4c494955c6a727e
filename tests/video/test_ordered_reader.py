"""All frames of a file, or some of them, in order: the same as one by one."""

import queue
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.system.workers import Ended, Message, StreamProcess
from slowfast_dist.video import ordered_reader as stream
from slowfast_dist.video import packets
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.convert import ViewConverter
from slowfast_dist.video.ordered_reader import next_message, open_in_order
from slowfast_dist.video.probe import probe_file


def read(path: Path, wanted: list[int]) -> list[tuple[int, np.ndarray]]:
    info = probe_file(path)
    converter = ViewConverter(info.height, info.width, info.rotation, None, info.mirrored)
    found = []
    with open_in_order(path, info) as frames:
        for number, frame in frames.read(wanted):
            out = np.empty((info.height, info.width, 3), np.uint8)
            converter.write(frame, out)
            found.append((number, out))
    return found


@pytest.mark.parametrize(
    "kind", ["H.264 open GOP", "H.264 open GOP, cut", "H.264 many groups", "HEVC", "VP8", "AV1"]
)
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "read again"])
def test_frames_come_in_order(videos: Any, kind: str, kept: bool, monkeypatch: Any) -> None:
    """Also in small chunks, and where a file is too large for its packets to be kept."""
    path = videos.path(kind)
    monkeypatch.setattr(stream, "CHUNK", 20)
    if not kept:
        monkeypatch.setattr(packets, "KEEP_BYTES", 0)
    whole = videos.whole(path)
    for wanted in (list(range(len(whole))), [0, 1, 13, 14, len(whole) - 1]):
        found = read(path, wanted)
        assert [number for number, _ in found] == wanted
        for number, frame in found:
            np.testing.assert_array_equal(frame, whole[number])


def test_only_what_is_waited_counts_as_silence() -> None:
    """Not while this process was stopped, say, as by Ctrl-Z or a cluster that suspends a job."""
    messages: queue.Queue[Message | Ended] = queue.Queue()
    pauses = iter([1.0])

    def waiting() -> None:
        for pause in pauses:
            time.sleep(pause)
            messages.put(Message({"frames": 1}, None))

    limit = 2 * stream.POLL_SECONDS
    message = next_message(messages, Path("a.mp4"), limit, waiting)
    assert message.header == {"frames": 1}
    with pytest.raises(DecodeError, match="hangs the decoder"):
        next_message(messages, Path("a.mp4"), limit, waiting)


def test_a_process_that_prints_and_a_bug_in_it(tmp_path: Path) -> None:
    """What a library prints is no message; an error of ours comes with its traceback."""
    (tmp_path / "chatty.py").write_text(
        "from slowfast_dist.system.workers import run\n"
        "import numpy as np, os\n"
        "def work(line):\n"
        "    os.write(1, b'noise\\n')\n"
        "    line.send({'said': line.request['word']}, np.arange(6, dtype='u1').reshape(2, 3))\n"
        "    line.send({'told': line.ask()})\n"
        "    1 / 0\n"
        "def serve(): run(work)\n"
    )
    got: list[Message | Ended] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        with StreamProcess("chatty", "serve", {"word": "é"}, got.append) as process:
            process.tell([1, 2])
            process._thread.join(300)
    first, second, bug, end = got
    assert isinstance(first, Message) and first.header == {"said": "é"}
    assert first.data is not None and first.data.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert isinstance(second, Message) and second.header == {"told": [1, 2]}
    assert isinstance(bug, Message) and "ZeroDivisionError" in bug.header["bug"]
    assert end == Ended("exit code 0")
