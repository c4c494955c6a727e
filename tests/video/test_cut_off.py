"""A recording that was cut off loses what is damaged, in every container, and says how much."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from tests.helpers.video_kinds import X264, Kind

X265 = {"x265-params": "keyint=12:bframes=3:pools=1:log-level=none"}

CONTAINERS: dict[str, Kind] = {
    "MPEG-PS": Kind(".mpg", "mpeg2video", {}, b_frames=2),
    "MPEG-TS, MPEG-2": Kind(".ts", "mpeg2video", {}, b_frames=2),
    "MPEG-TS, H.264": Kind(".ts"),
    "MPEG-TS, HEVC": Kind(".ts", "libx265", X265),
    "WMV": Kind(".wmv", "wmv2", {}),
    "AVI": Kind(".avi", "mpeg4", {}, b_frames=2),
    "FLV": Kind(".flv"),
    "Matroska": Kind(".mkv"),
    "mp4": Kind(".mp4", movflags="faststart"),
    "fragmented mp4": Kind(".mp4", movflags="frag_keyframe+empty_moov"),
    "raw H.264": Kind(".h264", format="h264", options=X264, b_frames=0),
}

TELLS_ALL = {"AVI", "Matroska", "mp4"}
"""Those whose header says how many pictures there were."""


def middle_of_a_packet(path: Path, keyframe: bool) -> int:
    """A byte in the middle of the last keyframe, or of the largest packet of another frame; one
    anywhere where the container does not say where packets are."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size][6:]
    packets = [packet for packet in packets if packet.is_keyframe == keyframe]
    packet = packets[-1] if keyframe else max(packets, key=lambda packet: packet.size)
    anywhere = path.stat().st_size * (7 if keyframe else 5) // 9
    return anywhere if packet.pos is None else packet.pos + packet.size // 2


@pytest.mark.parametrize("keyframe", [True, False], ids=["a keyframe", "another"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_recording_that_was_cut_off_gives_its_whole_pictures_and_counts_the_others(
    videos: Any, tmp_path: Path, container: str, keyframe: bool
) -> None:
    kind = replace(CONTAINERS[container], size=(288, 352))
    path = videos.write(tmp_path / f"a{kind.suffix}", kind)
    assert probe_file(path).lost == 0
    good = {frame.tobytes() for frame in videos.whole(path)}
    path.write_bytes(path.read_bytes()[: middle_of_a_packet(path, keyframe)])
    info = probe_file(path)
    frames = read_frames(path, np.arange(info.frames), info, "auto", None)
    numbers = [videos.number(frame) for frame in frames]
    assert numbers == sorted(set(numbers)) and numbers[:6] == list(range(6))
    assert all(frame.tobytes() in good for frame in frames)
    # A picture that is smaller than a packet of MPEG-TS, of 188 bytes, goes without a trace.
    traceless = kind.suffix == ".ts" and not keyframe and not info.lost
    assert traceless or 0 < info.lost <= kind.frames - info.frames
    if container in TELLS_ALL:
        assert info.frames + info.lost == kind.frames


def test_a_header_that_is_right_counts_nothing(videos: Any, kind: str) -> None:
    assert probe_file(videos.path(kind)).lost == 0
