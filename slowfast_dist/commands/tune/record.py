"""What a study is of: the settings that all trials share, what is searched, the list of videos.

A study that is gone on with must be of the same, else its scores could not be compared.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from slowfast_dist.config.checks import flag_types
from slowfast_dist.config.commands.tune import Searched
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.training import Config, config_dict
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.system.files import atomic_write
from slowfast_dist.system.text import few

VIDEOS = "videos.csv"
"""Of the study's folder: the list of videos of all trials."""

COLUMNS = ("sample", "label", "group", "fold", "weight")

MAY_DIFFER = (
    "output_dir", "resume", "resume_changed", "hours", "log_every", "log_samples", "data.root",
    "data.videos", "data.synthetic", "data.num_workers", "data.cache", "data.max_bad_fraction",
    "data.val_fraction", "evaluation.every", "evaluation.unknown_recall", "checkpoint.",
    "distributed.", "wandb.", "report.", "model.checkpoint_activations", "model.compile",
)  # fmt: skip
"""Settings, or the beginnings of their names, that change no score, or, as the place of the videos,
are compared by what they lead to."""

Facts = dict[str, Any]


def facts_of(config: Config, space: Sequence[Searched]) -> Facts:
    """What a study keeps of the settings of its trials, as JSON has it; of what is searched the
    setting as given, which the first trial has."""
    settings = dict(_flat(config_dict(config)))
    return {"settings": settings, "search": [str(one) for one in space]}


def require_same(kept: Facts, now: Facts, folder: Path) -> None:
    """Raise UserError, naming flag and values, where the settings of a study are others ``now``."""
    before, after = kept["settings"], now["settings"]
    defaults = dict(_flat(config_dict(Config())))
    known = {flag.replace("-", "_") for flag in flag_types(Config)}
    for name in sorted({*before, *after} & known):
        if name.startswith(MAY_DIFFER):
            continue
        # A setting that joined in a later version was before as its default is.
        was, given = before.get(name, defaults.get(name)), after.get(name)
        if was != given:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{flag} {_written(given)}: the study in {folder} is of {flag} {_written(was)}, "
                "and its scores compare with no others: give that, or a new --output-dir"
            )
    if kept["search"] != now["search"]:
        other = [one for one in now["search"] if one not in kept["search"]]
        was = [one for one in kept["search"] if one not in now["search"]]
        raise UserError(
            f"--search {' '.join(other or now['search'])}: the study in {folder} searches "
            f"{' '.join(was or kept['search'])}: give that, or a new --output-dir"
        )


def write_videos(path: Path, listing: Listing) -> None:
    """Keep the list of videos of a new study."""
    with atomic_write(path, "w", "surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_rows(listing))


def require_same_videos(path: Path, listing: Listing, root: Path) -> None:
    """Raise UserError, saying what differs, where the list is not the study's. Raises RunError
    where that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        kept = {row[0]: tuple(row[1:]) for row in list(csv.reader(StringIO(text, newline="")))[1:]}
    except (OSError, IndexError, csv.Error) as error:
        raise RunError(f"{path}: cannot be read ({error}): give a new --output-dir") from None
    now = {row[0]: row[1:] for row in _rows(listing)}
    said = []
    if added := [name for name in now if name not in kept]:
        said.append(f"{_counted(added, 'is', 'are')} new ({few(added)})")
    if gone := [name for name in kept if name not in now]:
        said.append(f"{_counted(gone, 'is', 'are')} gone ({few(gone)})")
    both = [name for name in now if name in kept]
    for place, what in enumerate(COLUMNS[1:]):
        if others := [name for name in both if now[name][place] != kept[name][place]]:
            one = others[0]
            how = f"{one}: {kept[one][place] or 'none'} was, {now[one][place] or 'none'} is"
            said.append(f"{_counted(others, 'has', 'have')} another {what} ({how})")
    if said:
        raise UserError(
            f"--data.root {root}: the study in {path.parent.parent} is of another list of videos: "
            f"{'; '.join(said)}: its scores compare with no others: give a new --output-dir"
        )


def _counted(names: Sequence[str], one: str, many: str) -> str:
    return f"{len(names)} video {one}" if len(names) == 1 else f"{len(names)} videos {many}"


def _rows(listing: Listing) -> Iterator[tuple[str, ...]]:
    videos = listing.videos
    for place, record in enumerate(videos):
        fold = "" if listing.folds is None else str(listing.folds[place])
        weight = "" if videos.weights is None else f"{videos.weights[place]:g}"
        group = "" if videos.groups is None else record.group
        yield record.sample, listing.classes[record.label], group, fold, weight


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _written(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
