"""How training clips are varied beyond crop and mirror: the settings under --augment, all off."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from slowfast_dist.config.checks import Remedy, require

CropScale = Annotated[
    tuple[float, float] | None, Interval(gt=0, le=1),
    Remedy("give two shares of the picture, as 0.3 1"),
]
CropAspect = Annotated[
    tuple[float, float], Interval(ge=0.1, le=10), Remedy("give two ratios, as 0.75 1.333")
]
Speed = Annotated[
    tuple[float, float] | None, Interval(ge=0.25, le=4), Remedy("give two factors, as 0.8 1.25")
]


@dataclass(frozen=True)
class AugmentConfig:
    crop_scale: CropScale = None
    """Random resized crop: the least and the largest share of the picture that a training clip
    shows, as 0.3 1, in place of a crop of --data.short-side; none: off."""
    crop_aspect: CropAspect = (3 / 4, 4 / 3)
    """The least and the largest width over height of such a crop before it is made square (with
    --data.resize square and pad: over that of the whole picture)."""
    rand_augment: Annotated[float, Interval(ge=0, le=30)] = 0.0
    """RandAugment: two operations a clip, drawn once, whose strength, about this of 30, rises or
    falls over the clip's time (RandAugment-T); 9 is usual; 0: off."""
    erasing: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Share of the clips in which a box, the same in all frames, is made grey; 0: off."""
    speed: Speed = None
    """The least and the largest factor of a clip's speed, as 0.8 1.25: above 1 it lasts longer and
    plays faster; with sampling uniform a factor below 1 is the share of the video that the clip
    shows; none: off."""
    mixup: Annotated[float, Interval(ge=0, le=100)] = 0.0
    """Mixup: each clip is mixed with another of its micro-batch, and so are their labels, in shares
    drawn from a Beta distribution of this alpha, as 0.2; 0: off."""
    cutmix: Annotated[float, Interval(ge=0, le=100)] = 0.0
    """CutMix: a box of height and width, the same in all frames, comes from another clip of the
    micro-batch, and the labels count by its area, drawn from a Beta distribution of this alpha, as
    1; 0: off. With mixup each micro-batch gets one of both by chance."""

    def check(self) -> None:
        """Raise UserError for pairs whose first number is the larger one."""
        for name, pair in (
            ("crop-scale", self.crop_scale), ("crop-aspect", self.crop_aspect),
            ("speed", self.speed),
        ):  # fmt: skip
            if pair is not None:
                shown = " ".join(f"{number:g}" for number in pair)
                require(pair[0] <= pair[1], f"augment.{name}", shown, "give the smaller one first")

    @property
    def unused(self) -> str | None:
        """What to tell of a shape of crops that are not made. It is not refused: runs of older
        versions that had it resume with it."""
        if self.crop_scale is not None or self.crop_aspect == AugmentConfig.crop_aspect:
            return None
        shown = " ".join(f"{number:g}" for number in self.crop_aspect)
        return (
            f"--augment.crop-aspect {shown} changes nothing without --augment.crop-scale: add "
            "that, as 0.3 1"
        )

    @property
    def mixes(self) -> bool:
        """Whether clips of a micro-batch are mixed."""
        return self.mixup > 0 or self.cutmix > 0
