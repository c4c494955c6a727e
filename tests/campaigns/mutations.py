"""What happens to files on their way: ways to damage bytes, and small files that promise much."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

Mutation = Callable[[bytes, bytes, Random], bytes]
"""(content, content of another file, draw) -> damaged content."""

BOXES = (
    b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"edts", b"elst", b"mdia", b"mdhd", b"hdlr",
    b"minf", b"stbl", b"stsd", b"avc1", b"avcC", b"hvc1", b"hev1", b"hvcC", b"av01", b"mp4v",
    b"esds", b"stts", b"ctts", b"stss", b"stsc", b"stsz", b"stco", b"co64", b"moof", b"traf",
    b"tfhd", b"trun", b"mdat",
    b"RIFF", b"avih", b"strh", b"strf", b"movi", b"idx1",
    b"\x1aE\xdf\xa3", b"\x18S\x80g", b"\x16T\xaek", b"\x1fC\xb6u", b"\x1cS\xbbk",
)  # fmt: skip
"""Names at which mp4, AVI and Matroska files are read: what stands around them is sizes, counts."""

HUGE = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 60000 << 16 | 60000, 1_000_000_000, 0xFFFF)


def flips(first: float, last: float, bits: int) -> Mutation:
    """Flip ``bits`` bits in that part of the file (shares of its length)."""

    def change(content: bytes, other: bytes, draw: Random) -> bytes:
        changed = bytearray(content)
        low = int(len(content) * first)
        high = max(low + 1, int(len(content) * last))
        for _ in range(bits if changed else 0):
            changed[min(draw.randrange(low, high), len(changed) - 1)] ^= 1 << draw.randrange(8)
        return bytes(changed)

    return change


def _rate(content: bytes, other: bytes, draw: Random) -> bytes:
    """A byte in 10 to one in 100,000 is another one, all over the file."""
    changed = bytearray(content)
    for _ in range(1 + int(len(changed) * 10 ** -draw.uniform(1, 5))):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _cut_end(content: bytes, other: bytes, draw: Random) -> bytes:
    return content[: int(len(content) * draw.random())]


def _cut_front(content: bytes, other: bytes, draw: Random) -> bytes:
    return content[int(len(content) * draw.random() ** 3) + 1 :]


def _cut_middle(content: bytes, other: bytes, draw: Random) -> bytes:
    first, last = _range(content, draw)
    return content[:first] + content[last:]


def _zeros(content: bytes, other: bytes, draw: Random) -> bytes:
    first, last = _range(content, draw)
    return content[:first] + bytes(last - first) + content[last:]


def _repeat(content: bytes, other: bytes, draw: Random) -> bytes:
    first, last = _range(content, draw)
    return content[:last] + content[first:last] * draw.randint(1, 3) + content[last:]


def _swap(content: bytes, other: bytes, draw: Random) -> bytes:
    """Two blocks of the file in each other's place."""
    cuts = sorted(draw.randrange(len(content) + 1) for _ in range(4))
    a, b, c, d = cuts
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _splice_head(content: bytes, other: bytes, draw: Random) -> bytes:
    """The first bytes of another file over this one's."""
    size = min(len(other), len(content), 1 << draw.randint(3, 12))
    return other[:size] + content[size:]


def _insert_head(content: bytes, other: bytes, draw: Random) -> bytes:
    """The beginning of another container before the whole of this one."""
    return other[: draw.randrange(1, 4096)] + content


def _splice_body(content: bytes, other: bytes, draw: Random) -> bytes:
    """This file up to a point, then another one from a point of its own."""
    return content[: draw.randrange(len(content))] + other[draw.randrange(len(other)) :]


def _box_size(content: bytes, other: bytes, draw: Random) -> bytes:
    """The length before the name of a box, or behind that of a chunk, is another one."""
    at = _box(content, draw)
    return _overwrite(content, at + (4 if content.startswith(b"RIFF") else -4), draw)


def _box_field(content: bytes, other: bytes, draw: Random) -> bytes:
    """A number inside a box: counts, times, sizes of pictures, offsets."""
    changed = content
    for _ in range(draw.randint(1, 3)):
        changed = _overwrite(changed, _box(changed, draw) + 4 * draw.randint(1, 12), draw)
    return changed


def _box_name(content: bytes, other: bytes, draw: Random) -> bytes:
    """A box of another name."""
    at = _box(content, draw)
    return content[:at] + draw.choice(BOXES)[:4] + content[at + 4 :]


def _box(content: bytes, draw: Random) -> int:
    """The place of a box's name; any place where there is none."""
    for name in draw.sample(BOXES, len(BOXES)):
        places: list[int] = []
        at = content.find(name)
        while at >= 0 and len(places) < 8:
            places.append(at)
            at = content.find(name, at + 1)
        if places:
            return draw.choice(places)
    return draw.randrange(len(content))


def _overwrite(content: bytes, at: int, draw: Random) -> bytes:
    at = max(0, min(at, len(content) - 4))
    form = draw.choice((">I", "<I"))
    return content[:at] + struct.pack(form, draw.choice(HUGE)) + content[at + 4 :]


def _range(content: bytes, draw: Random) -> tuple[int, int]:
    """From one byte to half of the file."""
    size = max(1, int(len(content) * 2 ** -draw.uniform(1, 12)))
    first = draw.randrange(max(1, len(content) - size))
    return first, first + size


MUTATIONS: dict[str, Mutation] = {
    "bits in the head": flips(0, 0.02, 8), "a bit in the head": flips(0, 0.01, 1),
    "bits in the middle": flips(0.1, 0.9, 20), "a bit in the middle": flips(0.1, 0.9, 1),
    "bits in the tail": flips(0.95, 1, 8), "bits all over": _rate,
    "cut at the end": _cut_end, "cut at the front": _cut_front, "cut in the middle": _cut_middle,
    "zeros": _zeros, "repeated": _repeat, "swapped": _swap, "head of another": _splice_head,
    "head before": _insert_head, "body of another": _splice_body, "length of a box": _box_size,
    "number in a box": _box_field, "name of a box": _box_name,
}  # fmt: skip


def mutate(content: bytes, other: bytes, draw: Random) -> tuple[str, bytes]:
    """One mutation, or two over each other; ``content`` and ``other`` are not empty.

    Returns what was done, and never the content as it was.
    """
    done, changed = [], content
    for _ in range(1 if draw.random() < 0.8 else 2):
        name = draw.choice(list(MUTATIONS))
        if changed:
            changed = MUTATIONS[name](changed, other, draw)
            done.append(name)
    if changed == content:
        return "cut in half", content[: len(content) // 2]
    return ", ".join(done), changed


# --- files that promise much ---------------------------------------------------------------------


def promises(sources: Sequence[Path]) -> list[tuple[str, str, bytes]]:
    """(what, suffix, content): ``sources`` whose numbers say what no machine could hold.

    Pictures of 16,000 x 16,000 and 60,000 x 60,000 pixels, 10^8 to 4 * 10^9 frames.
    """
    found = []
    for path in sources:
        content = path.read_bytes()
        for what, change in _PROMISES.items():
            changed = change(content)
            if changed != content:
                found.append((what, path.suffix, changed))
    return found


def _everywhere(content: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    """``new`` at ``offset`` from each occurrence of ``mark``."""
    changed = bytearray(content)
    at = content.find(mark)
    while at >= 0:
        if at + offset + len(new) <= len(changed):
            changed[at + offset : at + offset + len(new)] = new
        at = content.find(mark, at + len(mark))
    return bytes(changed)


def _frames_of_a_byte(content: bytes) -> bytes:
    """10^8 frames of one byte each, all of one chunk."""
    changed = _everywhere(content, b"stsz", 8, struct.pack(">II", 1, 10**8))
    return _everywhere(changed, b"stsc", 16, struct.pack(">I", 10**8))


_VP8_KEY = b"\x9d\x01\x2a"
_JPEG_SIZE = b"\xff\xc0\x00\x11\x08"
_PROMISES: dict[str, Callable[[bytes], bytes]] = {
    "VP8 of 16000 x 16000": lambda content: _everywhere(
        content, _VP8_KEY, 3, struct.pack("<HH", 16000, 16000)
    ),
    "JPEG of 16000 x 16000": lambda content: _everywhere(
        content, _JPEG_SIZE, 5, struct.pack(">HH", 16000, 16000)
    ),
    "H.264 box of 60000 x 60000": lambda content: _everywhere(
        content, b"avc1", 28, struct.pack(">HH", 60000, 60000)
    ),
    "MPEG-4 box of 60000 x 60000": lambda content: _everywhere(
        content, b"mp4v", 28, struct.pack(">HH", 60000, 60000)
    ),
    "10^9 frames": lambda content: _everywhere(content, b"stts", 12, struct.pack(">I", 10**9)),
    "10^8 frames of a byte": _frames_of_a_byte,
    "4 * 10^9 entries": lambda content: _everywhere(content, b"stsz", 12, b"\xff" * 4),
    "a length of 2^32": lambda content: _everywhere(content, b"mdhd", 20, b"\xff" * 4),
}
