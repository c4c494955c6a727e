"""What a player does with a video's pictures beside decoding them, and what of it is not done here.

Pixels that are not square are shown as a player shows them. HDR is not mapped to SDR, fields are
not parted and nothing is put behind transparent parts: of these it is said which videos have them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.video.stream import VideoStream

from slowfast_dist.video.views import is_sensible, used_aspect

LIGHTS = {16: "pq", 18: "hlg"}
"""HDR by the code of its transfer function (ITU-T H.273, table 3): SMPTE ST 2084 and ARIB STD-B67.
"""

PICTURE_FACTS = ("videos", "hdr", "interlaced", "alpha", "not_square")
"""Names of what `PictureCounts.as_facts` tells."""

PROGRESSIVE = 1
"""FFmpeg's AV_FIELD_PROGRESSIVE; larger values of its field_order are of interlaced video."""


def picture_facts(stream: VideoStream, frame: av.VideoFrame, rotation: int) -> dict[str, Any]:
    """The fields of VideoInfo that tell how to show the pictures: ``stated_aspect``, ``light``,
    ``interlaced`` and ``alpha``, by the stream and its first frame, once that is decoded."""
    context = stream.codec_context
    # As players do: the container's ratio before the codec's, which is known once it has decoded.
    ratio = stream.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1)
    aspect = float(ratio) if ratio > 0 else 1.0
    return {
        "stated_aspect": 1 / aspect if rotation in (90, 270) else aspect,
        "light": LIGHTS.get(int(frame.color_trc), LIGHTS.get(int(context.color_trc), "sdr")),
        "interlaced": bool(frame.interlaced_frame or int(context.field_order) > PROGRESSIVE),
        "alpha": _is_transparent(stream, frame),
    }


def _is_transparent(stream: VideoStream, frame: av.VideoFrame) -> bool:
    """Of formats with alpha many are opaque, as the frames of every GIF. The alpha of VP8 and VP9
    is a stream of its own inside the packets, which their decoders leave alone."""
    if "1" in (value for name, value in stream.metadata.items() if name.lower() == "alpha_mode"):
        return True
    if not any(component.is_alpha for component in frame.format.components):
        return False
    return bool(frame.reformat(format="rgba", threads=1).to_ndarray()[..., 3].min() < 255)


@dataclass(frozen=True)
class PictureCounts:
    """Of how many ``videos`` the pictures are of which kind. ``lights`` and ``aspects`` (as stated)
    count all videos."""

    videos: int
    lights: Mapping[str, int]
    aspects: Mapping[float, int]
    interlaced: int
    alpha: int

    @classmethod
    def of_one(cls, facts: Mapping[str, Any]) -> "PictureCounts":
        """``facts``: what `picture_facts` says."""
        return cls(
            1, {facts["light"]: 1}, {facts["stated_aspect"]: 1}, int(facts["interlaced"]),
            int(facts["alpha"]),
        )  # fmt: skip

    @property
    def hdr(self) -> int:
        return sum(count for light, count in self.lights.items() if light != "sdr")

    @property
    def not_square(self) -> Counter[float]:
        """Videos by width over height of a pixel, where a player shows it as not square."""
        found: Counter[float] = Counter()
        for stated, count in self.aspects.items():
            found[used_aspect(stated)] += count
        del found[1.0]
        return found

    def __add__(self, other: "PictureCounts") -> "PictureCounts":
        return PictureCounts(
            self.videos + other.videos,
            Counter(self.lights) + Counter(other.lights),
            Counter(self.aspects) + Counter(other.aspects),
            self.interlaced + other.interlaced, self.alpha + other.alpha,
        )  # fmt: skip

    def as_facts(self) -> dict[str, int]:
        """What a model tells of its training videos, in JSON's types."""
        counts = self.videos, self.hdr, self.interlaced, self.alpha, self.not_square.total()
        return dict(zip(PICTURE_FACTS, counts, strict=True))


@dataclass(frozen=True)
class PictureNote:
    """What people should know: a fixed word for the ``kind``, how many videos, what comes of it,
    and what helps ("" where nothing need be done)."""

    kind: str
    summary: str
    remedy: str


def picture_notes(
    counts: PictureCounts, stored: str | None = None, trained: Mapping[str, int] | None = None
) -> list[str]:
    """The `picture_findings` in a line each."""
    found = picture_findings(counts, stored, trained)
    return [f"{note.summary}; {note.remedy}" if note.remedy else note.summary for note in found]


def picture_findings(
    counts: PictureCounts, stored: str | None = None, trained: Mapping[str, int] | None = None
) -> list[PictureNote]:
    """What people should know of these videos' pictures; nothing where all is as usual.

    ``stored``: why pixels are read as they are stored, where that is so. ``trained``: `as_facts` of
    the videos that the model was trained on, where that is known: what all of both are is not said
    again.
    """
    numbers = {"hdr": counts.hdr, "interlaced": counts.interlaced, "alpha": counts.alpha}
    notes: list[PictureNote] = []
    for kind, count in numbers.items():
        notes += _note(kind, count, counts, trained)
    wrong = {stated: n for stated, n in counts.aspects.items() if not is_sensible(stated)}
    if wrong:
        shapes = ", ".join(f"{stated:.4g}:1" for stated in list(wrong)[:3])
        summary = f"{_have(sum(wrong.values()), counts.videos)} pixels of a shape that no video has"
        notes.append(PictureNote("pixel-aspect", f"{summary} ({shapes}): read as square", ""))
    if stored and (shapes_of := counts.not_square):
        worst = max(shapes_of, key=lambda shape: max(shape, 1 / shape))
        off = f"{max(worst, 1 / worst):.2f} times too {'narrow' if worst > 1 else 'wide'}"
        common = sorted(shapes_of, key=lambda shape: (-shapes_of[shape], -shape))[:3]
        shapes = ", ".join(map(ratio, common))
        summary = f"{_have(shapes_of.total(), counts.videos)} pixels that are not square ({shapes})"
        notes.append(
            PictureNote("stored", f"{summary}, read as they are stored, up to {off}: {stored}", "")
        )
    return notes


_TEXTS = {
    "hdr": (
        "HDR", "read as if it were SDR, which looks pale and flat",
        "convert it to SDR with a tone mapping",
    ),
    "interlaced": (
        "interlaced", "the two fields of a frame are not parted, so what moves has combed edges",
        "deinterlace it, as with ffmpeg -vf bwdif",
    ),
    "alpha": (
        "partly transparent", "alpha is dropped, so what is stored behind it shows",
        "put it before a background",
    ),
}  # fmt: skip
"""Of a kind of pictures: its name, what comes of it, what helps."""


def _note(
    kind: str, count: int, counts: PictureCounts, trained: Mapping[str, int] | None
) -> Iterator[PictureNote]:
    name, effect, remedy = _TEXTS[kind]
    total, then = counts.videos, None if trained is None else trained[kind]
    # Where a part of the training videos were so, others may be or not.
    mixed_then = trained is not None and 0 < trained[kind] < trained["videos"]
    if not count and (not then or mixed_then):
        return
    if trained is not None and count == total and then == trained["videos"]:
        return
    if kind == "hdr" and count:
        lights = [f"{light.upper()} {n}" for light, n in counts.lights.items() if light != "sdr"]
        name += f" ({', '.join(sorted(lights))})"
    if count == total:
        who = "the video is" if total == 1 else f"all {total} videos are"
    else:
        who = f"{count or 'none'} of {total} videos {'is' if count == 1 else 'are'}"
    others = ", the others not" if 0 < count < total else ""
    if trained is not None:
        were = f"{then or 'none'} {'was' if then == 1 else 'were'}"
        others += f", and of the {trained['videos']} training videos {were}"
    elif kind == "hdr" and not others:
        others = ", unlike what the networks pretrained on Kinetics saw"
    what = f": {effect}" if count else ""
    yield PictureNote(kind, f"{who} {name}{others}{what}", remedy if count else "")


def _have(count: int, total: int) -> str:
    if total == 1:
        return "the video has"
    return f"{count} of {total} videos {'has' if count == 1 else 'have'}"


def ratio(aspect: float) -> str:
    """Such as 16:11."""
    nearest = Fraction(aspect).limit_denominator(1000)
    return f"{nearest.numerator}:{nearest.denominator}"
