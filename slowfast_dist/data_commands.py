"""The command lines of what is done with videos beside training: one lazy import a command."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from slowfast_dist.arguments import read_command_line
from slowfast_dist.commands import BenchmarkIndex, BenchmarkLoader, CheckData, Prepare
from slowfast_dist.config import UserError
from slowfast_dist.flags import apply, did_you_mean, flag_types, print_help

MODULE = "python -m slowfast_dist"


class _Command(Protocol):
    def check(self) -> None: ...


C = TypeVar("C", bound=_Command)


def check_data(arguments: list[str]) -> None:
    """Report what is wrong with a folder of videos: DIR [flags]."""
    parsed = parse(arguments, CheckData(), "check-data", ("DIR",))
    if parsed is None:
        return
    from slowfast_dist.check.command import run_check

    (root,), command = parsed
    run_check(root, command)


def prepare(arguments: list[str]) -> None:
    """Rewrite a folder of videos once, for fast loading: DIR OUT [flags]."""
    parsed = parse(arguments, Prepare(), "prepare", ("DIR", "OUT"))
    if parsed is None:
        return
    from slowfast_dist.prepare import run_prepare

    (root, out), command = parsed
    run_prepare(root, out, command)


def benchmark(arguments: list[str]) -> None:
    """Measure on this machine: loader [DIR] or index, [flags]."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {MODULE} benchmark WHAT ...\n")
        for name, measure in BENCHMARKS.items():
            print(f"  {name:<12}{measure.__doc__}")
    elif arguments[0] in BENCHMARKS:
        BENCHMARKS[arguments[0]](arguments[1:])
    else:
        names = ", ".join(BENCHMARKS)
        hint = did_you_mean(arguments[0], BENCHMARKS) or f": give one of {names}"
        raise UserError(f"benchmark {arguments[0]}: there is none{hint}")


def _benchmark_loader(arguments: list[str]) -> None:
    """CPU time of reading clips, by reader, size, keyframe interval and workers."""
    parsed = parse(arguments, BenchmarkLoader(), "benchmark loader", ("[DIR]",))
    if parsed is None:
        return
    from slowfast_dist.benchmark.loader import run_benchmark

    words, command = parsed
    run_benchmark(words[0] if words else None, command)


def _benchmark_index(arguments: list[str]) -> None:
    """Time to list a large dataset and to start on it, and memory."""
    parsed = parse(arguments, BenchmarkIndex(), "benchmark index", ())
    if parsed is None:
        return
    from slowfast_dist.benchmark.index import run_benchmark

    run_benchmark(parsed[1])


BENCHMARKS = {"loader": _benchmark_loader, "index": _benchmark_index}


def parse(
    arguments: Sequence[str], defaults: C, name: str, words: tuple[str, ...]
) -> tuple[list[Path], C] | None:
    """The paths and the settings of a command, checked; None after --help.

    ``words`` name the paths, in brackets where one may be missing. Raises UserError for a mistake.
    """
    types = flag_types(type(defaults))
    line = read_command_line(arguments, types, most_words=len(words))
    if line.help:
        print_help(defaults, " ".join((MODULE, name, *words)), type(defaults).__doc__ or "")
        return None
    for word in words[len(line.words) :]:
        if not word.startswith("["):
            raise UserError(f"{name}: {word} is missing: {MODULE} {name} {' '.join(words)}")
    command = apply(line.settings, defaults, types)
    command.check()
    return [Path(word) for word in line.words], command
