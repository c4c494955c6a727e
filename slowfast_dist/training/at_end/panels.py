"""What of the report goes to wandb as well, once of each best model, when a training is over."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.metrics.summary import summarise
from slowfast_dist.metrics.wrong_labels import doubts_of
from slowfast_dist.report.sections.judged import judge
from slowfast_dist.runs.best_model import described_sha256
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.metrics_file import ON_WANDB, MetricsFile, read_metrics
from slowfast_dist.runs.predictions import find_predictions
from slowfast_dist.runs.reading import mapping, number, read_json
from slowfast_dist.tracking.wandb_media import doubts_table
from slowfast_dist.tracking.wandb_panels import (
    CALIBRATION,
    Panels,
    calibration_panels,
    doubted_pairs,
    joined_panels,
)
from slowfast_dist.tracking.wandb_run import NullRun, WandbRun, print_line
from slowfast_dist.training.best.tracker import Run


def show_panels(
    run: Run, best: Mapping[str, Any], metrics: MetricsFile, wandb: WandbRun | NullRun
) -> None:
    """On wandb, once of each ``best`` model, as its tracker's state has it. Where a run is trained
    further, the curves of a later one have names of their own: over one axis with the first ones
    nobody could tell them apart, and what is on wandb cannot be taken back."""
    if run.config.loss.name == "bce":  # there are none of several labels
        return
    names = ("epoch", "global_step", "averaged_epochs")
    own = {name: best[name] for name in names if name in best} | {"wandb_id": wandb.id}
    sha256 = described_sha256(run.folder.models)
    known = [row for row in _shown(metrics.path) if row.get("wandb_id") == wandb.id]
    for row in known:
        same = all(row.get(name) == own.get(name) for name in names)
        if same and row.get("weights_sha256", sha256) == sha256:  # an older version wrote none
            return
    taken = {row.get("curves", CALIBRATION) for row in known}
    curves = CALIBRATION
    if taken:
        curves = f"{CALIBRATION}_epoch_{best['epoch']}" + "_average" * ("averaged_epochs" in best)
    while curves in taken:  # that epoch was trained again
        curves += "_again"
    videos, data, named = run.videos.val, run.config.data, run.config.wandb.hardest
    if wandb.log_panels(lambda: _panels_of(run.folder, videos, data, named, curves)):
        metrics.write(ON_WANDB, **own, weights_sha256=sha256, curves=curves)
        if taken:
            print_line(
                f"wandb: the curves of the new best model are {curves}/, as those of an earlier "
                "one are there already"
            )


def bring_shown(checkpoint: Path, folder: RunFolder) -> None:
    """Note in ``folder`` what the run of ``checkpoint``, which goes on there, has on wandb: that
    run there goes on as well."""
    source = RunFolder(checkpoint.parent.parent).metrics
    if not source.exists():
        return
    known, file = _shown(folder.metrics), MetricsFile(folder.metrics)
    for row in _shown(source):
        if row not in known:
            file.write(**row)


def _shown(metrics: Path) -> list[dict[str, Any]]:
    rows = read_metrics(metrics) if metrics.exists() else []
    return [row for row in rows if row["kind"] == ON_WANDB]


def _panels_of(
    folder: RunFolder, validation: VideoTable, data: DataConfig, named: int, curves: str
) -> Panels:
    """Calibration of the best model as ``curves``, and labels in doubt of its validation: ``named``
    videos with their excerpts; of 0, as --wandb.hardest is by default, no video's name."""
    found = find_predictions(folder.predictions)
    if found is None or found.decided is not None:
        return Panels()
    best = mapping(read_json(folder.models / "best_model.json"))
    judged = judge(found, number(best.get("temperature")) or 1.0)
    bins = summarise(found, resamples=0).bins
    tables = {"best/wrong_labels": doubted_pairs(doubts_of(found))} if judged.doubts else {}
    if judged.doubts and named:
        known = set(validation.samples())
        chosen = [one for one in judged.doubts if one.path in known][:named]
        tables["best/wrong_labels_videos"] = doubts_table(chosen, validation, data)
    return joined_panels(calibration_panels(bins, judged.calibrated, curves), Panels({}, tables))
