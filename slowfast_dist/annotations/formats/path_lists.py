"""Lists of paths without a header: UCF101, HMDB51, PySlowFast, MMAction2 (videos and rawframes)."""

import re
from collections.abc import Iterator
from itertools import islice

from slowfast_dist.annotations.importing.rows import Segment
from slowfast_dist.annotations.importing.source import Source

_UCF = re.compile(r"([^/\\]+)/v_([^/\\]+)_g(\d+)_c\d+\.avi(?:\s+\d+)?")
_UCF_LIKE = re.compile(r"([^/\\]+)/[^/\\]+\.[A-Za-z0-9]{2,4}(?:\s+\d+)?")
_UCF_NAME = re.compile(r"(train|test|val)list\d*")
_HMDB_NAME = re.compile(r"(.+)_test_split[123]")
_HMDB = re.compile(r"(.+\.avi)\s+([012])")
_ENTRY = re.compile(r"(\S.*?\.[A-Za-z0-9]{2,4})((?:[\s,;]+-?\d+)+)\s*")
"""A file with an ending, blanks in its path or not, and numbers behind."""
_FOLDER = re.compile(r"(\S.*?)((?:[\s,;]+\d+){2,3})\s*")
"""A folder and two or three numbers behind."""

LOOK = 20
"""Lines that are looked at to find the format."""


def _lines(source: Source) -> list[str]:
    return [line for _, line in islice(source.lines(), LOOK)]


def _is_list(source: Source, pattern: re.Pattern[str]) -> bool:
    if source.is_json or source.first == "<":
        return False
    lines = _lines(source)
    return bool(lines) and all(pattern.fullmatch(line) for line in lines)


def is_ucf101(source: Source) -> bool:
    named = _UCF_NAME.fullmatch(source.path.stem)
    return _is_list(source, _UCF) or (bool(named) and _is_list(source, _UCF_LIKE))


def read_ucf101(source: Source) -> Iterator[Segment]:
    """trainlist01.txt and testlist01.txt. The folder is the class: the numbers behind count from 1,
    and in other people's lists of the kind otherwise. Videos of one gNN of a class show the same
    people: they are a group."""
    for number, line in source.lines():
        folder, match = _UCF_LIKE.fullmatch(line), _UCF.fullmatch(line)
        if folder is None:
            raise source.wrong(f"{line[:60]!r} is not as Class/v_Class_g01_c01.avi 1", number)
        path = re.split(r"\s+\d+$", line)[0]
        group = f"{match[2]}_g{match[3]}" if match else ""
        yield Segment(number, path, folder[1], group=group)


def is_hmdb51(source: Source) -> bool:
    return bool(_HMDB_NAME.fullmatch(source.path.stem)) and _is_list(source, _HMDB)


def read_hmdb51(source: Source) -> Iterator[Segment]:
    """CLASS_test_splitN.txt: 1 is train, 2 test, 0 neither; the class is in the file's name."""
    name = _HMDB_NAME.fullmatch(source.path.stem)
    if name is None:
        raise source.wrong("is not called CLASS_test_splitN.txt, which tells the class")
    for number, line in source.lines():
        match = _HMDB.fullmatch(line)
        if match is None:
            raise source.wrong(f"{line[:60]!r} is not a file and 0, 1 or 2", number)
        side = ("", "train", "test")[int(match[2])]
        if not side:
            source.notes.drop(number, "it is in neither part of this split (0)", match[1], name[1])
            continue
        yield Segment(number, match[1], name[1], split=side)


def is_videos(source: Source) -> bool:
    return _is_list(source, _ENTRY)


def read_videos(source: Source) -> Iterator[Segment]:
    """``path label``, or ``path label label ...`` of several classes; PySlowFast's, and MMAction2's
    of videos. Numbers become names by --classes."""
    for number, line in source.lines():
        match = _ENTRY.fullmatch(line)
        if match is None:
            raise source.wrong(
                f"{line[:60]!r} is not a path with an ending and the number of its class", number
            )
        labels = re.findall(r"-?\d+", match[2])
        if len(labels) > 1:
            source.notes.say(f"{source.path.name}: of videos with several classes the first is "
                             "taken")  # fmt: skip
        for label in labels:
            if label.startswith("-"):
                source.notes.drop(number, "its class is below 0 (unlabelled)", match[1], label)
            else:
                yield Segment(number, match[1], label)
    _say_numbers(source)


def is_rawframes(source: Source) -> bool:
    return _is_list(source, _FOLDER) and not is_videos(source)


def read_rawframes(source: Source) -> Iterator[Segment]:
    """``folder [offset] total_frames label`` of folders of frames, or of the videos that
    they are of where those are there; with an offset a part of one."""
    for number, line in source.lines():
        match = _FOLDER.fullmatch(line)
        if match is None:
            raise source.wrong(f"{line[:60]!r} is not a folder, its frames and its class", number)
        numbers = [int(text) for text in re.findall(r"\d+", match[2])]
        label = str(numbers[-1])
        if len(numbers) == 2:
            yield Segment(number, match[1], label)
        else:
            first, total = numbers[:2]
            yield Segment(number, match[1], label, first, first + total, frames=True)
    _say_numbers(source)


def _say_numbers(source: Source) -> None:
    if not source.options.classes:
        source.notes.say(f"{source.path.name}: classes keep their numbers: --classes FILE gives "
                         "them names")  # fmt: skip
