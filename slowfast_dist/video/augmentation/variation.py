"""What is done to the pictures of one view, frame by frame: numbers alone, drawn elsewhere."""

from dataclasses import dataclass, replace

from slowfast_dist.video.augmentation.affine import Map, Pixels
from slowfast_dist.video.augmentation.colours import Operations, recolour

FILL = 115
"""Grey of what is erased or lies beyond the picture: .45 of 255, the mean of most networks, which
becomes 0 for them."""


@dataclass(frozen=True)
class Variation:
    """Of a view of T frames; an empty tuple stands for no change of that kind."""

    maps: tuple[Map, ...] = ()
    """For each frame from the pixels of the result to those of the view's region, with crop, resize
    and mirror."""
    fill: int = FILL
    """Grey beyond the region."""
    colours: Operations = ()
    erased: tuple[int, int, int, int] | None = None
    """Of the result: top, left, height and width of what is made grey in all frames."""

    def of_mirrored(self, width: int) -> "Variation":
        """The same of a region, ``width`` pixels wide, that is stored as its mirror image."""
        maps = tuple((-a, -b, width - 1 - c, d, e, f) for a, b, c, d, e, f in self.maps)
        return replace(self, maps=maps)

    def finish(self, clip: Pixels) -> None:
        """Colours and erased box of all frames (T, size, size, 3), in place."""
        if self.colours:
            recolour(clip, self.colours)
        if self.erased is not None:
            top, left, height, width = self.erased
            clip[:, top : top + height, left : left + width] = FILL
