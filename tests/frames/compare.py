"""One file: every frame that the product reads, against a full decode."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from difflib import SequenceMatcher
from fractions import Fraction
from hashlib import blake2b, md5
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from slowfast_dist.video.container import FAULTS, DecodeError, file_url
from slowfast_dist.video.conversion.converter import ViewConverter
from slowfast_dist.video.ordered_reader import open_in_order
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo, read_frames

MOST_LOST = 3
"""Packets at the end of a file that a cut may have damaged."""

AT_ONCE = 8
"""Frames of a clip that is read through the index of all packets."""

SIDE = 64
"""Pixels of the grey thumbnails by which frames are told apart whose bits differ: the program may
be of another version of FFmpeg than PyAV's, and some codecs' transforms are not exact."""

TOLERANCE = 2.0
"""Grey levels, on average over a thumbnail, by which two versions' frames may differ."""


@dataclass
class Comparison:
    """What came out for one file; ``wrong`` and ``missing`` count frames over all readers."""

    frames: int = 0
    """Of the reference."""
    reads: int = 0
    wrong: int = 0
    missing: int = 0
    refused: str | None = None
    program: bool = False
    """Whether the ffmpeg program's decode was compared too."""
    notes: list[str] = field(default_factory=list)

    @property
    def noteworthy(self) -> bool:
        return bool(self.wrong or self.missing or self.notes or self.refused is not None)

    def line(self) -> str:
        counts = f"{self.frames} frames, {self.wrong} wrong, {self.missing} missing"
        refused = [] if self.refused is None else [f"refused: {self.refused}"]
        return "; ".join([counts, *refused, *self.notes])

    def add(self, reader: str, expected: list[bytes], got: list[bytes]) -> None:
        """Count what a reader gave in place of the ``expected`` frames, in order."""
        self.reads += len(got)
        if len(got) == len(expected):
            wrong = [i for i, (a, b) in enumerate(zip(got, expected, strict=True)) if a != b]
            self._count(reader, len(wrong), 0, wrong)
            return
        blocks = SequenceMatcher(None, expected, got, autojunk=False).get_matching_blocks()
        same = sum(block.size for block in blocks)
        found = {block.a + i for block in blocks for i in range(block.size)}
        lost = [i for i in range(len(expected)) if i not in found]
        self._count(reader, len(got) - same, len(expected) - same, lost)

    def _count(self, reader: str, wrong: int, missing: int, which: list[int]) -> None:
        self.wrong += wrong
        self.missing += missing
        if wrong or missing:
            some = ", ".join(map(str, which[:8])) + (", ..." if len(which) > 8 else "")
            self.notes.append(f"{reader}: {wrong} wrong, {missing} missing ({some})")


# --- the reference -------------------------------------------------------------------------------


@dataclass
class Reference:
    shown: list[bytes] = field(default_factory=list)
    """Digest of each frame as the product shows it; of an unreadable file, of nothing."""
    stored: list[bytes] = field(default_factory=list)
    """Digest of each as it is stored."""
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list)
    errors: int = 0
    """Packets that do not decode whole, but for the ``lost`` ones at the end."""
    lost: int = 0
    floats: bool = False
    """Whether pictures are of floating point numbers, which versions turn into grey differently."""


def read_reference(path: Path, info: VideoInfo | None) -> Reference:
    """A decode of the whole file from its start, by PyAV alone, strictly.

    Without the damaged packets in which a file ends that was cut off: a decoder may show the
    picture of one, and keep the good one before it back. Raises FAULTS where the file cannot be
    opened.
    """
    with av.open(file_url(path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream) and stream.codec_context is not None
        packets: list[av.Packet] = []
        with contextlib.suppress(*FAULTS):  # the end of what can be read
            packets.extend(packet for packet in container.demux(stream) if packet.size)
    for lost in range(MOST_LOST + 1):
        found = Reference(lost=lost)
        damaged = _decode(path, packets[: len(packets) - lost], info, found)
        found.errors = len(damaged)
        if not any(number >= len(packets) - lost - 1 for number in damaged):
            break
    return found


def _decode(
    path: Path, packets: list[av.Packet], info: VideoInfo | None, found: Reference
) -> set[int]:
    """Fill in the frames; the numbers of the packets that do not decode whole."""
    damaged: set[int] = set()
    show = shower(info) if info else (lambda frame: b"")
    encoder: VideoCodecContext | None = None
    with av.open(file_url(path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        context.options = {"err_detect": "explode"}
        context.thread_count = 1
        for number, packet in enumerate([*packets, None]):
            try:
                frames = context.decode(packet)
            except EOFError:
                break
            except FAULTS:
                damaged.add(min(number, len(packets) - 1))
                continue
            for frame in frames:
                if frame.is_corrupt:
                    damaged.add(min(number, len(packets) - 1))
                    continue
                size = (frame.width, frame.height, frame.format.name)
                if encoder is None or size != (encoder.width, encoder.height, encoder.pix_fmt):
                    encoder = _raw_encoder(frame)
                found.shown.append(show(frame))
                found.floats |= "f32" in frame.format.name or "f16" in frame.format.name
                stored = b"".join(bytes(packet) for packet in encoder.encode(frame))
                found.stored.append(md5(stored, usedforsecurity=False).digest())
                found.thumbnails.append(thumbnail(frame))
    return damaged


def thumbnail(frame: av.VideoFrame) -> NDArray[np.uint8]:
    small = frame.reformat(SIDE, SIDE, "gray", interpolation="AREA", threads=1)
    return np.asarray(small.to_ndarray(), np.uint8)


def _raw_encoder(frame: av.VideoFrame) -> VideoCodecContext:
    """What writes the frame as ``-c:v rawvideo`` does."""
    encoder = av.CodecContext.create("rawvideo", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, frame.format.name
    encoder.time_base = frame.time_base or Fraction(1, 25)
    return encoder


def shower(info: VideoInfo) -> Callable[[av.VideoFrame], bytes]:
    """What makes of a decoded frame the digest of it as the product shows it, whole."""
    converter = ViewConverter(info.height, info.width, info.rotation, None, info.mirrored)
    out = np.empty((info.height, info.width, 3), np.uint8)

    def show(frame: av.VideoFrame) -> bytes:
        converter.write(frame, out)
        return _digest(out)

    return show


def _digest(frame: NDArray[np.uint8]) -> bytes:
    return blake2b(frame.tobytes(), digest_size=16).digest()


# --- the readers ---------------------------------------------------------------------------------


def compare_file(path: Path) -> dict[str, Any]:
    """The fields of a Comparison: what a process of the pool answers."""
    found = Comparison()
    try:
        info = probe_file(path)
    except DecodeError as error:
        found.refused = error.reason
        _judge_refusal(path, found)
        return asdict(found)
    reference = read_reference(path, info)
    found.frames = len(reference.shown)
    if reference.errors:
        found.notes.append(f"{reference.errors} errors in the full decode")
    if reference.lost:
        found.notes.append(f"cut off: the last {reference.lost} damaged")
    rng = np.random.default_rng(0)
    order = rng.permutation(info.frames)
    _collect(found, "random", reference, lambda: _in_order(path, info, order, 1, "pyav"))
    by_index = replace(info, frame_time=0.0, seekable=False)
    clips = lambda: _in_order(path, by_index, order, AT_ONCE, "pyav")  # noqa: E731
    _collect(found, "index", reference, clips)
    _collect(found, "sequence", reference, lambda: _sequence(path, info))
    if info.decord_exact:
        _compare_decord(path, info, reference, found, order)
    if not reference.errors and not reference.lost:
        _compare_with_program(path, reference, found)
    return asdict(found)


def _judge_refusal(path: Path, found: Comparison) -> None:
    """A refusal is right where the full decode meets an error too, or gives nothing."""
    try:
        reference = read_reference(path, None)
    except (*FAULTS, AssertionError, EOFError):
        return
    found.frames = len(reference.shown)
    if found.frames:
        found.notes.append(f"{reference.errors} errors in the full decode")
        found.missing += 0 if reference.errors else found.frames


def _collect(
    found: Comparison, reader: str, reference: Reference, read: Callable[[], list[bytes]]
) -> None:
    try:
        found.add(reader, reference.shown, read())
    except DecodeError as error:
        found.notes.append(f"{reader}: {error.reason}")
        # Damage in the middle, met by a read, is right where the full decode meets it too.
        found.missing += 0 if reference.errors else 1


def _in_order(
    path: Path, info: VideoInfo, order: NDArray[np.int64], at_once: int, decoder: Any
) -> list[bytes]:
    """Every frame, read in the random ``order``, so many at a time."""
    got = [b""] * info.frames
    for first in range(0, len(order), at_once):
        numbers = order[first : first + at_once]
        for number, frame in zip(
            numbers, read_frames(path, numbers, info, decoder, None), strict=True
        ):
            got[number] = _digest(frame)
    return got


def _sequence(path: Path, info: VideoInfo) -> list[bytes]:
    show = shower(info)
    with open_in_order(path, info) as frames:
        return [show(frame) for *_, frame in frames.read(range(info.frames))]


def _compare_decord(
    path: Path, info: VideoInfo, reference: Reference, found: Comparison, order: NDArray[np.int64]
) -> None:
    """Decord's own conversion to RGB gives other bits: its frames are told by their thumbnails."""
    ours = np.stack(reference.thumbnails).astype(np.int16)
    got: list[bytes] = [b""] * info.frames
    for number in order.tolist():
        try:
            [frame] = read_frames(path, np.array([number]), info, "decord", None)
        except DecodeError:
            return  # as WebM without a duration: --data.decoder auto then takes PyAV
        if info.rotation or info.mirrored:
            frame = np.rot90(frame, -(info.rotation // 90))
        seen = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        off = np.abs(ours - thumbnail(seen)).mean((1, 2))
        near = off[number] <= max(TOLERANCE, float(off.min()))
        got[number] = reference.shown[number] if near else b"another"
    found.add("decord", reference.shown, got)


# --- the ffmpeg program --------------------------------------------------------------------------


def _compare_with_program(path: Path, reference: Reference, found: Comparison) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        return
    with av.open(file_url(path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        assert stream is not None
        index = stream.index
    command = [program, "-v", "error", "-nostdin", "-noautorotate", "-threads", "1"]
    command += ["-i", file_url(path), "-map", f"0:{index}", "-fps_mode", "passthrough"]
    hashes = ["-c:v", "rawvideo", "-f", "framehash", "-hash", "md5", "-"]
    result = subprocess.run([*command, *hashes], capture_output=True, check=False)
    lines = [line for line in result.stdout.decode().splitlines() if not line.startswith("#")]
    theirs = [bytes.fromhex(line.split(",")[-1].strip()) for line in lines]
    if not theirs:
        found.notes.append("the ffmpeg program reads nothing")
        return
    if len(theirs) < len(reference.stored):  # of another version, as some formats were later read
        found.notes.append(f"the ffmpeg program reads no more than {len(theirs)} frames")
        return
    found.program = True
    if theirs == reference.stored or (len(theirs) == len(reference.stored) and reference.floats):
        return
    small = ["-vf", f"scale={SIDE}:{SIDE}:flags=area,format=gray", "-f", "rawvideo", "-"]
    result = subprocess.run([*command, *small], capture_output=True, check=False)
    pictures = np.frombuffer(result.stdout, np.uint8).reshape(-1, SIDE, SIDE).astype(np.int16)
    ours = np.stack(reference.thumbnails).astype(np.int16)
    if len(pictures) != len(ours):
        found.notes.append(f"the ffmpeg program reads {len(pictures)} frames")
        found.missing += len(pictures) - len(ours)
        return
    off = np.abs(pictures - ours).mean((1, 2))
    odd = [
        number
        for number in np.flatnonzero(off > TOLERANCE).tolist()
        if np.abs(pictures - ours[number]).mean((1, 2)).argmin() != number
    ]
    found.wrong += len(odd)
    if odd:
        found.notes.append(f"the ffmpeg program shows others at {odd[:8]}")
