"""What a configuration of PySlowFast or MMAction2 tells of the network's input, in our words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from slowfast_dist.model.description import Channels, ShortVideos
from slowfast_dist.model.foreign.names import descend
from slowfast_dist.model.foreign.pickles import FileFault

PYSLOWFAST: dict[str, Any] = {
    "SLOWFAST": {"ALPHA": 8, "BETA_INV": 8, "FUSION_KERNEL_SZ": 5},
    "DATA": {
        "NUM_FRAMES": 8, "SAMPLING_RATE": 8, "TARGET_FPS": 30, "MEAN": [0.45] * 3,
        "STD": [0.225] * 3, "TRAIN_JITTER_SCALES": [256, 320], "TRAIN_CROP_SIZE": 224,
        "TEST_CROP_SIZE": 256, "RANDOM_FLIP": True, "REVERSE_INPUT_CHANNEL": False,
    },
}  # fmt: skip
"""Of slowfast/config/defaults.py (March 2026) what is read here: a YAML holds what differs."""


@dataclass(frozen=True)
class SourceFacts:
    """How a framework's network was fed. None: not told."""

    alpha: int | None = None
    mean: Channels | None = None
    std: Channels | None = None
    num_frames: int | None = None
    sampling_rate: int | None = None
    frame_rate: float | Literal["video"] | None = None
    short_side: int | None = None
    crop_size: int | None = None
    short_videos: ShortVideos | None = None
    sampling: Literal["dense", "uniform"] | None = None
    flip: bool | None = None
    """Whether its training mirrored clips."""

    def clip(self) -> dict[str, Any]:
        """What is told of the clips of a test, by the names of best_model.json."""
        names = ("num_frames", "sampling_rate", "frame_rate", "sampling", "short_side", "crop_size")
        told = {name: getattr(self, name) for name in (*names, "short_videos")}
        return {name: value for name, value in told.items() if value is not None}


def kind_of(config: Mapping[str, Any]) -> Literal["PySlowFast", "MMAction2"]:
    """Whose configuration it is. Raises FileFault for one that is nobody's, or of another model."""
    if isinstance(config.get("model"), dict) and "backbone" in config["model"]:
        backbone = descend(config, "model", "backbone", "type")
        if isinstance(backbone, str) and backbone != "ResNet3dSlowFast":
            raise FileFault(f"is of a {backbone}, and here are SlowFast networks alone")
        return "MMAction2"
    if any(isinstance(config.get(name), dict) for name in ("SLOWFAST", "DATA", "MODEL", "TRAIN")):
        model = descend(config, "MODEL", "MODEL_NAME") or descend(config, "MODEL", "ARCH")
        if isinstance(model, str) and model.lower() not in ("slowfast", "ptvslowfast"):
            raise FileFault(f"is of a {model}, and here are SlowFast networks alone")
        return "PySlowFast"
    raise FileFault("is no configuration of PySlowFast or MMAction2")


def facts_of(config: Mapping[str, Any]) -> SourceFacts:
    """Raises FileFault as `kind_of`, and for frames that the networks here cannot be fed."""
    return _pyslowfast(config) if kind_of(config) == "PySlowFast" else _mmaction(config)


def _pyslowfast(config: Mapping[str, Any]) -> SourceFacts:
    def get(section: str, name: str) -> Any:
        value = descend(config, section, name)
        return PYSLOWFAST[section][name] if value is None else value

    if get("DATA", "REVERSE_INPUT_CHANNEL") is True:
        raise FileFault("feeds blue first (DATA.REVERSE_INPUT_CHANNEL), which is not done here")
    return SourceFacts(
        alpha=_count(get("SLOWFAST", "ALPHA")),
        mean=_channels(get("DATA", "MEAN")), std=_channels(get("DATA", "STD")),
        num_frames=_count(get("DATA", "NUM_FRAMES")),
        sampling_rate=_count(get("DATA", "SAMPLING_RATE")),
        frame_rate=_rate(get("DATA", "TARGET_FPS")),
        short_side=_count(get("DATA", "TEST_CROP_SIZE")),
        crop_size=_count(get("DATA", "TEST_CROP_SIZE")),
        sampling="uniform" if _is_something(config) else "dense",
        flip=get("DATA", "RANDOM_FLIP") is not False,
    )  # fmt: skip


def _is_something(config: Mapping[str, Any]) -> bool:
    """Whether its loader is that of Something-Something, which spreads a clip over the video."""
    name = descend(config, "TRAIN", "DATASET") or descend(config, "TEST", "DATASET")
    return isinstance(name, str) and name.lower() == "ssv2"


def _mmaction(config: Mapping[str, Any]) -> SourceFacts:
    backbone = descend(config, "model", "backbone")
    alpha, rate = (_count(descend(backbone, name)) for name in ("speed_ratio", "resample_rate"))
    if alpha is not None and rate is not None and alpha != rate:
        raise FileFault(
            f"feeds the fast pathway every {rate}/{alpha} frames (resample_rate, speed_ratio), "
            "which is not done here"
        )
    steps = list(mmaction_steps(config, ("test", "val")))
    sample, resize = _step(steps, "SampleFrames"), _step(steps, "Resize")
    crop = _step(steps, "ThreeCrop") or _step(steps, "CenterCrop")
    norm = descend(config, "model", "data_preprocessor") or _step(steps, "Normalize")
    scale = resize.get("scale")
    scale = scale if isinstance(scale, list | tuple) else ()
    sizes = [_count(size) for size in scale if size != -1]
    fps = sample.get("target_fps")
    outside = {"loop": "loop", "repeat_last": "repeat-last"}
    option = sample.get("out_of_bound_opt", "loop")
    short: Any = outside.get(option) if sample and isinstance(option, str) else None
    return SourceFacts(
        alpha=alpha,
        mean=_channels(descend(norm, "mean"), 255), std=_channels(descend(norm, "std"), 255),
        num_frames=_count(sample.get("clip_len")),
        sampling_rate=_count(sample.get("frame_interval", 1)) if sample else None,
        frame_rate=(_rate(fps) if fps else "video") if sample else None,
        short_side=sizes[0] if len(sizes) == 1 else None,
        crop_size=_count(crop.get("crop_size")), short_videos=short,
        flip=_flips(list(mmaction_steps(config, ("train",)))),
    )  # fmt: skip


def _flips(steps: list[dict[str, Any]]) -> bool | None:
    """Whether a training of these steps mirrors clips; None where there are none."""
    found = _step(steps, "Flip")
    return found.get("flip_ratio", 0.5) != 0 if found else False if steps else None


def mmaction_steps(config: Mapping[str, Any], sides: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The steps of the first of these pipelines that there is, as of version 1 or as before it."""
    for side in sides:
        for keys in (
            (f"{side}_dataloader", "dataset", "pipeline"), (f"{side}_pipeline",),
            ("data", side, "pipeline"),
        ):  # fmt: skip
            found = descend(config, *keys)
            if isinstance(found, list | tuple) and found:
                yield from (step for step in found if isinstance(step, dict))
                return


def _step(steps: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next((step for step in steps if step.get("type") == kind), {})


def _count(value: Any) -> int | None:
    right = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 100_000
    return value if right else None


def _rate(value: Any) -> float | None:
    right = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1000
    return float(value) if right else None


def _channels(value: Any, divide_by: float = 1) -> Channels | None:
    """Three numbers in 0..1."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        return None
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)
    if not numbers or not all(abs(x) < 1e6 for x in value):
        return None
    red, green, blue = (x / divide_by for x in value)
    return red, green, blue
