"""The commands: what parses the line of each and runs it, with one lazy import a command."""

from collections.abc import Callable
from pathlib import Path

from slowfast_dist.cli.flags import did_you_mean
from slowfast_dist.cli.parser import MODULE, _rank, parse_command, parse_evaluation, parse_training
from slowfast_dist.config.benchmark import (
    BenchmarkIndex,
    BenchmarkLoader,
    BenchmarkScaling,
    BenchmarkStep,
    BenchmarkTrain,
)
from slowfast_dist.config.commands import (
    CheckData,
    Export,
    ModelCard,
    Predict,
    Prepare,
    Report,
    Serve,
)
from slowfast_dist.config.errors import UserError
from slowfast_dist.runs.lock import refuse_if_held
from slowfast_dist.system import signals
from slowfast_dist.system.cpus import let_threads_sleep
from slowfast_dist.system.interrupts import ends_with_its_pipe


def _train(arguments: list[str]) -> None:
    """Train a model: [PRESET] [--config FILE ...] [flags]; train.py is the same."""
    config = parse_training(arguments)
    if config is None:
        return
    signals.install(config.distributed.preempt_signal)
    refuse_if_held(config.output_dir)
    let_threads_sleep()
    from slowfast_dist.training.run import run_training

    run_training(config)


def _evaluate(arguments: list[str]) -> None:
    """Score labelled videos with a run's best model: RUN [--data DIR] [flags]."""
    parsed = parse_evaluation(arguments)
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.commands.evaluate import run_evaluation

    run_evaluation(*parsed)


def _make_demo(arguments: list[str]) -> None:
    """Make the small videos of the demo in a folder: DIR."""
    usage = "python -m slowfast_dist make-demo DIR"
    if {"-h", "--help"} & set(arguments):
        if _rank() == 0:
            print(f"usage: {usage}")
        return
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise UserError(f"make-demo takes the folder to make: {usage}")
    from slowfast_dist.data.synthetic import make_demo_videos

    make_demo_videos(Path(arguments[0]))


def predict(arguments: list[str]) -> None:
    """Say what happens in videos or a live source: RUN INPUT... [flags]."""
    parsed = parse_command(arguments, Predict(), "predict", ("RUN", "INPUT..."))
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.commands.predict.command import run_predict

    (run, *inputs), command = parsed
    run_predict(Path(run), inputs, command)


def export(arguments: list[str]) -> None:
    """Write a run's best model as onnx, pt2 or safetensors: RUN --format FORMAT [flags]."""
    parsed = parse_command(arguments, Export(), "export", ("RUN",))
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.commands.export.command import run_export

    (run,), command = parsed
    with ends_with_its_pipe():
        run_export(Path(run), command)


def report(arguments: list[str]) -> None:
    """Write an HTML page about a run, or one that compares several: RUN... [flags]."""
    parsed = parse_command(arguments, Report(), "report", ("RUN...",))
    if parsed is None:
        return
    from slowfast_dist.report.command import run_report

    runs, command = parsed
    with ends_with_its_pipe():
        run_report([Path(run) for run in runs], command)


def model_card(arguments: list[str]) -> None:
    """Write, and with --push-to-hub upload, the card of a run's best model: RUN [flags]."""
    parsed = parse_command(arguments, ModelCard(), "model-card", ("RUN",))
    if parsed is None:
        return
    from slowfast_dist.commands.hub import run_model_card

    (run,), command = parsed
    with ends_with_its_pipe():
        run_model_card(Path(run), command)


def serve(arguments: list[str]) -> None:
    """Show a run's best model in the browser: RUN [flags]."""
    parsed = parse_command(arguments, Serve(), "serve", ("RUN",))
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.commands.serve.command import run_serve

    (run,), command = parsed
    run_serve(Path(run), command)


# The command lines of what is done with videos beside training: one lazy import a command.


def check_data(arguments: list[str]) -> None:
    """Report what is wrong with a folder of videos: DIR [flags]."""
    parsed = parse_command(arguments, CheckData(), "check-data", ("DIR",))
    if parsed is None:
        return
    from slowfast_dist.commands.check.command import run_check

    (root,), command = parsed
    run_check(Path(root), command)


def prepare(arguments: list[str]) -> None:
    """Rewrite a folder of videos once, for fast loading: DIR OUT [flags]."""
    parsed = parse_command(arguments, Prepare(), "prepare", ("DIR", "OUT"))
    if parsed is None:
        return
    from slowfast_dist.commands.prepare.command import run_prepare

    (root, out), command = parsed
    run_prepare(Path(root), Path(out), command)


# The command lines of ``benchmark``: one lazy import a measurement.


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
    from slowfast_dist.commands.benchmark.loader import run_benchmark

    words, command = parsed
    run_benchmark(Path(words[0]) if words else None, command)


def _benchmark_index(arguments: list[str]) -> None:
    """Time to list a large dataset and to start on it, and memory."""
    parsed = parse_command(arguments, BenchmarkIndex(), "benchmark index", ())
    if parsed is None:
        return
    from slowfast_dist.commands.benchmark.index import run_benchmark

    run_benchmark(parsed[1])


def _benchmark_step(arguments: list[str]) -> None:
    """Time of a training step and of scoring, on random data; against a plain loop."""
    parsed = parse_command(arguments, BenchmarkStep(), "benchmark step", ())
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.commands.benchmark.step import run_benchmark

    run_benchmark(parsed[1])


def _benchmark_train(arguments: list[str]) -> None:
    """A training end to end on the videos of DIR; against a plain loop."""
    parsed = parse_command(arguments, BenchmarkTrain(), "benchmark train", ("DIR",))
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.commands.benchmark.train import run_benchmark

    (root,), command = parsed
    run_benchmark(Path(root), command)


def _benchmark_scaling(arguments: list[str]) -> None:
    """1 to N processes on this machine, and a model of 8 to 512 GPUs."""
    parsed = parse_command(arguments, BenchmarkScaling(), "benchmark scaling", ())
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.commands.benchmark.scaling import run_benchmark

    run_benchmark(parsed[1])


BENCHMARKS = {
    "step": _benchmark_step,
    "train": _benchmark_train,
    "scaling": _benchmark_scaling,
    "loader": _benchmark_loader,
    "index": _benchmark_index,
}


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": predict,
    "export": export,
    "report": report,
    "model-card": model_card,
    "serve": serve,
    "check-data": check_data,
    "prepare": prepare,
    "benchmark": benchmark,
    "make-demo": _make_demo,
}
