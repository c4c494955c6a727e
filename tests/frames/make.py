"""Short videos by every encoder in every container that the installed ffmpeg program can write."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.video_kinds import picture

FRAMES = 30

SECONDS = 120.0
"""Seconds after which a call of the program counts as hanging, as SVT-AV1 sometimes does."""

SIZES = ((176, 144), (720, 576), (1920, 1080), (48, 48))
"""Widths and heights, tried in this order: some encoders know only the sizes of television."""

NO_FILE = re.compile(
    "a64|alsa|caca|chromaprint|codec2|crc|dash|fbdev|fifo|frame(crc|hash|md5)|hash|hds|hls|image2"
    "|md5|null|opengl|oss|pulse|rtp|rtsp|sap|sdl|segment|smoothstreaming|spdif|stream_segment"
    "|streamhash|tee|uncodedframecrc|v4l2|video4linux2|webm_(chunk|dash)|xv"
)
"""Muxers that write no file of a video, or several."""

NOT_HERE = re.compile(r"_(nvenc|omx|qsv|v4l2m2m|vaapi)$|^wrapped_avframe$|^a64multi")
"""Encoders that need hardware, or write what no file holds."""

OPTIONS: dict[str, dict[str, str]] = {
    "libaom-av1": {"-cpu-used": "8", "-row-mt": "0"},
    "librav1e": {"-speed": "10"},
    "libsvtav1": {"-preset": "12"},
    "libvpx": {"-deadline": "realtime", "-cpu-used": "8"},
    "libvpx-vp9": {"-deadline": "realtime", "-cpu-used": "8"},
    "libx264": {"-preset": "veryfast"},
    "libx265": {"-preset": "ultrafast", "-x265-params": "log-level=none:pools=1"},
    "dnxhd": {"-profile:v": "dnxhr_sq"},
    "libjxl": {"-effort": "1"},
}
"""What makes an encoder fast, or write anything at all."""

VARIANTS: dict[str, dict[str, dict[str, str]]] = {
    "libx264": {
        "open": {"-x264-params": "open-gop=1:bframes=5:b-pyramid=1:keyint=12:scenecut=0"},
        "plain": {"-bf": "0"},
        "interlaced": {"-flags": "+ildct+ilme", "-x264-params": "tff=1"},
        "refresh": {"-x264-params": "intra-refresh=1"},
    },
    "libx265": {
        "closed": {"-x265-params": "log-level=none:pools=1:open-gop=0:keyint=12:bframes=3"},
    },
    "mpeg1video": {"b": {"-bf": "2"}},
    "mpeg2video": {"b": {"-bf": "2"}, "interlaced": {"-bf": "2", "-flags": "+ildct+ilme"}},
    "mpeg4": {"b": {"-bf": "2"}, "qpel": {"-bf": "2", "-flags": "+qpel"}},
    "libxvid": {"b": {"-bf": "2"}},
    "libvpx": {"alt": {"-auto-alt-ref": "1", "-lag-in-frames": "16"}},
    "libvpx-vp9": {"alt": {"-auto-alt-ref": "1", "-lag-in-frames": "16"}},
    "qtrle": {"gray": {"-pix_fmt": "gray"}},
    "rawvideo": {"gray": {"-pix_fmt": "gray"}, "pal8": {"-pix_fmt": "pal8"}},
    "snow": {"lossless": {"-pred": "1"}},
}
"""Other ways in which an encoder orders or stores frames, by the name that the file gets."""


@dataclass(frozen=True)
class Encoder:
    name: str
    codec: str
    options: tuple[str, ...]

    def command(self, program: str, size: tuple[int, int]) -> list[str]:
        """Up to the format and the target."""
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", "25"]
        codec = ["-c:v", self.name, "-g", "12", "-threads", "1", *self.options, "-strict", "-2"]
        return [program, "-v", "error", "-y", *source, "-i", "-", *codec]


def make_videos(folder: Path, workers: int) -> str:
    """Make them; a line on how many there are. Raises SystemExit without the program."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise SystemExit("--make needs the ffmpeg program")
    folder.mkdir(parents=True)
    pictures = {size: [picture(n, *size[::-1]) for n in range(FRAMES)] for size in SIZES}
    raw = {size: b"".join(frame.tobytes() for frame in all) for size, all in pictures.items()}
    muxers = list(_muxers(program))
    encoders = dict(_encoders(program))

    def make(name: str) -> set[str]:
        made: set[str] = set()
        trial = folder / f"{name}.trial"
        size = _size(program, encoders[name], raw, trial)
        for muxer, ending in muxers if size else ():
            path = folder / f"{name}.{muxer}.{ending}"
            if size and _write(program, encoders[name], muxer, path, trial, size, raw[size]):
                made.add(muxer)
            else:
                path.unlink(missing_ok=True)
        trial.unlink(missing_ok=True)
        return made

    with ThreadPoolExecutor(max(1, workers)) as pool:
        found = list(pool.map(make, encoders))
    return (
        f"{sum(map(len, found))} videos by {sum(map(bool, found))} encoders and their variants (of "
        f"{len(found)} tried) in {len(set().union(*found))} containers (of {len(muxers)})"
    )


def _run(command: list[str], content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=content, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, b"", b"")


def _listing(program: str, *what: str) -> str:
    command = [program, "-hide_banner", *what]
    return subprocess.run(command, capture_output=True, text=True).stdout


def _encoders(program: str) -> Iterator[tuple[str, Encoder]]:
    """Each encoder and variant, with the name of its files."""
    for line in _listing(program, "-encoders").splitlines():
        match = re.match(r" V\S{5} (\w\S*)(?:.*\(codec (\S+)\))?", line)
        if match and not NOT_HERE.search(match[1]):
            name, codec = match[1], match[2] or match[1]
            for variant, more in {"": {}, **VARIANTS.get(name, {})}.items():
                options = OPTIONS.get(name, {}) | more
                flat = tuple(word for pair in options.items() for word in pair)
                yield f"{name}-{variant}".rstrip("-"), Encoder(name, codec, flat)


def _muxers(program: str) -> Iterator[tuple[str, str]]:
    """Name and usual ending of each container of videos."""
    for line in _listing(program, "-muxers").splitlines():
        match = re.match(r" [D ]E +([\w,]+)", line)
        if match and not NO_FILE.match(match[1]):
            told = _listing(program, "-h", f"muxer={match[1]}")
            if "Default video codec" in told:
                ending = re.search(r"Common extensions: (\w+)", told)
                yield match[1], ending[1] if ending else match[1]


def _size(
    program: str, encoder: Encoder, raw: dict[tuple[int, int], bytes], trial: Path
) -> tuple[int, int] | None:
    """The first size that the encoder takes, None if it takes none; what it wrote is in ``trial``,
    a NUT, if that can hold it."""
    for size, content in raw.items():
        command = [*encoder.command(program, size), "-flags:v", "+global_header"]
        for target in (["-f", "nut", str(trial)], ["-f", "framecrc", "-"]):
            if _run([*command, *target], content).returncode == 0:
                return size
            trial.unlink(missing_ok=True)
    return None


def _write(
    program: str, encoder: Encoder, muxer: str, path: Path, trial: Path, size: tuple[int, int],
    raw: bytes,
) -> bool:  # fmt: skip
    """Whether the program writes the file, and reads all frames back. The packets of ``trial`` are
    copied where that will do: some encoders are slow."""
    target = ["-f", muxer, str(path)]
    if trial.exists():
        copy = [program, "-v", "error", "-y", "-nostdin", "-i", str(trial), "-c", "copy"]
        if _run([*copy, "-strict", "-2", *target]).returncode:
            return False
        if _frames(program, encoder, path) == FRAMES:
            return True
    encode = [*encoder.command(program, size), *target]
    written = _run(encode, raw).returncode == 0
    return written and _frames(program, encoder, path) > 0


def _frames(program: str, encoder: Encoder, path: Path) -> int:
    """That the program reads, as those of the encoder's codec."""
    command = [program, "-v", "verbose", "-nostdin", "-i", str(path), "-map", "0:v:0"]
    result = _run([*command, "-f", "framecrc", "-"])
    stream = re.search(r"Stream #0.*Video: (\w+)", result.stderr.decode(errors="replace"))
    lines = [line for line in result.stdout.splitlines() if not line.startswith(b"#")]
    return len(lines) if stream and stream[1] == encoder.codec else 0
