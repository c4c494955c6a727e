"""The cross-validation that a run is a fold of: all folds side by side, and the learning curve."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slowfast_dist.config.fields import FINAL
from slowfast_dist.report.charts import Series, line_chart
from slowfast_dist.report.curves import Chart, Key
from slowfast_dist.report.format import score
from slowfast_dist.runs.reading import mapping, number, pair, read_json, sequence, whole

RESULT, PAGE = "cross_validation.json", "cross_validation.html"
"""Of a cross-validation, in its folder: the facts for programs, and the page."""

MOST_FOLDS = 1000
"""Rows that are read of either table: more than any cross-validation has."""


def learning_curve(facts: Mapping[str, Any]) -> Chart | None:
    """Macro-F1 and accuracy over the training groups; None where there is one point alone."""
    points = facts["learning_curve"]
    if len(points) < 2:
        return None
    titles = {"f1_macro": ("Macro F1", "s0 d0"), "accuracy": ("Accuracy", "s1 d0")}
    series = [
        Series(title, css, [(one["groups"], one[name]) for one in points])
        for name, (title, css) in titles.items()
    ]
    what = "groups" if facts["groups"] is not None else "videos"
    title = f"Scores by training {what}"
    svg = line_chart(
        title, series, x_name=what, form=score, tick=score, low=0.0, high=1.0
    )
    return Chart(title, [Key(one.name, one.css) for one in series], svg)


def folds_of(run: Path, settings: Mapping[str, str]) -> dict[str, Any] | None:
    """The facts of the cross-validation that a run with a setting ``fold`` is of, once its result
    is written, with "page", where its page is seen from the run, and "own", the run's fold or None
    where it is the model of all of them. None where there is none, or it is damaged."""
    fold = settings.get("fold", "none")
    if fold != FINAL and not fold.isdecimal():
        return None
    for up, folder in enumerate(run.parents[:2], 1):  # seed_2/fold_1 lies one deeper
        if (content := read_json(folder / RESULT)) is not None:
            found = _facts(mapping(content))
            own = None if fold == FINAL else int(fold[:9])
            return found and found | {"page": f"{'../' * up}{PAGE}", "own": own}
    return None


def _facts(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """What of them a page shows, each a number or None; None without scores of folds."""
    metrics = _scores(content)
    per_fold = [
        _numbers(mapping(one), ("fold", "videos", "groups", "macro_classes")) | _scores(one)
        for one in sequence(content.get("per_fold"))[:MOST_FOLDS]
    ]
    if not per_fold or None in metrics.values():
        return None
    curve = [
        {"groups": number(mapping(one).get("groups")), **_scores(one)}
        for one in sequence(content.get("learning_curve"))[:MOST_FOLDS]
    ]
    bounds = mapping(content.get("intervals")).items()
    return {
        **_numbers(content, ("folds", "videos", "groups")),
        "classes": len(sequence(content.get("classes"))),
        "what": "segments" if content.get("what") == "segments" else "videos",
        "metrics": metrics, "per_fold": per_fold,
        "intervals": {name: both for name, one in bounds if (both := pair(one)) is not None},
        "intervals_over": "groups" if content.get("intervals_over") == "groups" else "videos",
        "learning_curve": [one for one in curve if None not in one.values()],
    }  # fmt: skip


def _scores(one: Any) -> dict[str, Any]:
    own = mapping(one)
    own = mapping(own.get("metrics")) or own
    return {name: number(own.get(name)) for name in ("accuracy", "f1_macro", "loss")}


def _numbers(one: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: whole(one.get(name)) for name in names}
