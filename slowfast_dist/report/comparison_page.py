"""The page that compares runs: scores with intervals, curves over each other, what differs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slowfast_dist.report.charts import Series, line_chart
from slowfast_dist.report.comparison import (
    Compared,
    Paired,
    different_environments,
    different_settings,
    fairness,
    pairs,
    read_runs,
)
from slowfast_dist.report.curves import Chart, Key
from slowfast_dist.report.reading import number
from slowfast_dist.report.words import (
    ABSENT,
    count,
    duration,
    interval,
    percent,
    score,
    share,
    short,
)
from slowfast_dist.text import shell

CURVES = (
    ("Validation loss", "val/loss", short, short, None, None),
    ("Validation accuracy", "val/accuracy", share, percent, 0.0, 1.0),
    ("Validation macro F1", "val/f1_macro", score, short, 0.0, 1.0),
    ("Training loss", "train/loss", short, short, None, None),
    ("Training accuracy", "train/accuracy", share, percent, 0.0, 1.0),
    ("Clips a second", "clips_per_second", short, short, 0.0, None),
)
"""Title, name in metrics.jsonl, how numbers and scale are written, the scale's ends."""

COLOURS, DASHES = 6, 4
"""In the style sheet, for curves: runs beyond their product repeat."""


def comparison_context(folders: Sequence[Path]) -> dict[str, Any]:
    """What comparison.html shows."""
    runs = read_runs(folders)
    names = [one.label for one in runs]
    return {
        "title": f"{' and '.join(names[:2])}{' and others' if len(names) > 2 else ''} compared",
        "lead": _lead(runs),
        "found": fairness(runs),
        "names": names,
        "runs": [_row(one, _css(index)) for index, one in enumerate(runs)],
        "pairs": [_pair(one) for one in pairs(runs)],
        "curves": _curves(runs),
        "settings": different_settings(runs),
        "environments": different_environments(runs),
        "command": shell(["python", "-m", "slowfast_dist", "report", *map(str, folders)]),
    }


def _css(index: int) -> str:
    return f"s{index % COLOURS} d{index // COLOURS % DASHES}"


def _lead(runs: Sequence[Compared]) -> str:
    parts = [count(len(runs), "run")]
    for flag, title in (("model.name", ""), ("data.root", "on ")):
        values = list(dict.fromkeys(one.run.settings.get(flag, "none") for one in runs))
        if values != ["none"]:
            shown = dict.fromkeys(value.rstrip("/").rpartition("/")[2] for value in values)
            parts.append(title + ", ".join(shown))
    return " · ".join(parts)


def _row(one: Compared, css: str) -> dict[str, Any]:
    run, row = one.run, one.run.best_row
    scored = run.judged is not None or "val/accuracy" in row
    return {
        "name": one.label,
        "css": css,
        "status": run.status or "unknown",
        "accuracy": share(number(row.get("val/accuracy"))) if scored else ABSENT,
        "accuracy_interval": interval(run.intervals.get("accuracy"), True),
        "f1": score(number(row.get("val/f1_macro"))),
        "f1_interval": interval(run.intervals.get("f1_macro"), False),
        "loss": short(number(row.get("val/loss"))),
        "ece": score(run.judged.ece) if run.judged else ABSENT,
        "videos": f"{run.judged.videos:,}" if run.judged else ABSENT,
        "best": ABSENT if run.best_epoch is None else f"{run.best_epoch:,}",
        "epochs": f"{run.history.epochs[-1]['epoch']:,}" if run.history.epochs else "0",
        "time": duration(run.history.total("epoch_seconds")),
    }


def _pair(one: Paired) -> dict[str, Any]:
    low, high = one.interval
    return {
        "first": one.first,
        "second": one.second,
        "difference": f"{100 * one.difference:+.1f}",
        "interval": f"{100 * low:+.1f} to {100 * high:+.1f}",
        "only_first": f"{one.only_first:,}",
        "only_second": f"{one.only_second:,}",
        "videos": f"{one.videos:,}",
        "verdict": f"{one.first} is better" if one.is_clear else "may be chance",
    }


def _curves(runs: Sequence[Compared]) -> list[Chart]:
    found = []
    for title, name, form, tick, low, high in CURVES:
        series = [
            Series(one.label, _css(index), one.run.history.points(name), one.run.best_epoch)
            for index, one in enumerate(runs)
        ]
        svg = line_chart(title, series, form=form, tick=tick, low=low, high=high)
        if svg:
            keys = [Key(one.name, one.css) for one in series if one.finite]
            found.append(Chart(title, keys, svg))
    return found
