"""What a SlowFast network is, as data: its architecture, and how it takes its frames.

Frameworks differ in more than names of tensors. What differs stands here, in best_model.json and in
every exported file, and all that builds or feeds a network goes by it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from slowfast_dist.config.fields import ShortVideos as ShortVideos

SlowFrames = Literal["linspace", "stride"]
Channels = tuple[float, float, float]

MEAN, STD = 0.45, 0.225
"""Of the values in 0..1, every channel alike: pytorchvideo's and PySlowFast's models."""

MOST_ALPHA = 32
"""Fast frames per slow frame at most: published models have 4 or 8; more is a damaged file."""

MOST_FUSION_KERNEL = 15
"""Frames that a lateral convolution covers at most: published models have 5 or 7."""

MOST_NORMALISED = 1e6
"""Largest mean, and largest 1/std, of values in 0..1: beyond it float32 has no digits left."""

_CONV_A_16X8 = ((1, 1, 1), (1, 1, 1), ((3, 1, 1),) * 6 + ((1, 1, 1),) * 17, (3, 1, 1))
_CONV_A_16X8_FAST = ((3, 1, 1), (3, 1, 1), ((3, 1, 1),) * 6 + ((1, 1, 1),) * 17, (3, 1, 1))

ARCHITECTURES: dict[str, dict[str, Any]] = {
    # As in pytorchvideo/models/hub/slowfast.py, and 4x16 as in PySlowFast's
    # configs/Kinetics/pytorchvideo; but for the pooling before the head: there it has a fixed
    # size, here it is adaptive (equal where the fixed one fits).
    "slowfast_r50": {"model_depth": 50},
    "slowfast_r50_4x16": {"model_depth": 50},
    "slowfast_r101": {"model_depth": 101},
    "slowfast_16x8_r101_50_50": {
        "model_depth": 101, "stage_conv_a_kernel_sizes": (_CONV_A_16X8, _CONV_A_16X8_FAST),
    },
    # One block a stage, a quarter of the slow channels. Forward and backward of 16 clips of 16
    # frames at 64 x 64: .24 s on 2 CPU cores. Twice the fast channels: slower, and no better.
    "slowfast_tiny": {
        "model_depth": 18, "stem_dim_outs": (16, 4), "slowfast_channel_reduction_ratio": 4,
    },
}  # fmt: skip
"""What pytorchvideo's create_slowfast is told of each architecture, beside a description."""

_FUSION_KERNELS = {"slowfast_r50_4x16": 5, "slowfast_r101": 5, "slowfast_16x8_r101_50_50": 5}
_ALPHAS = {"slowfast_r50_4x16": 8}


@dataclass(frozen=True)
class NetworkDescription:
    """One network. Those published under ``name`` are `network_defaults`."""

    name: str
    """Key of ARCHITECTURES: depths, widths and the temporal kernels of the stages."""
    alpha: int = 4
    """Fast frames per slow frame, and so the stride in time of the lateral convolutions."""
    fusion_kernel: int = 7
    """Frames that a lateral convolution covers."""
    slow_frames: SlowFrames = "linspace"
    """Those of T fast frames that the slow pathway sees. linspace: spread from the first to the
    last (PySlowFast, pytorchvideo); stride: frames 0, alpha, 2 alpha, ... (MMAction2)."""
    lateral_norm: bool = True
    """Whether a BatchNorm follows the lateral convolutions; MMAction2 has none by default."""
    lateral_activation: bool = True
    """Whether a ReLU follows them."""
    mean: Channels = (MEAN,) * 3
    """Subtracted from red, green and blue in 0..1."""
    std: Channels = (STD,) * 3
    """What red, green and blue are divided by after that."""

    def __post_init__(self) -> None:
        """Raise ValueError, with the field's name, for what no network has."""
        if self.name not in ARCHITECTURES:
            raise ValueError(f"name {self.name!r} is not one of {', '.join(ARCHITECTURES)}")
        _require(_is_count(self.alpha, MOST_ALPHA), "alpha", self.alpha, f"1 to {MOST_ALPHA}")
        kernel = self.fusion_kernel
        odd = _is_count(kernel, MOST_FUSION_KERNEL) and kernel % 2 == 1
        _require(odd, "fusion_kernel", kernel, f"odd, 1 to {MOST_FUSION_KERNEL}")
        rules = get_args(SlowFrames)
        _require(self.slow_frames in rules, "slow_frames", self.slow_frames, " or ".join(rules))
        for name in ("lateral_norm", "lateral_activation"):
            value = getattr(self, name)
            _require(isinstance(value, bool), name, value, "true or false")
        for name, least in (("mean", -MOST_NORMALISED), ("std", 1 / MOST_NORMALISED)):
            value = getattr(self, name)
            right = isinstance(value, tuple) and len(value) == 3
            right = right and all(_is_number(x) and least <= x <= MOST_NORMALISED for x in value)
            _require(right, name, value, "three numbers, a standard deviation above 0")

    def as_json(self) -> dict[str, Any]:
        """In JSON's types, as it stands in best_model.json."""
        content = {name: value for name, value in asdict(self).items() if name not in _CHANNELS}
        return content | {"normalisation": self.normalisation()}

    def differences(self, other: "NetworkDescription") -> list[str]:
        """What is unlike ``other``, each as "alpha 8"."""
        return [
            f"{field.name} {_shown(getattr(self, field.name))}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]

    def normalisation(self, divide_by: float = 255.0) -> dict[str, Any]:
        """What is done to the values of the frames: divided, then mean and standard deviation, one
        number where the channels are alike, as older versions wrote it, else one for each."""
        channels = {name: list(getattr(self, name)) for name in _CHANNELS}
        alike = {name: values[0] for name, values in channels.items() if len(set(values)) == 1}
        return {"divide_by": divide_by, **channels, **alike}


_CHANNELS = ("mean", "std")
_PLAIN = tuple(field.name for field in fields(NetworkDescription) if field.name not in _CHANNELS)


def network_defaults(name: str) -> NetworkDescription:
    """The network published under ``name``. Raises ValueError for a name that is not known."""
    return NetworkDescription(name, _ALPHAS.get(name, 4), _FUSION_KERNELS.get(name, 7))


def from_json(content: Mapping[str, Any]) -> NetworkDescription:
    """What `as_json` wrote; what older versions did not write is as `network_defaults` has it.

    Raises ValueError, with the field's name, for anything else; other fields are not looked at.
    """
    name = content.get("name")
    if not isinstance(name, str):
        raise ValueError(f"name is {name!r}")
    values = {field: getattr(network_defaults(name), field) for field in (*_PLAIN, *_CHANNELS)}
    values |= {field: content[field] for field in _PLAIN if field in content}
    normalisation = content.get("normalisation", {})
    known = isinstance(normalisation, Mapping) and normalisation.keys() <= {"divide_by", *_CHANNELS}
    if not known or normalisation.get("divide_by", 255) != 255:
        raise ValueError(f"normalisation is {normalisation!r:.100}")
    for field in _CHANNELS:
        if field in normalisation:
            value = normalisation[field]
            values[field] = tuple(value) if isinstance(value, list | tuple) else (value,) * 3
    return NetworkDescription(**values)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{number:.3g}" for number in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _require(right: bool, name: str, value: object, wanted: str) -> None:
    if not right:
        raise ValueError(f"{name} is {value!r:.60}, and must be {wanted}")


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
