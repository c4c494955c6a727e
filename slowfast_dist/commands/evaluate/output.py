"""Where an evaluation's results go, and the files that every evaluation writes."""

import json
import os
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

from slowfast_dist.annotations.importing.writing import LEFT_OUT
from slowfast_dist.config.errors import UserError
from slowfast_dist.report.command import is_foreign
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.metrics_file import plain
from slowfast_dist.runs.reading import mapping, read_json
from slowfast_dist.system.files import atomic_write

PAGE = "over_time.html"
"""The page of timelines that --segments writes."""

WRITTEN = {
    "predictions.csv": (b"path,label,prediction,", b"path,labels,predictions,"),
    "unreadable_videos.csv": (b"path,reason,where",),
    "segments.csv": (b"path,kind,label,start,end,",),
    LEFT_OUT: (b"what,file,where",),
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
        wanted = {"data": asked, **views}.items()
        later = (place.with_name(f"{place.name}-{number}") for number in count(2))
        # The first of these that holds no evaluation, or one of the same.
        output = next(
            folder
            for folder in chain([place], later)
            if not (facts := _evaluation(folder / "metrics.json")) or wanted <= facts.items()
        )
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
    facts = _evaluation(output / "metrics.json")
    if facts and ("segments" in facts) != ("segments" in views):
        with_or_without = "with" if "segments" in facts else "without"
        raise UserError(
            f"--output {output}: holds an evaluation {with_or_without} --segments, which is kept: "
            "give another folder"
        )
    if (other := facts.get("data", asked)) != asked:
        raise UserError(
            f"--output {output}: holds the evaluation of {other}, which is kept: give another"
        )
    return output


def _evaluation(path: Path) -> dict[str, Any]:
    """The metrics.json of an evaluation; nothing where it is none, or cannot be read."""
    content = {"flip": False} | mapping(read_json(path))  # older versions knew no mirrored views
    scored = content.keys() & {"accuracy", "frame_accuracy"}
    return content if "data" in content and scored else {}


def _foreign(folder: Path) -> str | None:
    """The file in ``folder`` that an evaluation would replace, and none wrote. Raises OSError."""
    metrics = folder / "metrics.json"
    if metrics.exists() and not _evaluation(metrics):
        return metrics.name
    if is_foreign(folder / PAGE):
        return PAGE
    for name, begin in WRITTEN.items():
        path = folder / name
        if path.exists():
            with open(path, "rb") as file:
                if not file.read(max(map(len, begin))).startswith(begin):
                    return name
    return None


def write_metrics(output: Path, content: Mapping[str, Any]) -> None:
    """metrics.json. Raises OSError."""
    with atomic_write(output / "metrics.json") as file:
        # Bytes of --data that are no UTF-8 become JSON's escapes, which read back as they were.
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        file.write(text.encode("utf-8", "backslashreplace"))


def as_json(value: Any) -> Any:
    """As JSON can hold it; NaN and infinity, which a model that diverged may give, become null."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else plain(value)
