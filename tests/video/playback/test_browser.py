"""What a browser gets of a video: the file itself, or a copy with the same frames and times."""

from pathlib import Path

import av
import numpy as np
import pytest

from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.ordered_reader import frame_times
from slowfast_dist.video.playback.browser import part_around, playable_or_reason, write_copy
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo
from tests.helpers.video_kinds import Videos


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("H.264", "video/mp4"), ("H.264 variable frame rate", "video/mp4"), ("VP9", "video/webm"),
        ("H.264 fragmented", None), ("H.264 mov", None), ("H.264 mkv", None),
        ("H.264 10 bit", None), ("H.264 4:2:2", None), ("H.264 cut", None), ("H.264 AVI", None),
        ("HEVC closed GOP", None), ("MPEG-4", None), ("AV1", None),
    ],
)  # fmt: skip
def test_only_what_all_browsers_play_alike_is_played_as_it_is(
    videos: Videos, tmp_path: Path, kind: str, media_type: str | None
) -> None:
    target = tmp_path / "copy.mp4"
    found = playable_or_reason(videos.path(kind), str(target), None, None, as_it_is=True)
    assert isinstance(found, dict) and found.get("type") == media_type
    assert target.exists() == (media_type is None)


@pytest.mark.parametrize(
    "kind",
    ["H.264 cut", "H.264 variable frame rate", "MPEG-4 B-frames AVI", "HEVC open GOP", "MPEG-2"],
)
def test_a_copy_shows_each_frame_at_its_own_time(
    videos: Videos, tmp_path: Path, kind: str
) -> None:
    source, target = videos.path(kind), tmp_path / "copy.mp4"
    info = probe_file(source)
    part = range(3, info.frames - 2)
    write_copy(source, info, part, target)
    wanted = frame_times(info).starts[3 : info.frames - 2]
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        times = [frame.time or 0.0 for frame in container.decode(stream)]
    assert times[0] == 0, "browsers count from there"
    assert np.abs(np.array(times) - (wanted - wanted[0])).max() < 1e-5
    numbers = [Videos.number(frame) for frame in Videos.whole(target)]
    assert numbers == [Videos.number(frame) for frame in Videos.whole(source)][3 : info.frames - 2]


def test_of_a_long_video_a_part_is_copied_with_what_is_around_it() -> None:
    info = VideoInfo(36_000, 10.0, 64, 64, 0, "mpeg4", False)  # an hour
    assert part_around(info, 100.0, 103.0) == range(950, 1080)
    assert part_around(info, 0.0, 3600.0) == range(900), "no more than 90 s at once"
    assert part_around(info, 3599.95, 3600.0) == range(35_949, 36_000)
    short = VideoInfo(500, 10.0, 64, 64, 0, "mpeg4", False)
    assert part_around(short, 10.0, 11.0) == range(500)


def test_what_cannot_be_read_or_written_has_a_reason(videos: Videos, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    reason = playable_or_reason(empty, str(tmp_path / "copy.mp4"), None, None, as_it_is=True)
    with pytest.raises(DecodeError) as error:
        probe_file(empty)
    assert reason == error.value.reason
    nowhere = str(tmp_path / "none" / "copy.mp4")
    said = playable_or_reason(videos.path("H.264"), nowhere, None, None, as_it_is=False)
    assert isinstance(said, str) and said.startswith("no copy that a browser plays can be made")
