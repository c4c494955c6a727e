"""The pages about runs: those of the command ``report``, and the one that a training writes at the
end of each epoch."""

import errno
import os
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2

from slowfast_dist.config.checks import require
from slowfast_dist.config.commands.report import Report
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.metrics.summary import summarise
from slowfast_dist.metrics.wrong_labels import Doubt
from slowfast_dist.report.cache import Cache, read_cache, write_cache
from slowfast_dist.report.charts import px
from slowfast_dist.report.format import FILTERS
from slowfast_dist.report.run_page import picture_size, run_context
from slowfast_dist.report.sections.judged import doubts_in, judge
from slowfast_dist.report.sections.listed import read_suggested
from slowfast_dist.report.sections.samples import OUTSIDE
from slowfast_dist.report.sections.wrong_list import (
    BY_VALIDATION,
    WRONG_LABELS,
    write_wrong_labels,
)
from slowfast_dist.report.thumbnails import (
    COMMAND_LIMIT,
    TRAINING_LIMIT,
    Thumbnails,
    TimeLimit,
    thumbnails_of,
)
from slowfast_dist.runs.predictions import find_predictions
from slowfast_dist.runs.reading import file_stamp, number
from slowfast_dist.runs.run import is_run, read_run, read_split
from slowfast_dist.runs.videos import root_of
from slowfast_dist.system.files import atomic_write, reason_of
from slowfast_dist.system.text import clean, size

PAGE = "report.html"
"""Of one run, in its folder."""


def run_report(
    runs: Sequence[Path], command: Report, explain: Callable[[Path], None] | None = None
) -> None:
    """Write the page about a run, or the one that compares several. ``explain``: called with a
    single run's folder before its page is drawn, once nothing is wrong with what was asked for.

    Raises UserError for mistakes of the user's, RunError where the page cannot be written.
    """
    folders = [_require_run(run) for run in runs]
    twice = next((run for i, run in enumerate(runs) if folders[i] in folders[:i]), None)
    if twice is not None:
        raise UserError(f"RUN {twice}: is given twice: give each run once")
    several, cache, doubts = len(folders) > 1, None, None
    if command.videos is not None:
        require(not several, "videos", command.videos, "a comparison shows no stills: give one RUN")
        require(command.videos.is_dir(), "videos", command.videos, "there is no such folder")
    output = command.output or (Path("comparison.html") if several else runs[0] / PAGE)
    _require_ours(output, "--output " if command.output else "")
    if several:
        from slowfast_dist.report.comparison import comparison_context

        content = render("comparison.html", comparison_context(folders))
    else:
        if explain is not None:
            explain(folders[0])
        content, cache, doubts = _page(
            folders[0], command.hardest, COMMAND_LIMIT, None, command.videos
        )
    try:
        write_page(output, content)
        if cache and output.parent.resolve() == folders[0].resolve():
            write_cache(folders[0], cache)
            if doubts is not None:
                write_wrong_labels(folders[0], folders[0], doubts, BY_VALIDATION, command.videos)
    except OSError as error:
        raise RunError(f"cannot write {output}: {reason_of(error)}") from error
    about = f"{len(folders)} runs compared" if several else f"report of {runs[0]}"
    print(f"{about}: {output} ({size(len(content))}); open it in a browser", flush=True)
    if cache is not None:
        _say_stills(cache.thumbnails, command.videos or root_of(folders[0]))


def _say_stills(thumbnails: Mapping[str, Thumbnails], root: Path | None) -> None:
    """What somebody should know who mails the page."""
    shown = sum(bool(one.pictures) for one in thumbnails.values())
    if shown:
        print(f"it shows stills of {shown} videos of {root}; --hardest 0: of none", flush=True)
    if outside := sum(one.reason == OUTSIDE for one in thumbnails.values()):
        print(
            f"of {outside} videos it shows none, as they are not below the folder of the data: "
            "--videos DIR shows those below DIR", flush=True,
        )  # fmt: skip


def write_report(run: Path, hardest: int = 12, videos: VideoTable | None = None) -> Path:
    """Write RUN/report.html at the end of an epoch; returns its path.

    ``videos``: the validation videos as probed, which spares their probe. Takes little time:
    thumbnails are read only of videos that the cache does not know, and no longer than
    TRAINING_LIMIT says. Writes the cache, too, and wrong_labels.csv.
    Raises OSError where one of them cannot be written, and FileExistsError, one of them, where
    another's file is in its place. Nothing else in the folder, however damaged, raises.
    """
    output = run / PAGE
    if is_foreign(output):
        raise FileExistsError(errno.EEXIST, "another's file is there: move it away", str(output))
    content, cache, doubts = _page(run, hardest, TRAINING_LIMIT, videos)
    write_page(output, content)
    write_cache(run, cache)
    if doubts is not None:
        write_wrong_labels(run, run, doubts, BY_VALIDATION)
    return output


def _require_run(run: Path) -> Path:
    """The absolute folder of a run. Raises UserError where it is none."""
    folder = Path(os.path.abspath(run))
    try:
        there = folder.is_dir()
    except OSError as error:
        raise UserError(f"RUN {run}: {error.strerror}: give the folder of a run") from None
    if not there:
        what = "is a file" if folder.exists() else "there is no such folder"
        raise UserError(f"RUN {run}: {what}: give the folder of a run")
    if is_run(folder):
        return folder
    if (folder / "best_model.json").is_file():
        above = f", as {run.parent}" if is_run(folder.parent) else ""
        raise UserError(
            f"RUN {run}: is a models folder alone, without the metrics that a report shows: give "
            f"the folder of the run{above}"
        )
    raise UserError(
        f"RUN {run}: holds no run (no status, config.yaml or metrics.jsonl): give the folder of a "
        "run"
    )


def _require_ours(output: Path, flag: str) -> None:
    """Raise UserError where ``output`` is a folder, or a file that no report wrote."""
    try:
        foreign = is_foreign(output)
    except OSError as error:
        raise UserError(
            f"{flag}{output}: cannot be read ({error.strerror}): give another --output"
        ) from None
    if output.is_dir():
        raise UserError(f"{flag}{output}: is a folder: give the file to write")
    above = next(folder for folder in output.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UserError(f"{flag}{output}: {above} is a file: give a place in a folder")
    if foreign:
        raise UserError(
            f"{flag}{output}: holds something that no report wrote, which is kept: give another "
            "--output, or move it away"
        )


def _page(
    folder: Path,
    hardest: int,
    limit: TimeLimit,
    videos: VideoTable | None,
    place: Path | None = None,
) -> tuple[bytes, Cache, list[Doubt] | None]:
    """The page about a run, the cache for the next one, and all labels in doubt, None where
    wrong_labels.csv has them. What the last page found out is taken over where it still holds.
    ``place``: the folder of the videos that the user named."""
    cache = read_cache(folder)
    run = read_run(folder, cache.history)
    now, split_now = file_stamp(run.predictions), file_stamp(folder / "split.csv")
    summary, judged = cache.summary, cache.judged
    temperature = number(run.best.get("temperature")) or 1.0
    fresh = now is not None and now == cache.summary_stamp and summary is not None
    fresh = fresh and judged is not None and judged.temperature == temperature
    # Of the labels in doubt the cache has but the first.
    unlisted = judged is not None and judged.doubted and not (folder / WRONG_LABELS).exists()
    doubted = None
    if not fresh or hardest != cache.hardest or place is not None or unlisted:
        predictions = find_predictions(run.predictions)
        doubted = [] if predictions is None else doubts_in(predictions)
        summary = None if predictions is None else summarise(predictions, hardest)
        judged = None if predictions is None else judge(predictions, temperature)
    split = cache.split if split_now == cache.split_stamp else None
    run = replace(run, summary=summary, split=split or read_split(folder / "split.csv"))
    suggested = read_suggested(folder)
    doubts = judged.doubts if judged else []
    more = [*(one.path for one in doubts[:hardest]), *(one.name for one in suggested[:hardest])]
    thumbnails = thumbnails_of(run, cache.thumbnails, limit, videos, place, more)
    content = render("run.html", run_context(run, thumbnails, judged, suggested, hardest))
    new = Cache(run.history, summary, now, hardest, run.split, split_now, thumbnails, judged)
    return content, new, doubted


# From facts to one HTML file: the templates, the page's policy, and whose file it is.


MARKER = "slowfast_dist report"
"""In the head of every page: a file with it may be written anew, any other is somebody's."""
HEAD_BYTES = 2048
"""The first bytes of a page, in which the marker is looked for; it stands in the first 200."""


@cache
def _templates() -> jinja2.Environment:
    def shown(value: Any) -> Any:
        return clean(value) if type(value) is str else value

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    environment.filters["base64"] = lambda content: b64encode(content).decode()
    environment.filters |= {form.__name__: form for form in (*FILTERS, number, picture_size, px)}
    return environment


@cache
def _parts(script_name: str) -> dict[str, str]:
    """Style sheet and script, and a policy that lets these alone work, by their hashes."""
    style = _templates().get_template("style.css").render()
    script = _templates().get_template(script_name).render()

    def digest(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src {digest(style)}; "
        f"script-src {digest(script)}; base-uri 'none'; form-action 'none'"
    )
    return {"style": style, "script": script, "policy": policy}


def render(template: str, context: Mapping[str, Any], script: str = "sort.js") -> bytes:
    """The page as UTF-8, with a ``script`` of the templates. All text in ``context`` is escaped;
    only charts are taken as they are."""
    try:
        version = metadata.version("slowfast_dist")
    except metadata.PackageNotFoundError:
        version = ""
    written = f"{version} on {time.strftime('%Y-%m-%d at %H:%M')}".strip()
    page = _templates().get_template(template)
    text = page.render({**context, "marker": MARKER, "written": written, **_parts(script)})
    return text.encode("utf-8", "replace")


def is_foreign(path: Path) -> bool:
    """Whether something is at ``path`` that no report wrote. Raises OSError."""
    if not path.exists() and not path.is_symlink():
        return False
    if not path.is_file():
        return True
    with open(path, "rb") as file:
        return f'content="{MARKER}"'.encode() not in file.read(HEAD_BYTES)


def write_page(path: Path, content: bytes) -> None:
    """Write it whole or not at all. Raises OSError with the path."""
    with atomic_write(path) as file:
        file.write(content)
