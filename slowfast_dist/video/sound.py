"""The sound of a video file, copied packet by packet beside new pictures."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

from slowfast_dist.video.container import FAULTS, NO_OTHER_FILES, file_url


class Sound(ExitStack):
    """The sound of a file: use as ``with Sound(path) as sound``."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.stream: AudioStream | None = None
        """None where there is none that can be read."""
        self.origin = 0.0
        """Seconds at which the first picture is shown in the file: to be set before one is
        written."""
        try:
            container = self.enter_context(
                av.open(file_url(path), metadata_errors="replace", options=NO_OTHER_FILES)
            )
            found = container.streams.best("audio")
            self.stream = found if isinstance(found, AudioStream) else None
            self._packets = container.demux(self.stream) if self.stream is not None else iter(())
        except FAULTS:
            self.stream = None

    def packets(self) -> Iterator[Packet]:
        """All of it, up to damage."""
        try:
            yield from (packet for packet in self._packets if packet.size)
        except FAULTS:
            return


def can_hold(stream: AudioStream) -> bool:
    """Whether an mp4 can hold such sound, and players play it there."""
    decoders = {"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "flac", "opus", "libopus"}
    return stream.codec_context is not None and stream.codec_context.name in decoders


class CopiedSound:
    """The packets of a sound, brought into another container in step with its pictures."""

    def __init__(self, sound: Sound, container: OutputContainer) -> None:
        assert sound.stream is not None
        self._stream = container.add_stream_from_template(sound.stream)
        self._container, self._sound = container, sound
        self._packets = sound.packets()
        self._waiting: Packet | None = None
        self._last: int | None = None

    def copy(self, until: float) -> None:
        """Those that are heard before that time, in seconds from the first picture on."""
        origin = self._sound.origin
        while (packet := self._waiting or next(self._packets, None)) is not None:
            self._waiting = packet
            base = packet.time_base
            if packet.pts is not None and base:
                if float(packet.pts * base) - origin > until:
                    return
                shift = round(origin / float(base))
                packet.pts -= shift
                packet.dts = packet.pts if packet.dts is None else packet.dts - shift
                if self._last is None or packet.dts > self._last:  # times that go back: left out
                    self._last = packet.dts
                    packet.stream = self._stream
                    self._container.mux_one(packet)
            self._waiting = None
