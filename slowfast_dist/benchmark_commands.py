"""The command lines of ``benchmark``: one lazy import a measurement."""

from pathlib import Path

from slowfast_dist.arguments import MODULE, parse_command
from slowfast_dist.benchmark_settings import (
    BenchmarkIndex,
    BenchmarkLoader,
    BenchmarkScaling,
    BenchmarkStep,
    BenchmarkTrain,
)
from slowfast_dist.config import UserError
from slowfast_dist.cpus import let_threads_sleep
from slowfast_dist.flags import did_you_mean


def benchmark(arguments: list[str]) -> None:
    """Measure on this machine: step, train, scaling, loader or index, [flags]."""
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


def _benchmark_step(arguments: list[str]) -> None:
    """Time of a training step and of scoring, on random data; against a plain loop."""
    parsed = parse_command(arguments, BenchmarkStep(), "benchmark step", ())
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.benchmark.step import run_benchmark

    run_benchmark(parsed[1])


def _benchmark_train(arguments: list[str]) -> None:
    """A training end to end on the videos of DIR; against a plain loop."""
    parsed = parse_command(arguments, BenchmarkTrain(), "benchmark train", ("DIR",))
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.benchmark.train import run_benchmark

    (root,), command = parsed
    run_benchmark(Path(root), command)


def _benchmark_scaling(arguments: list[str]) -> None:
    """1 to N processes on this machine, and a model of 8 to 512 GPUs."""
    parsed = parse_command(arguments, BenchmarkScaling(), "benchmark scaling", ())
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.benchmark.scaling import run_benchmark

    run_benchmark(parsed[1])


BENCHMARKS = {
    "step": _benchmark_step,
    "train": _benchmark_train,
    "scaling": _benchmark_scaling,
    "loader": _benchmark_loader,
    "index": _benchmark_index,
}
