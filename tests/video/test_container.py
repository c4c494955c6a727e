"""What FFmpeg is handed: the one file that was meant, whatever is its name or says its content."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slowfast_dist.video.container import DecodeError, open_video
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.writer import Sound, VideoWriter


@pytest.mark.parametrize("ending", ["mp4", "m3u8", "ffconcat"])
def test_a_list_of_other_files_is_no_video(videos: Any, tmp_path: Path, ending: str) -> None:
    (tmp_path / "secret.mp4").write_bytes(videos.path("H.264").read_bytes())
    path = tmp_path / f"list.{ending}"
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")
    with pytest.raises(DecodeError, match="text file, not a video"), open_video(path):
        pass
    assert Sound(path).stream is None


def test_a_name_that_stands_for_many_is_one_file(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{number}.jpg")
    path = tmp_path / "%d.jpg"
    path.write_text("no picture")
    with pytest.raises(DecodeError, match="text file"), open_video(path):
        pass


def test_a_colon_in_a_name_is_no_protocol(
    videos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("12:30.mp4", "data:x.mp4", "concat:a|b.mp4"):
        Path(name).write_bytes(videos.path("H.264").read_bytes())
        assert probe_file(Path(name)) == probe_file(videos.path("H.264"))
    with VideoWriter(Path("out:1.mp4"), 32, 32, 10.0) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8), 0.0)
    assert probe_file(Path("out:1.mp4")).frames == 1
