"""What was answered: a journal that only grows, and the annotation file that is made of it.

Each answer is a line of annotations.journal.jsonl, on the disk before the page is told so, and the
annotation file is then written anew, whole or not at all. The journal alone tells everything: the
rows that were given, what was answered and in which order, and the classes that were added. Any
number of windows and processes add to one journal: an answer says which one it was made in sight of
(its version), and is refused where another one came in between.
"""

import csv
import io
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from slowfast_dist.annotations.segments import BOX, WEIGHT, seconds_text
from slowfast_dist.commands.review.lists import as_json_line
from slowfast_dist.commands.review.samples import Sample, Source, name_of
from slowfast_dist.config.errors import UserError
from slowfast_dist.metrics.cells import SEPARATOR
from slowfast_dist.system.files import atomic_write, sync_folder
from slowfast_dist.system.parsing import parse_json

if sys.platform != "win32":
    import fcntl

FORMAT = 1
"""Version of the journal's lines: raise it where an older program would read them wrong."""

Status = Literal["open", "done", "skipped", "dropped"]
"""open: nobody decided yet; done: the label and the times are right as they are now; skipped: left
for later, as it is; dropped: not in the list."""

COLUMNS = ("split", "group", "subject", *BOX, WEIGHT)
"""Columns beside path, label, start and end that the list has where any row fills them."""


@dataclass(frozen=True)
class Answer:
    """How a sample stands: its labels (None: nobody said any), times in seconds (None: the whole
    video), and the number of answers so far."""

    labels: tuple[str, ...] | None
    start: float | None
    end: float | None
    status: Status = "open"
    version: int = 0


class StaleError(Exception):
    """Another window or process answered in between; ``now``: how the sample stands."""

    def __init__(self, now: Answer) -> None:
        super().__init__(now)
        self.now = now


@dataclass
class _Known:
    """Of one sample: what was given, how it stands, and its line in the list ("": it has none)."""

    path: str
    more: Mapping[str, str]
    given: Answer
    now: Answer
    line: str | None = None
    """None: it is to be written anew."""


class Answers:
    """The journal of ``output`` and what it says; all methods from any thread."""

    def __init__(self, output: Path, source: Source) -> None:
        """Raises UserError for an output that is no review's, or another's; OSError."""
        self.output = output
        self.journal = output.with_name(f"{output.stem}.journal.jsonl")
        self.classes: list[str] = []
        """Those that were added, in their order."""
        self._several, self._names_all = source.several, source.names_all
        self._root = os.path.realpath(source.root)
        self._known: dict[str, _Known] = {}
        self._columns: list[str] = []  # of COLUMNS those that any row fills
        self._read = 0  # bytes
        self._guard = threading.Lock()
        if output.exists() and not self.journal.exists():
            raise UserError(
                f"--output {output}: is there already, and no journal of a review beside it "
                f"({self.journal.name}): give another name, or move it away"
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.journal, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        with self._locked():
            if not self._read:
                head = {"review": FORMAT, "videos": self._root, "several": self._several}
                self._append([head])
                sync_folder(output.parent)

    def give(self, samples: Sequence[Sample]) -> list[str]:
        """Make the samples known; returns what each is called here. Those that the journal has keep
        their answers."""
        ids, seen = list[str](), dict[str, int]()
        for sample in samples:
            name = name_of(sample)
            seen[name] = seen.get(name, 0) + 1
            ids.append(name if seen[name] == 1 else f"{name}~{seen[name]}")
        with self._locked():
            lines = []
            for identity, sample in zip(ids, samples, strict=True):
                known = self._known.get(identity)
                more = {name: sample.more[name] for name in COLUMNS if name in sample.more}
                given = Answer(sample.labels, sample.start, sample.end)
                if known is None or (known.given, known.more) != (given, more):
                    lines.append({
                        "given": identity, "path": self._listed(sample.path), "more": more,
                        "labels": sample.labels, "start": sample.start, "end": sample.end,
                    })  # fmt: skip
            self._append(lines)
            self._write()
        return ids

    def now(self, identity: str) -> Answer:
        with self._locked():
            return self._known[identity].now

    def statuses(self, ids: Sequence[str]) -> list[Status]:
        with self._locked():
            return [self._known[identity].now.status for identity in ids]

    def answer(self, identity: str, answer: Answer) -> Answer:
        """Keep the answer, which was made in sight of its ``version``, and write the list. Raises
        StaleError where that is not the last one, OSError where it cannot be written."""
        with self._locked():
            known = self._known[identity]
            if known.now.version != answer.version:
                raise StaleError(known.now)
            told = asdict(replace(answer, version=answer.version + 1))
            at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            before, size = known.now, self._read
            self._append([{"answer": identity, **told, "time": at}])
            try:
                self._write()
            except OSError:  # the page says that it is not kept: so it is not
                os.ftruncate(self._file, size)
                self._read, known.now, known.line = size, before, None
                raise
            return known.now

    def add_class(self, name: str) -> None:
        with self._locked():
            if name not in self.classes:
                self._append([{"class": name}])

    def rows(self) -> int:
        """Rows of the list."""
        return sum(bool(known.line) for known in self._known.values())

    # --- the journal ---

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else writes, and what others wrote is known."""
        with self._guard:
            if sys.platform != "win32":
                fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._read_on()
                yield
            finally:
                if sys.platform != "win32":
                    fcntl.flock(self._file, fcntl.LOCK_UN)

    def _read_on(self) -> None:
        """Take what is new. What a writer that was killed left of a line is cut off: nobody was
        told that it is kept."""
        size = os.fstat(self._file).st_size
        if size == self._read:
            return
        if size < self._read:
            raise UserError(f"{self.journal}: was cut while a review had it open: start it again")
        data = b""
        while len(data) < size - self._read:
            if not (part := os.pread(self._file, size - self._read - len(data),
                                     self._read + len(data))):  # fmt: skip
                break
            data += part
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, self._read + whole)
        for line in data[:whole].splitlines():
            try:
                self._take(parse_json(line))
            except UserError:
                raise
            except (ValueError, KeyError, TypeError, AttributeError):
                shown = line[:60].decode("utf-8", "replace")
                raise UserError(
                    f"{self.journal}: a line is damaged ({shown}): delete that line"
                ) from None
        self._read += whole

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write them, on the disk when it returns. Raises OSError; nothing of them is left then."""
        if not lines:
            return
        data = "".join(as_json_line(dict(line)) for line in lines).encode()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._read)
            raise
        for line in data.splitlines():
            self._take(parse_json(line))
        self._read += len(data)

    def _take(self, line: Mapping[str, Any]) -> None:
        """What a line says. Raises UserError for a journal that is not of these videos."""
        if "review" in line:
            if line["review"] != FORMAT:
                raise UserError(f"{self.journal}: is of a later version: install that")
            what = "give another --output"
            if line["videos"] != self._root:
                raise UserError(
                    f"--output {self.output}: its paths start from {line['videos']}, these from "
                    f"{self._root}: {what}"
                )
            if line["several"] != self._several:
                raise UserError(
                    f"--output {self.output}: one of the two has several labels a video: {what}"
                )
        elif "class" in line:
            self.classes.append(str(line["class"]))
        elif "given" in line:
            given = _answer(line)
            old = self._known.get(line["given"])
            now = given if old is None or not old.now.version else old.now
            known = _Known(str(line["path"]), dict(line["more"]), given, now)
            self._known[str(line["given"])] = known
            if not known.more.keys() <= set(self._columns):
                filled = {*self._columns, *known.more}
                self._columns = [name for name in COLUMNS if name in filled]
                for other in self._known.values():
                    other.line = None
        else:
            known = self._known[line["answer"]]
            known.now, known.line = _answer(line), None

    def _listed(self, path: str) -> str:
        """As the list has it: a training refuses a relative path that leaves the root by a link."""
        place = os.path.join(self._root, path)
        folder = os.path.join(os.path.realpath(os.path.dirname(place)), "")
        inside = os.path.join(self._root, "")
        below = folder.startswith(inside) and not os.path.islink(place)
        return path if below or os.path.realpath(place).startswith(inside) else place

    # --- the list ---

    def _write(self) -> None:
        """The annotation file, in the order in which the rows were given."""
        label = "labels" if self._names_all else "label"
        with atomic_write(self.output, "w", errors="surrogateescape") as file:
            file.write(_cells(["path", label, "start", "end", *self._columns]))
            for known in self._known.values():
                if known.line is None:  # of many rows only those that changed
                    known.line = self._line(known)
                file.write(known.line)

    def _line(self, known: _Known) -> str:
        """"" where the sample has no row."""
        now = known.now
        if now.status == "dropped" or now.labels is None:
            return ""
        times = ["" if one is None else seconds_text(one, 3) for one in (now.start, now.end)]
        # In a list with a column split each row needs one: what is new is trained on.
        empty = {"split": "train"}
        more = [known.more.get(name, empty.get(name, "")) for name in self._columns]
        return _cells([known.path, SEPARATOR.join(now.labels), *times, *more])


def _answer(line: Mapping[str, Any]) -> Answer:
    labels = line["labels"]
    return Answer(
        None if labels is None else tuple(map(str, labels)), line["start"], line["end"],
        line.get("status", "open"), line.get("version", 0),
    )  # fmt: skip


def _cells(cells: Sequence[str]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(cells)
    return file.getvalue()
