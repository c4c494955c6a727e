"""A run that has all that a report can show: a fold of a cross-validation, with a temperature,
labels in doubt, timelines, and a list of what to label next."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from slowfast_dist.commands.suggest.output import Suggestion, write_list
from slowfast_dist.metrics.calibration import calibrate
from slowfast_dist.report.sections.folds import RESULT
from slowfast_dist.report.sections.listed import SUGGESTED
from slowfast_dist.report.sections.over_time import COLUMNS
from slowfast_dist.runs.predictions import read_predictions, write_predictions
from slowfast_dist.system.files import write_json
from tests.helpers.made_runs import made_run


def full_run(
    folder: Path, classes: list[str], data: Path, names: list[str], videos: int,
    unlabelled: list[Path], files: int = 8, segments: int = 12, **options: Any,
) -> Path:  # fmt: skip
    """The run ``folder``/fold_2: ``videos`` of each class, in the order of ``names`` below
    ``data``; of the others with ``unlabelled`` as suggestions, ``files`` with timelines."""
    run = made_run(
        folder / "fold_2", classes, videos=videos, data=data, names=names, skill=3.0, **options
    )
    settings = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, "fold": 2}))
    path = run / "predictions" / "val_best.csv"
    found = read_predictions(path)
    logits = 3 * np.log(found.probabilities)  # far too sure of itself
    for row in range(0, len(names), 5):  # as where labels were exchanged
        logits[row, (found.labels[row] + 1) % len(classes)] = logits[row].max() + 3
    write_predictions(path, names, found.labels, logits, classes)
    parts = np.arange(len(names)) // 5 % 5
    calibration = calibrate(logits, found.labels, parts)
    assert calibration is not None
    (run / "models").mkdir()
    best = {"classes": classes, "temperature": calibration.temperature,
            "calibration": calibration.facts("validation"), "epoch": 4}  # fmt: skip
    (run / "models" / "best_model.json").write_text(json.dumps(best))
    (run / "models" / "best_model_weights.pth").touch()
    write_json(folder / RESULT, cross_validation_facts(classes))
    _write_segments(run / "evaluation-long", classes, files, segments)
    write_list(run / SUGGESTED, [
        Suggestion(str(one), None, None, classes[0], 0.5, f"or {classes[1]} (0.42)")
        for one in unlabelled
    ])  # fmt: skip
    return run


def cross_validation_facts(classes: list[str]) -> dict[str, Any]:
    scores = {"accuracy": 0.8, "f1_macro": 0.75, "loss": 0.7}
    curve = [{"share": share, "groups": 10 * share, **scores, "f1_macro": 0.4 + share / 3}
             for share in (0.25, 0.5, 1.0)]  # fmt: skip
    per_fold = [{"fold": fold, "videos": 12, "groups": 3, "macro_classes": len(classes) - 1,
                 **scores, "accuracy": 0.7 + fold / 50} for fold in range(1, 6)]  # fmt: skip
    return {
        "folds": 5, "videos": 60, "groups": 15, "what": "videos", "intervals_over": "groups",
        "metrics": scores, "intervals": {"accuracy": [0.7, 0.9], "f1_macro": [0.6, 0.85]},
        "per_fold": per_fold, "learning_curve": curve, "classes": classes,
    }  # fmt: skip


def _write_segments(folder: Path, classes: list[str], files: int, segments: int) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    with open(folder / "segments.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(files):
            truth = rng.integers(0, len(classes), segments)
            wrong = rng.random(segments) < 0.3
            said = np.where(wrong, rng.integers(0, len(classes), segments), truth)
            for kind, labels in (("truth", truth), ("prediction", said)):
                for place, label in enumerate(labels.tolist()):
                    shift = 0.0 if kind == "truth" or not place else 0.5
                    end = 5 * (place + 1) + (0.0 if kind == "truth" else 0.5)
                    sure = "" if kind == "truth" else "0.8"
                    times = f"{5 * place + shift:.3f}", f"{end:.3f}"
                    writer.writerow([f"monday_{number}.mp4", kind, classes[label], *times, sure])
    write_json(folder / "metrics.json", {
        "segments": True, "files": files, "epoch": 4, "background": None, "unreadable": 0,
        "frame_accuracy": 0.7, "frame_f1_macro": 0.6, "map_50": 0.5, "map_50_95": 0.4,
        "f1_50": 0.5, "edit_score": 0.6, "intervals": {"map_50": [0.4, 0.6]},
    })  # fmt: skip
