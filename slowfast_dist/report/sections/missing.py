"""What a run's page could show as well, with the command that makes it."""

from collections.abc import Iterator
from typing import NamedTuple

from slowfast_dist.config.report import ENOUGH_SECONDS
from slowfast_dist.runs.best_model import WEIGHTS
from slowfast_dist.runs.run import Run
from slowfast_dist.runs.settings import given
from slowfast_dist.system.text import operand, option

FEW_VIDEOS = 1000
"""Videos of both sides up to which a cross-validation is named: of more, which it trains on five
times and more, one split says enough."""


class Missing(NamedTuple):
    """``what`` there would be, and the ``command`` for it."""

    what: str
    command: str


def missing(
    run: Run, has_folds: bool, has_timelines: bool, has_suggested: bool, has_explained: bool
) -> list[Missing]:
    """Of a finished run with a best model, and its weights, which a search for settings deletes;
    only what would say something of its data."""
    if run.status != "finished" or not run.best or not (run.folder / "models" / WEIGHTS).exists():
        return []
    return [*_missing(run, has_folds, has_timelines, has_suggested, has_explained)]


def _missing(
    run: Run, has_folds: bool, has_timelines: bool, has_suggested: bool, has_explained: bool
) -> Iterator[Missing]:
    command, folder = "python -m slowfast_dist", operand(run.folder)
    split, data = run.split, run.data
    if not has_timelines and data is not None and split.val_times:
        yield Missing(
            "Timelines of truth and prediction along whole files:",
            f"{command} evaluate {folder} --data {operand(data)} --segments",
        )
    videos = sum(split.train.values()) + sum(split.val.values())
    one_label = run.settings.get("loss.name", "ce") == "ce"
    config = run.folder / "config.yaml"
    rooted = given(run.settings, "data.root") is not None and "fold" in run.settings
    if not has_folds and one_label and rooted and 0 < videos <= FEW_VIDEOS:
        yield Missing(
            "Folds, a learning curve, and every label judged by a model that never saw it:",
            f"{command} cross-validate --config {operand(config)} --learning-curve "
            f"{option('--output-dir', run.folder.parent / (run.name + '-folds'))}",
        )
    if not has_explained and run.summary and run.summary.hardest and data is not None:
        yield Missing(
            "Where and when the network saw its class in the hardest videos:",
            f"{command} report {folder} --explain-seconds {ENOUGH_SECONDS}",
        )
    if not has_suggested:
        yield Missing(
            "Which videos to label next:", f"{command} suggest {folder} UNLABELLED_VIDEOS"
        )
