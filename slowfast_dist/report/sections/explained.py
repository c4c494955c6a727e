"""Where the model looked: the strips of a training's end, of ``report``, and those that
``predict --explain --output RUN/explained`` left."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image

from slowfast_dist.runs.reading import mapping, read_json

EXPLAINED = "explained"
"""The folder below a run's whose strips its page shows."""

ENDING = ".explained.png"
"""Of a strip's name, behind that of its video."""

KEPT = ".maps.json"
"""In that folder: of which best model each strip is that was not asked of ``predict``, by the
SHA-256 of its weights."""

MOST_STRIPS = 12
"""Strips shown at most, the first by name: as many as hardest videos by default."""

WIDTH = 1056
"""Pixels to which a strip is narrowed: twice those of a narrow screen, half of what it has."""

QUALITY = 72
"""Of the JPEGs: 40 to 70 kB each."""

STRIP_BYTES = 600_000
"""JPEGs together, which base64 makes a third larger: the page stays below 3 MB beside all else."""

MOST_FILE_BYTES, MOST_PIXELS = 16_000_000, 16_000_000
"""Of a strip that is opened: one with all three maps has 3 MB and 2 million pixels. A run may be
another's, and hold what takes all memory."""


def read_explained(run: Path) -> tuple[list[tuple[str, bytes]], int]:
    """Names of videos with their strips as JPEGs, and how many files there are: there is room for
    some. What is no strip, or a link, is left out, and so is what an older best model saw."""
    paths: list[Path] = []
    found: list[tuple[str, bytes]] = []
    with suppress(OSError):
        weights = mapping(read_json(run / "models" / "best_model.json")).get("weights_sha256") or ""
        kept = mapping(read_json(run / EXPLAINED / KEPT))
        paths = [
            path
            for path in sorted((run / EXPLAINED).glob("*" + ENDING))
            if kept.get(path.name.removesuffix(ENDING), weights) == weights
        ]
        for path in paths[:MOST_STRIPS]:
            picture = None if path.is_symlink() or not path.is_file() else _narrowed(path)
            if picture is not None:
                found.append((path.name.removesuffix(ENDING), picture))
    while sum(len(picture) for _, picture in found) > STRIP_BYTES:
        found.pop()
    return found, len(paths)


def _narrowed(path: Path) -> bytes | None:
    with suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        if path.stat().st_size > MOST_FILE_BYTES:
            return None
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            picture = image.convert("RGB")
        picture.thumbnail((WIDTH, picture.height))
        file = BytesIO()
        picture.save(file, "JPEG", quality=QUALITY, optimize=True)
        return file.getvalue()
    return None
