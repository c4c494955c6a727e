"""What FFmpeg is handed: the one file that was meant, whatever is its name or says its content."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from slowfast_dist.video.container import DecodeError, open_video
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.writer import Sound, VideoWriter
from tests.helpers.video_kinds import picture


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


# --- whole files that FFmpeg cannot read ---------------------------------------------------------

KEY = "76a6c65c5ea762046bd749a2e632ccbb"
CENC = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": KEY, "encryption_kid": KEY}


@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov"])
def test_encrypted_fragments_are_named(tmp_path: Path, movflags: str) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={**CENC, "movflags": movflags}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(picture(number, 64, 128), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DecodeError, match="encrypted"):
        probe_file(path)


def test_an_animated_webp_is_named_and_a_still_one_is_a_frame(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (64, 48), (60 * number, 0, 0)) for number in range(4)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=40)
    pictures[0].save(tmp_path / "still.webp")
    with pytest.raises(DecodeError, match="an animated WebP, which this build"):
        probe_file(tmp_path / "a.webp")
    assert probe_file(tmp_path / "still.webp").frames == 1


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return (8 + len(content)).to_bytes(4) + kind + content


ALIAS = bytes(50) + b"\x08film.mov".ljust(64, b"\0") + bytes(60)
"""Mac OS's record of a file: its name is behind 50 bytes, as a Pascal string."""

URL = b"file:///Movies/film.mov\0"


@pytest.mark.parametrize("kind, record", [(b"alis", ALIAS), (b"url ", URL)])
@pytest.mark.parametrize("made", ["a choice of movies", "a track elsewhere"])
def test_a_reference_movie_is_named_with_its_file(
    videos: Any, tmp_path: Path, made: str, kind: bytes, record: bytes
) -> None:
    path = tmp_path / "a.mov"
    if made == "a choice of movies":
        reference = box(b"rdrf", bytes(4), kind, len(record).to_bytes(4), record)
        path.write_bytes(box(b"moov", box(b"rmra", box(b"rmda", reference))))
    else:
        content = videos.path("H.264 mov").read_bytes()
        moov = content[content.index(b"moov") - 4 :]
        inside = box(kind, bytes(4), record)
        path.write_bytes(elsewhere(moov, box(b"dref", bytes(4), (1).to_bytes(4), inside)))
    with pytest.raises(DecodeError, match=r"reference movie.*another file \(film\.mov\)"):
        probe_file(path)


def elsewhere(moov: bytes, dref: bytes) -> bytes:
    """The moov box with its data reference replaced, and the sizes of what is around it mended."""
    place = moov.index(b"dref") - 4
    old = int.from_bytes(moov[place : place + 4])
    changed = bytearray(moov[:place] + dref + moov[place + old :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        start = moov.index(kind) - 4
        size = int.from_bytes(moov[start : start + 4]) + len(dref) - old
        changed[start : start + 4] = size.to_bytes(4)
    return bytes(changed)
