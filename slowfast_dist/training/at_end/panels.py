"""What of the report goes to wandb as well, once, when a training is over."""

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.metrics.summary import summarise
from slowfast_dist.metrics.wrong_labels import doubts_of
from slowfast_dist.report.sections.judged import judge
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.predictions import find_predictions
from slowfast_dist.runs.reading import mapping, number, read_json
from slowfast_dist.tracking.wandb_media import doubts_table
from slowfast_dist.tracking.wandb_panels import (
    Panels,
    calibration_panels,
    doubted_pairs,
    joined_panels,
)


def panels_of(
    folder: RunFolder, validation: VideoTable, data: DataConfig, named: int
) -> Panels:
    """Calibration of the best model, and labels in doubt of its validation: ``named`` videos with
    their excerpts; of 0, as --wandb.hardest is by default, no video's name."""
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
    return joined_panels(calibration_panels(bins, judged.calibrated), Panels({}, tables))
