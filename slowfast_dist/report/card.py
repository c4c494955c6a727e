"""models/README.md: the model card, as people and the Hugging Face hub read it.

It is made of best_model.json and the names of the files beside it, of nothing else. Its front
matter is that of https://huggingface.co/docs/hub/model-cards; what it tells follows Mitchell et
al., Model Cards for Model Reporting (FAT* 2019).
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.report.card_sections import METRICS, Sections
from slowfast_dist.runs.best_model import DESCRIPTION, read_description
from slowfast_dist.system.files import atomic_write

CARD = "README.md"

_MARK = re.compile(r"<!-- slowfast_dist wrote this card: ([0-9a-f]{64})\.[^\n]*-->\n\Z")
_KEPT_BY_HAND = "Changed by hand, it is kept as it is; 'model-card --overwrite' replaces it."


def write_card(models: Path, overwrite: bool = False) -> bool:
    """Write the card of the best model in ``models``; False where one changed by hand is kept.

    Raises UserError where best_model.json is damaged, RunError where the disk refuses.
    """
    path = models / CARD
    try:
        if not overwrite and path.exists() and not _is_unchanged(path.read_bytes()):
            return False
        text = _signed(render_card(read_description(models), _names(models)))
        with atomic_write(path, "w") as file:
            file.write(text)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write the model card {path}: {reason}") from error
    return True


def card_body(models: Path) -> str:
    """The card's text without front matter and mark; "" where there is none."""
    try:
        text = (models / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    body = re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL)
    return _MARK.sub("", body).strip()


def _names(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir() if path.is_file())


def _signed(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text}<!-- slowfast_dist wrote this card: {digest}. {_KEPT_BY_HAND} -->\n"


def _is_unchanged(content: bytes) -> bool:
    """Whether it is to the byte what `_signed` made."""
    text = content.decode("utf-8", "replace")
    found = _MARK.search(text)
    if found is None:
        return False
    return hashlib.sha256(text[: found.start()].encode()).hexdigest() == found[1]


def render_card(description: Mapping[str, Any], files: Sequence[str]) -> str:
    """The card of ``description`` (best_model.json); ``files``: names of what lies beside it.

    What an older best_model.json does not tell is left out. Raises UserError for a damaged one.
    """
    try:
        sections = Sections(description)
        front = _front_matter(sections)
        body = "\n\n".join(section for section in sections.all(files) if section)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"RUN {DESCRIPTION}: is damaged ({type(error).__name__} {error}): take it from the run "
            "again"
        ) from None
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=90)
    text = f"---\n{head}---\n\n{body}\n\n"
    return text.encode("utf-8", "replace").decode()


def _front_matter(sections: Sections) -> dict[str, Any]:
    """What the hub files the model under. No license: the user's choice. No base_model: that would
    be a repository of the hub, and pytorchvideo's weights are in none."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", sections.dataset.lower()).strip("-._") or "videos"
    front: dict[str, Any] = {
        "library_name": "slowfast_dist",
        "pipeline_tag": "video-classification",
        "tags": ["action-recognition", "pytorchvideo", "slowfast", sections.model],
    }
    metrics = [
        {"type": kind, "name": shown, "value": round(float(sections.val[name]), 6)}
        for name, (kind, shown) in METRICS.items()
        if name in sections.val
    ]
    if metrics:
        front["metrics"] = sorted({metric["type"] for metric in metrics})
        result = {
            "task": {"type": "video-classification", "name": "Action recognition"},
            "dataset": {"type": slug, "name": sections.dataset, "split": "validation"},
            "metrics": metrics,
        }
        front["model-index"] = [{"name": f"{sections.model}-{slug}", "results": [result]}]
    return front
