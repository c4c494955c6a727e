"""The command lines of what is done with videos beside training: one lazy import a command."""

from pathlib import Path

from slowfast_dist.arguments import MODULE, parse_command
from slowfast_dist.commands import BenchmarkIndex, BenchmarkLoader, CheckData, Prepare
from slowfast_dist.config import UserError
from slowfast_dist.flags import did_you_mean


def check_data(arguments: list[str]) -> None:
    """Report what is wrong with a folder of videos: DIR [flags]."""
    parsed = parse_command(arguments, CheckData(), "check-data", ("DIR",))
    if parsed is None:
        return
    from slowfast_dist.check.command import run_check

    (root,), command = parsed
    run_check(Path(root), command)


def prepare(arguments: list[str]) -> None:
    """Rewrite a folder of videos once, for fast loading: DIR OUT [flags]."""
    parsed = parse_command(arguments, Prepare(), "prepare", ("DIR", "OUT"))
    if parsed is None:
        return
    from slowfast_dist.prepare import run_prepare

    (root, out), command = parsed
    run_prepare(Path(root), Path(out), command)


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
    parsed = parse_command(arguments, BenchmarkLoader(), "benchmark loader", ("[DIR]",))
    if parsed is None:
        return
    from slowfast_dist.benchmark.loader import run_benchmark

    words, command = parsed
    run_benchmark(Path(words[0]) if words else None, command)


def _benchmark_index(arguments: list[str]) -> None:
    """Time to list a large dataset and to start on it, and memory."""
    parsed = parse_command(arguments, BenchmarkIndex(), "benchmark index", ())
    if parsed is None:
        return
    from slowfast_dist.benchmark.index import run_benchmark

    run_benchmark(parsed[1])


BENCHMARKS = {"loader": _benchmark_loader, "index": _benchmark_index}
