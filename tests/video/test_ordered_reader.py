"""All frames of a file, or some of them, in order: the same as one by one."""

import queue
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.system.child import Ended, Message
from slowfast_dist.video import ordered_reader as stream
from slowfast_dist.video import packets
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.conversion.converter import ViewConverter
from slowfast_dist.video.ordered_reader import next_message, open_in_order
from slowfast_dist.video.probe import probe_file


def read(path: Path, wanted: list[int]) -> list[tuple[int, np.ndarray]]:
    info = probe_file(path)
    converter = ViewConverter(info.height, info.width, info.rotation, None, info.mirrored)
    found = []
    with open_in_order(path, info) as frames:
        for number, _, frame in frames.read(wanted):
            out = np.empty((info.height, info.width, 3), np.uint8)
            converter.write(frame, out)
            found.append((number, out))
    return found


@pytest.mark.parametrize(
    "kind",
    [
        "H.264 open GOP", "H.264 open GOP, cut", "H.264 many groups", "HEVC", "VP8", "AV1",
        "H.264 open GOP, a late time", "HEVC times of decoding",
    ],
)  # fmt: skip
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


@pytest.mark.parametrize("kind", ["HEVC a late time", "H.264 times of decoding"])
def test_times_rise_also_where_those_of_the_packets_do_not(videos: Any, kind: str) -> None:
    path = videos.path(kind)
    with open_in_order(path, probe_file(path)) as frames:
        starts = frames.times.starts
        found = [time for _, time, _ in frames.read(range(len(starts)))]
    assert (np.diff(starts) > 0).all() and starts[0] == 0
    np.testing.assert_allclose(found, starts, atol=1e-3)


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
