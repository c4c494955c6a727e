"""The words of a command line: flags with their values, and those that belong to no flag."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from slowfast_dist.config import UserError
from slowfast_dist.flags import (
    SEE_HELP,
    Setting,
    apply,
    did_you_mean,
    fewest_values,
    flag_types,
    most_values,
    print_help,
    wanted,
)

MODULE = "python -m slowfast_dist"


class _Command(Protocol):
    def check(self) -> None: ...


C = TypeVar("C", bound=_Command)


@dataclass
class CommandLine:
    """``words``: those that belong to no flag; ``help``: whether --help stands among the flags."""

    words: list[str] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    help: bool = False


def parse_command(
    arguments: Sequence[str], defaults: C, name: str, words: tuple[str, ...]
) -> tuple[list[str], C] | None:
    """The words and the settings of a command, checked; None after --help.

    ``words`` name what is given without a flag: in brackets what may be missing; the last one may
    end in "..." and then stands for one or more. Raises UserError for a mistake.
    """
    types = flag_types(type(defaults))
    many = bool(words) and words[-1].endswith("...")
    line = read_command_line(arguments, types, most_words=None if many else len(words))
    if line.help:
        print_help(defaults, " ".join((MODULE, name, *words)), type(defaults).__doc__ or "")
        return None
    for word in words[len(line.words) :]:
        if not word.startswith("["):
            missing = word.removesuffix("...")
            raise UserError(f"{name}: {missing} is missing: {MODULE} {name} {' '.join(words)}")
    command = apply(line.settings, defaults, types)
    command.check()
    return line.words, command


def read_command_line(
    arguments: Sequence[str], types: Mapping[str, Any], most_words: int | None
) -> CommandLine:
    """Split the arguments; ``types`` are those of `flags.flag_types`; None: any number of words.

    Raises UserError for an unknown flag, a value that is missing, and a word too many.
    """
    line = CommandLine()
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word in ("-h", "--help"):
            line.help = True
        elif is_flag(word):
            kind = types.get(word.removeprefix("--").replace("_", "-"))
            # What follows a switch and is no value of it is a word: predict RUN --json a.mp4
            words = [other for other in waiting if other.lower() not in ("true", "false")]
            reserved = words if kind is bool else ()
            line.settings.append(read_flag(word, waiting, types, reserved=reserved))
        elif len(line.words) == most_words:
            raise stray_word(word)
        else:
            line.words.append(word)
    return line


def read_flag(
    word: str,
    words: list[str],
    types: Mapping[str, Any],
    others: Collection[str] = ("help",),
    reserved: Collection[str] = (),
) -> Setting:
    """The flag ``word``, as --x or --x=value, with its values, which are removed from ``words``.

    ``others`` are flags of the command beside ``types``; ``reserved`` as for `take_values`.
    """
    flag, equals, value = word.partition("=")
    name = flag.removeprefix("--").replace("_", "-")
    if not flag.startswith("--") or name not in types:
        hint = did_you_mean(name.lstrip("-"), (*others, *types), "--") or SEE_HELP
        raise UserError(f"{flag}: unknown flag{hint}")
    given = [value] if equals else []
    most, fewest = most_values(types[name]), fewest_values(types[name])
    given += take_values(words, most and most - len(given), fewest - len(given), reserved)
    if len(given) < fewest:
        raise UserError(f"--{name}: a value is missing: give {wanted(types[name])}")
    return Setting(name, tuple(given), f"--{name}")


def take_values(
    words: list[str], most: int | None, fewest: int, reserved: Collection[str] = ()
) -> list[str]:
    """Remove and return the values at the start of ``words``: at most ``most``, None for all.

    ``reserved`` words are no values where a value could as well be missing.
    """
    taken: list[str] = []
    while words and not is_flag(words[0]) and (most is None or len(taken) < most):
        if len(taken) >= fewest and words[0] in reserved:
            break
        taken.append(words.pop(0))
    return taken


def is_flag(word: str) -> bool:
    """Whether a word is a flag, known or not, and no value; a negative number is a value."""
    return word.startswith("--") or (word.startswith("-") and word[1:2].isalpha())


def stray_word(word: str) -> UserError:
    """The error for a word where none is due."""
    return UserError(f"{word}: belongs to no flag: write it behind its flag, or take it away")
