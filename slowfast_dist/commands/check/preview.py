"""The page of --preview: clips of each class that play, as a training sees them."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import swap_table
from slowfast_dist.commands.check.dataset import Dataset
from slowfast_dist.commands.check.files import clip_config
from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.checks import check_bounds
from slowfast_dist.config.commands.dataset import CheckData
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.fields import MOST_SHORT_SIDE
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.report.command import is_foreign, render, write_page
from slowfast_dist.runs.reading import mapping, number, pair, sequence, whole
from slowfast_dist.system.files import reason_of
from slowfast_dist.system.progress import over_files
from slowfast_dist.video.writer import WriteError, write_video

PAGE_BYTES = 10_000_000
"""Bytes of the largest page: a mail still takes it."""

CLIP_BYTES = PAGE_BYTES * 7 // 10
"""Bytes of all clips together: as text in the page they take a third more."""

SIZES = ((6, 224), (6, 160), (6, 112), (3, 112), (2, 96), (1, 96), (1, 64))
"""Clips of a class, and pixels of their sides, from what is best to see down to what many classes
leave room for."""

FRAME_BYTES = 0.035
"""Bytes of a pixel of a frame in the clips that ENCODER writes of handheld videos: measured .01 to
.05; what takes more anyway leaves classes at the end out, which is said."""

ENCODER = {"preset": "veryfast", "crf": "30", "bf": "0"}
"""Options of x264: artefacts are seen, mistakes of the labels as well."""

Clip = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """A clip on the page: an mp4, and what it is called."""

    name: str
    video: bytes


def require_page(path: Path) -> None:
    """Raise UserError where the page would replace something that this program did not write."""
    try:
        foreign = is_foreign(path)
    except OSError as error:
        raise UserError(f"--preview {path}: cannot be read ({error.strerror}): give another file"
                        ) from None  # fmt: skip
    if foreign:
        raise UserError(
            f"--preview {path}: holds something that this program did not write, which is kept: "
            "give another file"
        )


def write_preview(path: Path, root: Path, data: Dataset, command: CheckData) -> str:
    """Write the page; returns a line about it. Raises RunError where it cannot be written."""
    config, augment = preview_config(command), preview_augment(command)
    videos, rows = _readable(data)
    count, size = _size(len(rows), config)
    size = max(2, min(size, config.crop_size // 2 * 2))  # 4:2:0 has a colour for every 2 x 2
    classes: list[dict[str, Any]] = []
    space = CLIP_BYTES
    try:
        for label, shown in over_files(
            _classes(videos, rows, data.classes, config, augment, count, size), len(rows),
            "cutting clips",
        ):  # fmt: skip
            taken = sum(len(clip.video) for clip in shown)
            if taken > space:
                break
            space -= taken
            of_class = int((data.labels == label).sum())
            classes.append({"name": data.classes[label], "count": of_class, "clips": shown})
        left = len(rows) - len(classes)
        content = render("preview.html", {
            "title": f"Clips of {root.name}", "name": root.name, "classes": classes,
            "what": "segments" if data.has_segments else "videos", "size": size, "left": left,
            "few": count < SIZES[0][0] or left > 0, "settings": _settings(config, augment),
        }, script="play.js")  # fmt: skip
        write_page(path, content)
    except (OSError, WriteError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise RunError(f"--preview {path}: cannot be written ({reason})") from None
    out = "class is" if left == 1 else "classes are"
    less = f" ({left} {out} left out, for which it has no room)" if left else ""
    clips, of = sum(len(one["clips"]) for one in classes), len(classes)
    what = f"{clips} clip{'s' * (clips != 1)} of {of} class{'es' * (of != 1)}"
    return f"{what}, as a training sees them{less}: {path}"


def preview_config(command: CheckData) -> DataConfig:
    """The clips that a training would cut, and how it would look at them. Raises UserError for a
    --run that is none."""
    if command.run is not None:
        return _as_run(command.run)
    low, high = DataConfig().short_side
    sides = max(low, command.crop_size), max(high, command.crop_size)
    return replace(
        clip_config(command), crop_size=command.crop_size, short_side=sides, flip=command.flip,
        flip_pairs=command.flip_pairs,
    )  # fmt: skip


def preview_augment(command: CheckData) -> AugmentConfig:
    """How it would vary them; mixtures of clips are not shown."""
    if command.run is None:
        return command.augment
    from slowfast_dist.runs.best_model import read_best, read_description  # which import torch

    training = mapping(read_description(read_best(command.run).folder).get("training"))
    told: dict[str, Any] = {
        name: pair(training.get(name)) for name in ("crop_scale", "crop_aspect", "speed")
    } | {name: number(training.get(name)) for name in ("rand_augment", "erasing")}
    augment = AugmentConfig(**{name: value for name, value in told.items() if value is not None})
    try:
        check_bounds(augment)
    except UserError:  # of a file that was changed by hand
        return AugmentConfig()
    return augment


def _as_run(run: Path) -> DataConfig:
    from slowfast_dist.runs.best_model import read_best, read_description  # which import torch

    best = read_best(run)
    training = mapping(read_description(best.folder).get("training"))
    low = best.data.short_side[0]
    high = whole(next(iter(sequence(training.get("short_side"))[1:]), None)) or low
    high = min(max(low, high), MOST_SHORT_SIDE)
    # Gaps are no rows of the list, from which the page takes its clips.
    return replace(
        best.data, short_side=(low, high), flip=training.get("flip", True) is True, background=None
    )


def _settings(config: DataConfig, augment: AugmentConfig) -> str:
    rate = "" if config.frame_rate == "video" else f" of {config.frame_rate:g} a second"
    low, high = config.short_side
    frames = f"one of {config.sampling_rate}{rate}"
    if config.sampling == "uniform":
        frames = "spread over all of it"
    picture = {
        "short-side": f"short side {low} to {high} px, crop {config.crop_size} px",
        "square": f"squeezed to {config.crop_size} px",
        "pad": f"all of it, with black borders, in {config.crop_size} px",
    }[config.resize]
    mirrored = "mirrored at random" if config.flip else "as is"
    given, usual = asdict(augment), AugmentConfig()
    varied = [
        f"{name.replace('_', '-')} "
        + " ".join(f"{part:.4g}" for part in (value if isinstance(value, tuple) else (value,)))
        for name, value in given.items()
        if value != getattr(usual, name)
    ]
    also = f"; varied by {', '.join(varied)}" if varied else ""
    return f"{config.num_frames} frames, {frames}; {picture}, {mirrored}{also}"


def _readable(data: Dataset) -> tuple[VideoTable, dict[int, NDArray[np.int64]]]:
    """The videos to train on that can be read, or without such a side all; and the rows in them of
    each class that has some, by its place in ``data.classes``."""
    videos = data.placed[0].videos
    known = [row for row, _ in data.readable() if row < len(videos)]
    trained = [row for row in known if data.sides[row] == "train"]
    chosen = np.array(trained or known, np.int64)
    labels = data.labels[chosen]
    found = {one: np.flatnonzero(labels == one) for one in np.unique(labels).tolist()}
    return videos.select(chosen), found


def _size(classes: int, config: DataConfig) -> tuple[int, int]:
    """How many clips of a class, and how large, fit on the page."""
    for count, size in SIZES:
        frames = classes * count * config.num_frames
        if frames * size * size * FRAME_BYTES <= CLIP_BYTES:
            break
    return count, size


def _classes(
    videos: VideoTable, rows: Mapping[int, NDArray[np.int64]], classes: Sequence[str],
    config: DataConfig, augment: AugmentConfig, count: int, size: int,
) -> Iterator[tuple[int, list[Shown]]]:  # fmt: skip
    """Clips of each class: of different videos where there are as many, else other clips of them,
    as in a later epoch."""
    # Imported late: it brings torch, which check-data does not wait for otherwise.
    from slowfast_dist.data.sampler import ClipKey
    from slowfast_dist.data.samples.training import TrainingClips

    swaps = None
    with suppress(UserError):  # of a run's pairs where these classes are not all here
        swaps = None if videos.sets is not None else swap_table(config.flip_pairs, classes)
    reader = TrainingClips(videos, config, seed=0, augment=augment, swaps=swaps)
    with tempfile.TemporaryDirectory() as folder:
        for label, of_class in rows.items():
            shown = []
            most = min(count, len(of_class))
            places = of_class[np.linspace(0, len(of_class) - 1, most, dtype=int)]
            for number in range(count):
                row = int(places[number % len(places)])
                sample = reader[ClipKey(1 + number // len(places), row)]
                if sample.frames is None or sample.video != row:
                    continue  # damaged further on
                clip = sample.frames.permute(0, 2, 3, 1).numpy()
                name = videos.sample(row)
                if sample.view and sample.label != label:
                    name = f"{name}, mirrored: {classes[sample.label]}"
                shown.append(Shown(name, _encoded(
                    clip, size, _pace(videos, row, config), Path(folder, "clip.mp4"))))  # fmt: skip
            yield label, shown


def _pace(videos: VideoTable, row: int, config: DataConfig) -> int:
    """Frames a second with which a clip plays as fast as what it shows."""
    rate = config.frame_rate
    own = videos.info(row).mean_rate() or 25.0 if rate == "video" else rate
    return max(1, round(own / config.sampling_rate))


def _encoded(clip: Clip, size: int, fps: int, place: Path) -> bytes:
    """(T, H, W, 3) as an mp4 of ``size`` pixels a side."""
    pictures = (cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in clip)
    write_video(place, (np.asarray(picture, np.uint8) for picture in pictures), fps, ENCODER)
    return place.read_bytes()
