"""Runs of any size for the tests of the report, written by what writes them in a training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.training import Config
from slowfast_dist.metrics.scores import confusion, logit_metrics, per_class, predicted
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.metrics_file import MetricsFile
from slowfast_dist.runs.predictions import write_predictions

ENVIRONMENT = {
    "command": ["train.py", "--data.root", "my videos", "--output-dir", "runs/made"],
    "python": "3.11.7", "platform": "Linux", "host": "here", "cpus": 2, "device": "cpu",
    "mixed_precision": "no", "processes": 1, "git_commit": None, "versions": {"torch": "2.13.0"},
}  # fmt: skip

HOSTILE = [
    "<script>window.stolen = 1</script>",
    '"><img src=x onerror="window.stolen = 1">',
    "' onmouseover='window.stolen = 1",
    "</title></script><b>&amp;{{ 7 * 7 }}",
    "שלום \u202egpj.exe",
    "ファイル名 🏃🏽‍♀️ ünïcødé",
    "a_very_long_name_" * 20,
]
"""Names of classes and folders that a page must show as they are, and obey in nothing."""


def made_run(
    folder: Path,
    classes: list[str],
    epochs: int = 6,
    videos: int = 8,
    steps: int = 3,
    seed: int = 0,
    data: Path | None = None,
    names: list[str] | None = None,
    skill: float = 2.0,
) -> Path:
    """A finished run of ``epochs`` with ``videos`` validation videos a class, in every file that a
    report reads; the best epoch is three quarters through. ``names``: those of the videos."""
    rng = np.random.default_rng(seed)
    run = RunFolder(folder)
    root = Path("/data/none") if data is None else data
    config = Config(output_dir=folder, epochs=epochs, data=DataConfig(root=root), seed=seed)
    run.describe(config, classes, ENVIRONMENT)
    labels = np.repeat(np.arange(len(classes)), videos)
    if names is None:
        names = [f"{classes[label]}/{row:05}.mp4" for row, label in enumerate(labels)]
    best = max(1, round(0.75 * epochs))
    file = MetricsFile(run.metrics)
    lines = []
    for epoch in range(1, epochs + 1):
        for step in range((epoch - 1) * steps + 1, epoch * steps + 1):
            values: dict[str, Any] = {"step/loss": 2 / (1 + step / steps), "step/grad_norm": 1.5}
            row = {"kind": "step", "epoch": epoch, "global_step": step, **values}
            lines.append(json.dumps(row))
        rise = skill * (1 - abs(epoch - best) / epochs)
        logits = rng.normal(size=(len(labels), len(classes)))
        logits[np.arange(len(labels)), labels] += rise
        row = {"kind": "epoch", "epoch": epoch, "global_step": epoch * steps}
        trained = logit_metrics(labels, 1.2 * logits)
        row |= {f"train/{name}": value for name, value in trained.items()}
        row |= {"train/samples_once": 4 * len(labels), "train/samples_more": 0}
        row |= {"train/samples_never": 0, "train/samples_replaced": 0}
        row |= {f"val/{name}": value for name, value in logit_metrics(labels, logits).items()}
        row |= {"val/videos": len(labels), "val/unreadable": 0, "grad_norm": 2.0 + rng.random()}
        row |= {"grad_norm_max": 4.0 + rng.random(), "skipped_steps": 0, "lr": 1e-3 / epoch}
        row |= {"clips_per_second": 20 + rng.random(), "data_wait_fraction": 0.02}
        row |= {"epoch_seconds": 12.5, "best": epoch in (1, best)}
        lines.append(json.dumps(row))
        if epoch == best:
            write_predictions(run.predictions, names, labels, logits, classes)
        guesses = predicted(logits)
        row = {"kind": "classes", "epoch": epoch, "global_step": epoch * steps}
        row["per_class"] = per_class(labels, guesses, classes)
        row["confusion"] = confusion(labels, guesses, len(classes)).tolist()
        lines.append(json.dumps(row, ensure_ascii=False))
    text = "".join(f"{line}\n" for line in lines)
    file.path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with open(folder / "split.csv", "w", encoding="utf-8", errors="surrogateescape") as split:
        split.write("path,class,split,group\n")
        for number, label in enumerate(labels):
            quoted = '"' + classes[label].replace('"', '""') + '"'
            for side in ("train", "train", "train", "train", "val"):
                split.write(f"{number}{side}.mp4,{quoted},{side},{number}{side}\n")
    run.list_unreadable([])
    run.set_status("finished")
    return folder
