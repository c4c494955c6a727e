"""Which rows of a trained head a new training keeps: those of the same classes, by their names.

The number of classes says nothing: six other classes would be told apart by rows that were trained
for what they are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from unicodedata import normalize

from slowfast_dist.config.errors import UserError

HeadMode = Literal["auto", "new", "keep"]

NAMED = 5
"""Classes that a line names; of the others it gives the number."""


@dataclass(frozen=True)
class HeadStart:
    """How the head of a training began.

    ``rows`` (K,): for each of its classes the row of the file, None for a new one. ``kept``,
    ``new``: names of its classes; ``dropped``: of the file's that are not here, all empty where the
    file's names are not known. ``theirs``: the number of the file's rows, None if it has none.
    """

    rows: tuple[int | None, ...]
    theirs: int | None
    kept: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()
    """With --model.head keep: the classes whose rows had other names, as "old -> new"."""

    @property
    def any_kept(self) -> bool:
        return any(row is not None for row in self.rows)

    @property
    def by_name(self) -> bool:
        """Whether the file's names decided."""
        return bool(self.kept or self.dropped)

    def facts(self) -> dict[str, list[str]] | None:
        """For best_model.json, where names decided; else None."""
        if not self.by_name:
            return None
        return {"kept": [*self.kept], "new": [*self.new], "dropped": [*self.dropped]}


def match_rows(
    mode: HeadMode, classes: Sequence[str] | None, outputs: int, known: Sequence[str] | None,
    theirs: int | None, path: Path,
) -> HeadStart:  # fmt: skip
    """Which of the ``theirs`` rows of a file's head (None: it has none) the ``outputs`` rows of
    this one take.

    ``classes``, ``known``: names of this head's rows and of the file's, None where not known. Names
    that are not as many as the file's rows are another file's, and count as not known. Raises
    UserError where --model.head keep cannot be had.
    """
    fresh = (None,) * outputs
    if known is not None and len(known) != theirs:
        known = None
    if mode == "keep":
        _check_number(outputs, theirs, path)
    if mode == "new" or theirs is None:
        return HeadStart(fresh, theirs)
    if known is None or classes is None:
        return HeadStart(tuple(range(outputs)) if mode == "keep" else fresh, theirs)
    rows = _rows_by_name(classes, known)
    if mode == "keep" and None in rows:
        return _by_position(classes, known, rows, path)
    taken = {row for row in rows if row is not None}
    return HeadStart(
        rows, theirs,
        kept=tuple(name for name, row in zip(classes, rows, strict=True) if row is not None),
        new=tuple(name for name, row in zip(classes, rows, strict=True) if row is None),
        dropped=tuple(name for row, name in enumerate(known) if row not in taken),
    )  # fmt: skip


def _rows_by_name(classes: Sequence[str], known: Sequence[str]) -> tuple[int | None, ...]:
    """As they are spelled; an accent may be a letter's part or a sign by itself, as macOS writes
    names of folders, where that leaves no doubt."""
    exact = {name: row for row, name in enumerate(known)}
    composed: dict[str, list[int]] = {}
    for row, name in enumerate(known):
        if name not in classes:
            composed.setdefault(normalize("NFC", name), []).append(row)
    alike = [normalize("NFC", name) for name in classes if name not in exact]

    def row_of(name: str) -> int | None:
        if name in exact:
            return exact[name]
        form = normalize("NFC", name)
        found = composed.get(form, [])
        return found[0] if len(found) == 1 and alike.count(form) == 1 else None

    return tuple(map(row_of, classes))


def _by_position(
    classes: Sequence[str], known: Sequence[str], rows: tuple[int | None, ...], path: Path
) -> HeadStart:
    """The rows as they are, for classes that were renamed: none that kept its name may move."""
    for place, row in enumerate(rows):
        if row is not None and row != place:
            raise UserError(
                f"--model.head keep: row {place + 1} of {path} is {known[place]}, and here "
                f"{classes[place]}, which is its row {row + 1}: use --model.head auto, which "
                "goes by name"
            )
    pairs = [(old, new) for old, new in zip(known, classes, strict=True) if old != new]
    renamed = tuple(f"{old} -> {new}" for old, new in pairs)
    return HeadStart(tuple(range(len(classes))), len(known), tuple(classes), renamed=renamed)


def _check_number(outputs: int, theirs: int | None, path: Path) -> None:
    if theirs is None:
        raise UserError(f"--model.head keep: {path} has no head to keep: use --model.head new")
    if theirs != outputs:
        raise UserError(
            f"--model.head keep: the head of {path} has {theirs} classes, and here are {outputs}: "
            "use --model.head auto, which keeps those of the same name"
        )


def describe_head(head: HeadStart, mode: HeadMode) -> str:
    """The line that a user reads."""
    count, theirs = len(head.rows), head.theirs
    if head.by_name:
        return f"head: {describe_classes(head)}"
    if head.any_kept:
        return (
            f"head: kept as it is, {count} rows (--model.head keep): the file does not tell its "
            "classes' names, so they must be the same in the same order"
        )
    if mode == "new" and theirs is not None:
        why = "--model.head new"
    elif theirs is None:
        why = "the file has none"
    elif theirs != count:
        why = f"the file's has {theirs}"
    else:
        why = (
            f"the file's has {theirs} too, but does not tell of which: --model.head keep takes it, "
            "if they are the same in the same order"
        )
    return f"head: new, for {count} classes ({why})"


def describe_classes(head: HeadStart) -> str:
    """What became of the file's classes, each list counted, its first names given."""
    if head.renamed:
        return (
            f"kept as it is, {len(head.rows)} rows (--model.head keep); "
            f"renamed: {_named(head.renamed)}"
        )
    if not head.new and not head.dropped:
        moved = head.rows != tuple(range(len(head.rows)))
        return f"kept, the same {len(head.kept)} classes{' in another order' * moved}"
    parts = [
        f"{len(names)} {what} ({_named(names)})"
        for what, names in (
            ("kept by name", head.kept), ("new", head.new), ("dropped", head.dropped),
        )
        if names
    ]  # fmt: skip
    return f"classes {', '.join(parts)}"


def _named(names: Sequence[str]) -> str:
    shown = [name if name.isprintable() else ascii(name)[1:-1] for name in names[:NAMED]]
    more = len(names) - NAMED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
