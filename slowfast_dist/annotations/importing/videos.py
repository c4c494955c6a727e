"""Find the videos that an annotation file names: it mostly comes from another machine."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from slowfast_dist.system.text import few

_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""

_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Missing:
    """No file, or no single one, is what a name means."""

    reason: str
    detail: str = ""


class VideoFinder:
    """The files below a folder, by the names that annotations have for them.

    A name is looked for as a path below the folder, then by as much of the end of its path as a
    file has, so at last by the name of the file; then without its ending; then in other letters
    (capital or small). What two files fit equally is taken for neither. A folder of numbered images
    is a video, too, by its path and by its name.
    """

    def __init__(
        self, root: Path, files: Iterable[str], folders: Iterable[str] = (),
        is_video: Callable[[str], bool] = lambda _: True,
    ) -> None:  # fmt: skip
        """``files`` and ``folders`` (of images) have paths below ``root``; ``is_video`` says of a
        file's name whether it has a video's ending."""
        self.root = root
        self.how: Counter[str] = Counter()
        """How many names were found otherwise than by their path, by the way."""
        self._is_video = is_video
        self._paths: set[str] = set()
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in files:
            self._paths.add(path)
            name = path.rpartition("/")[2]
            self._by_name[name].append(path)
            if is_video(name):
                self._by_stem[name.rpartition(".")[0]].append(path)
        for path in folders:
            self._paths.add(path)
            self._by_name[path.rpartition("/")[2]].append(path)
        self._small: dict[str, list[str]] | None = None
        self._answers: dict[str, str | Missing] = {}

    @property
    def videos(self) -> list[str]:
        """All files below the folder that are videos by their ending."""
        return [path for paths in self._by_stem.values() for path in paths]

    def find(self, name: str) -> str | Missing:
        """The path below the root of the file that ``name`` means."""
        answer = self._answers.get(name)
        if answer is None:
            answer = self._answers[name] = self._find(name)
        return answer

    def has(self, name: str) -> bool:
        """Whether one file is certainly meant."""
        return isinstance(self.find(name), str)

    def _find(self, name: str) -> str | Missing:
        path = normal_path(name)
        if path in self._paths:
            return path
        parts = PurePosixPath(path).parts
        if not parts:
            return Missing("the name of its video is empty")
        base = parts[-1]
        stem = base.rpartition(".")[0] if self._is_video(base) else base
        bare = _UPLOAD.sub("", base)
        ways = (
            ("by the name of the file alone", self._by_name, base),
            ("without the ending of its name", self._by_stem, base),
            ("with another ending", self._by_stem, stem),
            ("as v_ and its name", self._by_stem, f"v_{stem}"),
            ("without what Label Studio puts before an uploaded file's name", self._by_name, bare),
        )
        for how, index, key in ways:
            if found := index.get(key):
                return self._choose(found, parts, how, name)
        if found := self._in_small_letters().get(base.casefold()):
            return self._choose(found, parts, "in other letters, capital or small", name)
        return Missing("no such video below --videos", name)

    def _choose(
        self, found: list[str], parts: tuple[str, ...], how: str, name: str
    ) -> str | Missing:
        """The one whose path ends most like ``parts``."""
        def alike(path: str) -> int:
            pairs = zip(reversed(path.split("/")[:-1]), reversed(parts[:-1]), strict=False)
            count = 0
            for mine, other in pairs:
                if mine != other:
                    break
                count += 1
            return count

        likeness = [alike(path) for path in found]
        best = [path for path, count in zip(found, likeness, strict=True) if count == max(likeness)]
        if len(best) > 1:
            return Missing(
                "several videos below --videos are named so: give a folder with one of them, or "
                "write their paths into the file",
                f"{name} is {few(sorted(best), 2, ' or ')}",
            )
        if len(parts) > 1 or how != "by the name of the file alone":
            self.how[how] += 1
        return best[0]

    def _in_small_letters(self) -> dict[str, list[str]]:
        if self._small is None:
            self._small = defaultdict(list)
            for name, paths in self._by_name.items():
                self._small[name.casefold()] += paths
        return self._small


def normal_path(name: str) -> str:
    """A name as a relative path: of an address its path, of Windows' paths the same with slashes;
    without drive and root, and without steps upwards."""
    text = name.strip()
    if "://" in text or text.startswith("/data/local-files/"):
        address = urlsplit(text)
        inner = parse_qs(address.query).get("d")  # of Label Studio's local files
        text = inner[0] if inner else unquote(address.path)
    if "\\" in text and "/" not in text:
        text = text.replace("\\", "/")
    text = _DRIVE.sub("", text, count=1) if _DRIVE.match(text.lstrip("/")) else text
    return "/".join(part for part in text.split("/") if part not in ("", ".", ".."))
