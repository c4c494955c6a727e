"""Read a pickle as data: an interpreter of its opcodes that can neither import nor call.

A pickle is a program, and what it may do is what its reader lets it. Python's own imports the names
in it and calls them; torch's restricted one does so for a list of names, and refuses a file that
holds any other, as real checkpoints do. This one is a boundary to files that nobody vouches for:

- It never looks a name up. A class or function is a `Name`, two strings. Where a pickle calls one,
  `rebuild.REBUILDERS` is asked, a table of functions of ours by name, which make plain values out
  of plain values; every other call, object and persistent id becomes an `Inert`, a stand-in that
  is no callable and has no attributes but its name and the state that the pickle gave it.
- Values are None, bool, int, float, str, bytes, list, tuple, dict, and what rebuild.py makes. There
  are no sets, and a dict keeps the entries whose key is a str: so nothing of the file's is hashed
  or compared but text, and no depth of nesting recurses.
- Items given to a stand-in, attributes given to a value, and extension codes do nothing.
- What it costs is bounded by the size of the file: a length beyond its end is damage, large bytes
  are views and not copies, no opcode makes more than one object or copies what another one made,
  and MOST_OPCODES ends it.

Whatever is wrong with a pickle raises `FileFault`. tests/campaigns/fuzz_pickles.py mutates files.
"""

import codecs
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

MOST_OPCODES = 2_000_000
"""Opcodes of one pickle: 20 times what a checkpoint of SlowFast-R101 with its optimizer has. An
opcode makes at most about 200 bytes, so that this many take less than half a gigabyte."""

MOST_INT_BYTES = 64
"""Bytes of one integer; torch's mark of its old format has 10, and nothing here needs more."""

LONGEST_TEXT = 4096
"""Bytes of a Python 2 string that may be text, and of bytes that are copied: anything longer is the
content of an array, and stays a view of the file."""


class FileFault(ValueError):
    """What is wrong with a file, as the rest of a sentence that begins with its path."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle names; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Inert:
    """What stands for an object that is not made: its class or function, and the state that it
    would have been given."""

    __slots__ = ("kind", "state")

    def __init__(self, kind: Name) -> None:
        self.kind = kind
        self.state: Any = None


ANONYMOUS = Name("", "object")
"""Of a stand-in whose class is no name."""

_SET, _PERSISTENT = Name("builtins", "set"), Name("", "persistent id")

Rebuild = Callable[[tuple[Any, ...]], Any]

# Python imports a codec with its first use; so that reading a file imports nothing, here.
_decode_line = codecs.getdecoder("raw-unicode-escape")

_DAMAGE = (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error)
"""What stacks, the memo and numbers of a damaged pickle raise here; UnicodeDecodeError is among
them as a ValueError."""


def read_pickle(
    data: bytes, at: int = 0, rebuilders: dict[Name, Rebuild] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> tuple[Any, int]:  # fmt: skip
    """The value of the pickle that begins at byte ``at``, and where it ends.

    ``rebuilders``: what is made of calls; ``persistent``: of persistent ids. Raises FileFault.
    """
    machine = _Machine(data, at, rebuilders or {}, persistent)
    try:
        return machine.run(), machine.at
    except FileFault:
        raise
    except _DAMAGE as error:
        raise FileFault(f"is damaged at byte {machine.at:,} ({type(error).__name__})") from None


class _Machine:
    """The stack and memo of one pickle. ``stack`` is what lies above the last mark."""

    def __init__(
        self, data: bytes, at: int, rebuilders: dict[Name, Rebuild],
        persistent: Callable[[Any], Any] | None,
    ) -> None:  # fmt: skip
        self.data, self.view, self.at = data, memoryview(data), at
        self.rebuilders, self.persistent = rebuilders, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MOST_OPCODES):
            if self.at >= len(self.data):
                raise FileFault("is cut off: its pickle has no end")
            opcode = self.data[self.at]
            self.at += 1
            if opcode == STOP:
                return self.stack.pop()
            action = _ACTIONS.get(opcode)
            if action is None:
                raise FileFault(f"is damaged at byte {self.at:,} (opcode {opcode:#04x})")
            action(self)
        raise FileFault(f"holds a pickle of more than {MOST_OPCODES:,} steps")

    # Bytes of the file.

    def take(self, size: int) -> memoryview:
        """The next ``size`` bytes, not copied."""
        if not 0 <= size <= len(self.data) - self.at:
            raise FileFault(f"is cut off: it needs {size:,} bytes after byte {self.at:,}")
        self.at += size
        return self.view[self.at - size : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        end = self.data.index(b"\n", self.at)
        text = bytes(self.take(end - self.at))
        self.at += 1
        return text

    def text(self, form: str) -> str:
        return str(self.take(self.number(form)), "utf-8", "surrogatepass")

    def raw(self, form: str) -> bytes | memoryview:
        content = self.take(self.number(form))
        return bytes(content) if len(content) <= LONGEST_TEXT else content

    def old_text(self, form: str) -> str | memoryview:
        """Python 2's str: text, or the bytes of an array."""
        content = self.take(self.number(form))
        return str(content, "latin-1") if len(content) <= LONGEST_TEXT else content

    def integer(self, form: str) -> int:
        size = self.number(form)
        if not 0 <= size <= MOST_INT_BYTES:
            raise FileFault(f"is damaged at byte {self.at:,} (an integer of {size:,} bytes)")
        return int.from_bytes(self.take(size), "little", signed=True)

    def decimal(self, text: bytes) -> int | bool:
        if text in (b"00", b"01"):  # as protocol 0 writes False and True
            return text == b"01"
        if len(text) > 2 * MOST_INT_BYTES:
            raise FileFault(f"is damaged at byte {self.at:,} (an integer of {len(text):,} digits)")
        return int(text.rstrip(b"L"))

    def quoted(self) -> str | bytes:
        text = self.line()
        if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
            raise FileFault(f"is damaged at byte {self.at:,} (a string without quotes)")
        content = _ESCAPE.sub(_unescaped, text[1:-1])
        return content.decode("latin-1") if len(content) <= LONGEST_TEXT else content

    # The stack.

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def unmark(self) -> list[Any]:
        """What lies above the last mark, taken off with it."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.unmark()

    def pop_several(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    # Containers.

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is list:
            self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is dict:
            self.stack[-1].update(text_entries(zip(items[::2], items[1::2], strict=True)))

    # Names, and what would be calls.

    def call(self, function: Any, arguments: Any) -> None:
        rebuild = self.rebuilders.get(function) if type(function) is Name else None
        if rebuild is not None and type(arguments) is tuple:
            self.push(rebuild(arguments))
        else:
            self.stand_in(function)

    def stand_in(self, kind: Any) -> None:
        self.push(Inert(kind if type(kind) is Name else ANONYMOUS))

    def name(self, module: Any, name: Any) -> Name:
        if type(module) is not str or type(name) is not str:
            raise TypeError
        if len(module) + len(name) > LONGEST_TEXT:
            raise FileFault(f"is damaged at byte {self.at:,} (a name of {len(name):,} letters)")
        return Name(module, name)

    def global_line(self) -> Name:
        return self.name(self.line().decode(), self.line().decode())

    def look_up(self, identity: Any) -> None:
        self.push(Inert(_PERSISTENT) if self.persistent is None else self.persistent(identity))

    def set_state(self) -> None:
        state = self.stack.pop()
        value = self.stack[-1]
        if type(value) is Inert:
            value.state = state
        elif hasattr(type(value), "set_state"):  # an array or dtype of rebuild.py
            value.set_state(state)

    def reduce(self) -> None:
        function, arguments = self.pop_several(2)
        self.call(function, arguments)

    def make(self, parts: int) -> None:
        self.stand_in(self.pop_several(parts)[0])

    def make_of_marked(self) -> None:
        self.stand_in(self.unmark()[0])

    def instance(self) -> None:
        kind = self.global_line()
        self.unmark()
        self.stand_in(kind)

    def put_item(self) -> None:
        items = list(self.pop_several(2))
        self.update(items)

    def put_items(self) -> None:
        items = self.unmark()
        self.update(items)

    def append(self) -> None:
        item = self.stack.pop()
        self.extend([item])

    def append_all(self) -> None:
        items = self.unmark()
        self.extend(items)

    def dictionary(self) -> None:
        items = self.unmark()
        self.push({})
        self.update(items)

    def discard_marked(self) -> None:
        """The items of a set: its stand-in lies below them."""
        self.unmark()

    def frozen_set(self) -> None:
        self.unmark()
        self.push(Inert(_SET))


def text_entries(pairs: Iterable[Any]) -> dict[str, Any]:
    """Those of the pairs (key, value) whose key is text."""
    return {key: value for key, value in pairs if type(key) is str}


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def _unescaped(found: re.Match[bytes]) -> bytes:
    """What Python 2's repr of a string wrote so."""
    if found[1] is not None:
        return bytes((int(found[1], 16),))
    return _ESCAPED.get(found[2], found[2])


STOP = ord(".")

_BY_CODE: dict[int | str, Callable[[_Machine], Any]] = {
    # Numbers as in PEP 3154 and the source of Python's pickletools.
    0x80: lambda m: m.number("<B"),  # PROTO
    0x95: lambda m: m.take(8),  # FRAME: its length binds nobody
    "N": lambda m: m.push(None), 0x88: lambda m: m.push(True), 0x89: lambda m: m.push(False),
    "I": lambda m: m.push(m.decimal(m.line())), "L": lambda m: m.push(m.decimal(m.line())),
    "J": lambda m: m.push(m.number("<i")), "K": lambda m: m.push(m.number("<B")),
    "M": lambda m: m.push(m.number("<H")),
    0x8A: lambda m: m.push(m.integer("<B")), 0x8B: lambda m: m.push(m.integer("<i")),
    "F": lambda m: m.push(float(m.line())), "G": lambda m: m.push(m.number(">d")),
    "S": lambda m: m.push(m.quoted()),
    "T": lambda m: m.push(m.old_text("<i")), "U": lambda m: m.push(m.old_text("<B")),
    "V": lambda m: m.push(_decode_line(m.line())[0]),
    "X": lambda m: m.push(m.text("<I")), 0x8C: lambda m: m.push(m.text("<B")),
    0x8D: lambda m: m.push(m.text("<Q")),
    "B": lambda m: m.push(m.raw("<I")), "C": lambda m: m.push(m.raw("<B")),
    0x8E: lambda m: m.push(m.raw("<Q")), 0x96: lambda m: m.push(m.raw("<Q")),
    ")": lambda m: m.push(()), "t": lambda m: m.push(tuple(m.unmark())),
    0x85: lambda m: m.push(m.pop_several(1)), 0x86: lambda m: m.push(m.pop_several(2)),
    0x87: lambda m: m.push(m.pop_several(3)),
    "]": lambda m: m.push([]), "l": lambda m: m.push(m.unmark()),
    "a": _Machine.append, "e": _Machine.append_all,
    "}": lambda m: m.push({}), "d": _Machine.dictionary,
    "s": _Machine.put_item, "u": _Machine.put_items,
    0x8F: lambda m: m.push(Inert(_SET)), 0x90: _Machine.discard_marked,
    0x91: _Machine.frozen_set,
    "(": _Machine.mark, "0": _Machine.pop, "1": _Machine.discard_marked,
    "2": lambda m: m.push(m.stack[-1]),
    "g": lambda m: m.push(m.memo[m.decimal(m.line())]),
    "h": lambda m: m.push(m.memo[m.number("<B")]),
    "j": lambda m: m.push(m.memo[m.number("<I")]),
    "p": lambda m: m.remember(m.decimal(m.line())), "q": lambda m: m.remember(m.number("<B")),
    "r": lambda m: m.remember(m.number("<I")), 0x94: lambda m: m.remember(len(m.memo)),
    "c": lambda m: m.push(m.global_line()), 0x93: lambda m: m.push(m.name(*m.pop_several(2))),
    "i": _Machine.instance, "o": _Machine.make_of_marked, "R": _Machine.reduce,
    0x81: lambda m: m.make(2), 0x92: lambda m: m.make(3), "b": _Machine.set_state,
    "P": lambda m: m.look_up(m.line().decode()), "Q": lambda m: m.look_up(m.stack.pop()),
    # Not here: extension codes (0x82 to 0x84) and buffers outside the file (0x97, 0x98).
}  # fmt: skip

_ACTIONS = {
    ord(code) if isinstance(code, str) else code: action for code, action in _BY_CODE.items()
}
"""Of each opcode what it does."""
