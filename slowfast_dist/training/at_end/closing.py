"""What the user reads when a training ends: how it went, what lies where, and what to do next."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slowfast_dist.report.card import CARD
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.system.text import operand, option

if TYPE_CHECKING:
    from slowfast_dist.training.best.tracker import Run


def closing_message(
    run: "Run", best: Mapping[str, Any] | None, seconds: float, reported: bool
) -> str:
    """Of a training of so many ``seconds``; ``best``: the tracker's state; ``reported``: whether
    the page could be drawn."""
    folder = run.folder
    lines = [f"finished in {seconds / 60:.1f} minutes: {folder.shown}"]
    if best is not None:
        averaged = best.get("averaged_epochs")
        where = f"of the last {averaged} epochs' average" if averaged else ""
        where = where or f"in epoch {best['epoch']}"
        lines.append(f"best: {best['monitor']} {best['value']:.4f} {where}")
        lines.append("models/best_model_weights.pth, models/best_model.json: the best model")
        if (folder.models / CARD).exists():  # not of a best model of an older version
            lines.append("models/README.md: its model card")
        lines.append("predictions/val_best.csv: what it says of each validation video")
    else:
        monitor = run.config.checkpoint.monitor
        both = monitor if monitor == "val/loss" else f"{monitor} and val/loss"
        needed = f"no best model was written: no epoch had a finite {both}"
        lines.append(f"{needed} (a smaller --optimizer.lr may help)")
    if reported:
        lines.append("report.html: all of it on one page")
    lines.append("metrics.jsonl, logs/training_log.txt: every epoch's metrics")
    return "\n".join(["\n  ".join(lines), *_next_commands(run, best is not None)])


def _next_commands(run: "Run", has_best: bool) -> list[str]:
    """Where the videos were made, as in the demo: what to do with the run, and with videos of
    one's own. Right in the folder in which the training was started."""
    data, shown = run.config.data, operand(run.folder.shown)
    if not data.synthetic or data.root is None or not has_best:
        return []
    video = operand(data.root / run.videos.val.names[0])
    return [
        "next (in a new shell, first: source launch/setup.sh):",
        f"  python -m slowfast_dist predict {shown} {video}",
        f"  python -m slowfast_dist report {shown}",
        "  python -m slowfast_dist check-data my_videos    # a folder of class folders",
        "  python train.py --data.root my_videos",
    ]


def preempted_message(folder: RunFolder, saved_at: int | None = None) -> str:
    """What the user reads when a run was asked to stop."""
    where = "before the first step" if saved_at is None else f"saved at step {saved_at}"
    again = option("--output-dir", folder.shown)
    return f"asked to stop: {where}; go on with {again} --resume auto"
