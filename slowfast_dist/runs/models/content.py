"""best_model.json: each of its values checked, before anything is made of it."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from slowfast_dist.annotations.labels import swap_table
from slowfast_dist.config.checks import check_bounds
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import MOST_SEED, Precision
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.metrics.calibration import LEAST_TEMPERATURE, MOST_TEMPERATURE
from slowfast_dist.metrics.task import ONE_LABEL, LossName, Task, task_of
from slowfast_dist.metrics.unknown import UNKNOWN
from slowfast_dist.model.description import from_json
from slowfast_dist.runs.reading import mapping, number, whole
from slowfast_dist.video.pictures import PICTURE_FACTS

CLIPS_BEFORE = {
    "frame_rate": "video", "pixel_aspect": "stored", "short_videos": "repeat-last",
    "short_segments": "repeat", "crop_box": None, "flip_view": False,
}  # fmt: skip
"""How clips were cut where a description of theirs does not say so: older versions knew no other
way."""


def read_content(content: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `BestModel`, but for its folder and its weights.

    Raises ValueError, KeyError, TypeError or AttributeError for what is damaged.
    """
    model, clip, classes = content["model"], content["clip"], content["classes"]
    numbers = ("num_frames", "sampling_rate", "short_side", "crop_size")
    for name in (*numbers, "temporal_views", "spatial_crops"):
        if whole(clip[name]) is None or clip[name] < 1:
            raise ValueError(f"{name} is {clip[name]!r}")
    clip = CLIPS_BEFORE | clip
    words = {
        "sampling": ("dense", "uniform"), "resize": ("short-side", "square", "pad"),
        "pixel_aspect": ("square", "stored"), "short_videos": ("repeat-last", "loop"),
        "short_segments": ("repeat", "context"),
    }  # fmt: skip
    for name, known in words.items():
        if clip[name] not in known:
            raise ValueError(f"{name} is {clip[name]!r}")
    frame_rate = clip["frame_rate"]
    if frame_rate != "video":
        if (rate := number(frame_rate)) is None:
            raise ValueError(f"frame_rate is {frame_rate!r}")
        frame_rate = rate
    box = clip["crop_box"]
    if box is not None and not (
        isinstance(box, list) and len(box) == 4 and None not in map(number, box)
    ):
        raise ValueError(f"crop_box is {box!r}")
    outputs, dropout = model["num_classes"], model["dropout"]
    if not whole(outputs):
        raise ValueError(f"num_classes is {outputs!r}")
    if clip["num_frames"] % (alpha := from_json(model).alpha):
        raise ValueError(f"num_frames is {clip['num_frames']}, no multiple of alpha {alpha}")
    if (share := number(dropout)) is None or not 0 <= share < 1:
        raise ValueError(f"dropout is {dropout!r}")
    if not all(isinstance(name, str) for name in classes):
        raise ValueError("classes are not names")
    if len(set(classes)) != model["num_classes"] or len(classes) != model["num_classes"]:
        raise ValueError(f"{len(classes)} classes for {model['num_classes']} outputs")
    settings = {name: clip[name] for name in (*numbers, *words)}
    settings |= {"short_side": (clip["short_side"],) * 2, "frame_rate": frame_rate}
    settings["crop_box"] = None if box is None else tuple(map(float, box))
    if (background := content.get("background")) is not None and background not in classes:
        raise ValueError(f"background is {background!r}, none of the classes")
    drawn = mapping(mapping(content.get("data")).get("background")) if background else {}
    margin, part = drawn.get("margin", DataConfig.margin), drawn.get("share")
    if number(margin) is None or (part is not None and number(part) is None):
        raise ValueError(f"margin is {margin!r}, share is {part!r}")
    settings |= {"background": background, "margin": margin, "background_share": part}
    settings |= {"flip_pairs": _flip_pairs(content, classes)}
    data = DataConfig(**settings)
    if not isinstance(flip := clip["flip_view"], bool):
        raise ValueError(f"flip_view is {flip!r}")
    views = EvaluationConfig(clip["temporal_views"], clip["spatial_crops"], flip)
    try:  # as of the flags of a training, by which all of it is bounded
        check_bounds(data, "data.")
        check_bounds(views, "evaluation.")
        data.check_sizes()
    except UserError as error:
        raise ValueError(str(error).removeprefix("--")) from None
    if not isinstance(facts := content.get("data", {}), dict):
        raise ValueError(f"data is {facts!r}")
    seconds = facts.get("median_seconds")
    if seconds is not None and not 0 < (number(seconds) or 0) < 1e6:
        raise ValueError(f"median_seconds is {seconds!r}")
    pictures = facts.get("pictures")
    if pictures is not None and any(whole(pictures[name]) is None for name in PICTURE_FACTS):
        raise ValueError(f"pictures is {pictures!r}")
    rates = [one["rate"] for one in facts.get("frame_rates", [])]
    if not all((number(rate) or 0) > 0 for rate in rates):
        raise ValueError(f"frame_rates are {rates!r}")
    regions = facts.get("regions")
    if regions is not None and whole(regions) is None:
        raise ValueError(f"regions is {regions!r}")
    least = number(content.get("min_confidence", 0.0))
    if least is None or not 0 <= least <= 1 or (least and UNKNOWN in classes):
        raise ValueError(f"min_confidence is {content['min_confidence']!r}")
    precision = mapping(content.get("training")).get("mixed_precision")
    if (epoch := whole(content["epoch"])) is None:
        raise ValueError(f"epoch is {content['epoch']!r}")
    task = _task(content, len(classes))
    return {
        "classes": tuple(classes), "model": model, "data": data, "evaluation": views,
        "epoch": epoch, "video_seconds": seconds,
        "mixed_precision": precision if precision in get_args(Precision) else None,
        "pictures": pictures, "video_rates": tuple(rates), "task": task,
        "background": background, "min_confidence": least,
        "seed": min(whole(mapping(content.get("training")).get("seed")) or 0, MOST_SEED),
        "mirrored": mapping(content.get("training")).get("flip") is not False,
        "regions": regions, "temperature": _temperature(content, task),
    }  # fmt: skip


def _task(content: Mapping[str, Any], classes: int) -> Task:
    """Older versions knew but one label a clip. Raises ValueError."""
    loss, thresholds = content.get("loss", "ce"), content.get("thresholds")
    if loss not in get_args(LossName):
        raise ValueError(f"loss is {loss!r}")
    if loss == "ce":
        return ONE_LABEL
    if not isinstance(thresholds, list) or len(thresholds) != classes:
        raise ValueError(f"thresholds are none, of {classes} classes")
    values = [number(value) for value in thresholds]
    if wrong := [one for one, value in zip(thresholds, values, strict=True)
                 if value is None or not 0 <= value <= 1]:  # fmt: skip
        raise ValueError(f"threshold is {wrong[0]!r}")
    return task_of(loss, [value for value in values if value is not None])


def _flip_pairs(content: Mapping[str, Any], classes: Sequence[str]) -> tuple[str, ...]:
    """Older versions knew none. Raises ValueError."""
    pairs = mapping(content.get("training")).get("flip_pairs") or []
    if not isinstance(pairs, list) or not all(
        isinstance(pair, str) and ":" in pair.strip(":") for pair in pairs
    ):
        raise ValueError(f"flip_pairs is {pairs!r}")
    try:
        swap_table(pairs, classes)
    except UserError as error:
        raise ValueError(str(error).removeprefix("--")) from None
    return tuple(pairs)


def _temperature(content: Mapping[str, Any], task: Task) -> float:
    """Older versions had none, which is 1. Raises ValueError."""
    given = content.get("temperature", 1.0)
    found = number(given)
    if found is None or not LEAST_TEMPERATURE <= found <= MOST_TEMPERATURE:
        raise ValueError(f"temperature is {given!r}")
    if found != 1 and task.several:
        raise ValueError(f"temperature is {given!r}, for several labels a clip")
    return found
