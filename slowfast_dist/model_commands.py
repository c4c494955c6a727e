"""The command lines of what is done with a trained model: one lazy import a command."""

from pathlib import Path

from slowfast_dist.arguments import parse_command
from slowfast_dist.cpus import let_threads_sleep
from slowfast_dist.model_settings import Export, ModelCard, Predict, Report, Serve
from slowfast_dist.prediction.ending import ends_with_its_pipe


def predict(arguments: list[str]) -> None:
    """Say what happens in videos or a live source: RUN INPUT... [flags]."""
    parsed = parse_command(arguments, Predict(), "predict", ("RUN", "INPUT..."))
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.prediction.command import run_predict

    (run, *inputs), command = parsed
    run_predict(Path(run), inputs, command)


def export(arguments: list[str]) -> None:
    """Write a run's best model as onnx, pt2 or safetensors: RUN --format FORMAT [flags]."""
    parsed = parse_command(arguments, Export(), "export", ("RUN",))
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.export.command import run_export

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
    from slowfast_dist.hub import run_model_card

    (run,), command = parsed
    with ends_with_its_pipe():
        run_model_card(Path(run), command)


def serve(arguments: list[str]) -> None:
    """Show a run's best model in the browser: RUN [flags]."""
    parsed = parse_command(arguments, Serve(), "serve", ("RUN",))
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.serve.command import run_serve

    (run,), command = parsed
    run_serve(Path(run), command)
