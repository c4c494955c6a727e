"""Where ``evaluate`` puts its results: never over another evaluation's, nor over a user's files."""

import json
import os
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

from slowfast_dist.config import UserError
from slowfast_dist.run_folder import RunFolder

WRITTEN = {
    "predictions.csv": b"path,label,prediction,",
    "unreadable_videos.csv": b"path,reason,where",
}
"""How the lists of an evaluation begin."""


def make_output(
    models: Path, data: Path, name: str, output: Path | None, views: Mapping[str, Any]
) -> Path:
    """The folder for the results on ``data``, made if need be.

    Unless it is given: evaluation-NAME in the run's folder, or in ``models`` where that lies alone;
    evaluation-NAME-2 and so on where an evaluation of other data or ``views`` has that name.
    Raises UserError for a folder that cannot be made, and for one that holds an evaluation of other
    data or files that nothing here wrote.
    """
    asked = os.path.abspath(data)
    if output is None:
        run = Path(os.path.normpath(models / ".."))
        place = (run if RunFolder(run).holds_run() else models) / f"evaluation-{name}"
        output = _free(place, {"data": asked, **views})
    elif RunFolder(output).holds_run():
        raise UserError(f"--output {output} holds a run, whose files are kept: give a new folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
        foreign = _foreign(output)
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot create it ({error.strerror}): give another folder"
        ) from None
    if foreign:
        raise UserError(
            f"--output {output}: holds a {foreign} that no evaluation wrote, which is kept: give "
            "another folder"
        )
    if (other := _evaluation(output / "metrics.json").get("data", asked)) != asked:
        raise UserError(
            f"--output {output}: holds the evaluation of {other}, which is kept: give another"
        )
    return output


def data_name(data: Path) -> str:
    """Of a folder its name, of a CSV the name without the ending; also where data is ``.``."""
    path = Path(os.path.abspath(data))
    return path.stem if path.is_file() else path.name


def _free(place: Path, asked: Mapping[str, Any]) -> Path:
    """``place``, or the first after it that holds no evaluation, or one of what is ``asked``."""
    later = (place.with_name(f"{place.name}-{number}") for number in count(2))
    for folder in chain([place], later):
        content = _evaluation(folder / "metrics.json")
        if not content or all(content.get(name) == value for name, value in asked.items()):
            return folder
    raise AssertionError("count() ends")


def _evaluation(path: Path) -> dict[str, Any]:
    """The metrics.json of an evaluation; nothing where it is none, or cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and {"data", "accuracy"} <= set(content) else {}


def _foreign(folder: Path) -> str | None:
    """The file in ``folder`` that an evaluation would replace, and none wrote. Raises OSError."""
    metrics = folder / "metrics.json"
    if metrics.exists() and not _evaluation(metrics):
        return metrics.name
    for name, begin in WRITTEN.items():
        path = folder / name
        if path.exists():
            with open(path, "rb") as file:
                if file.read(len(begin)) != begin:
                    return name
    return None
