"""models/README.md: the model card, as people and the Hugging Face hub read it.

It is made of best_model.json and the names of the files beside it, of nothing else. Its front
matter is that of https://huggingface.co/docs/hub/model-cards; what it tells follows Mitchell et
al., Model Cards for Model Reporting (FAT* 2019).
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.fields import FINAL
from slowfast_dist.metrics.scores import ALL_CLASSES, MACRO_CLASSES, over_classes
from slowfast_dist.model.description import from_json, network_defaults
from slowfast_dist.report.format import calibration_facts, head_parts, interval, score
from slowfast_dist.runs.best_model import DESCRIPTION, read_description
from slowfast_dist.runs.reading import whole
from slowfast_dist.system.files import atomic_write, reason_of
from slowfast_dist.system.text import clean

CARD = "README.md"

FOLDED_ABOVE = 50
"""Number of classes above which lists of them are folded, to be shown on a click: a table of so
many rows fills a page."""

RELIABLE_SUPPORT = 50
"""Validation videos of a class below which the card warns of its scores: with 50 the 95 % interval
of a recall of 0.5 is 0.28 wide."""

METRICS = {
    "map_macro": ("map", "Mean average precision (macro)"),
    "map_micro": ("map", "Mean average precision (micro)"), "f1_micro": ("f1", "F1 (micro)"),
    "accuracy": ("accuracy", "Accuracy"), "top5_accuracy": ("accuracy", "Top-5 accuracy"),
    "f1_macro": ("f1", "F1 (macro)"),
    f"f1_macro{ALL_CLASSES}": ("f1", "F1 (macro, all classes)"),
    "f1_weighted": ("f1", "F1 (weighted)"),
    "precision_macro": ("precision", "Precision (macro)"),
    "recall_macro": ("recall", "Recall (macro)"),
}  # fmt: skip
"""Name below val/ in metrics.jsonl -> the hub's type of metric, and how it is shown."""

_SETTINGS = {
    "network": "Network", "short_videos": "Short videos",
    "epochs": "Epochs", "global_batch_size": "Batch (videos a step)", "optimizer": "Optimizer",
    "lr": "Learning rate", "backbone_lr_scale": "Backbone's rate over that",
    "layer_decay": "Rate of a stage over that of the next one",
    "ema": "Weights averaged over steps, decay", "averaged_epochs": "Weights averaged over epochs",
    "weight_decay": "Weight decay", "clip_norm": "Gradient clipped to", "schedule": "Schedule",
    "warmup_epochs": "Warm-up epochs", "loss": "Loss", "label_smoothing": "Label smoothing",
    "class_weights": "Class weights", "class_sampling": "Class sampling",
    "logit_adjustment": "Logit adjustment", "probe": "Head began as", "freeze": "Frozen",
    "norm": "BatchNorm", "precise_norm": "BatchNorm's statistics measured on, clips",
    "flip_pairs": "Classes that a mirror swaps", "crop_scale": "Random resized crop, share",
    "crop_aspect": "Random resized crop, width over height", "rand_augment": "RandAugment-T",
    "erasing": "Random erasing", "speed": "Speed",
    "mixup": "Mixup", "cutmix": "CutMix",
    "mixed_precision": "Mixed precision", "processes": "Processes", "seed": "Seed",
}  # fmt: skip

EXPORTS = {
    "best_model.onnx": "for onnxruntime and other engines (`predict --backend onnx`)",
    "best_model.pt2": "a torch.export program, which loads with torch alone "
    "(`predict --backend pt2`)",
    "best_model.xml": "for OpenVINO, with best_model.bin beside it (`predict --backend openvino`)",
    "best_model.bin": "the weights of best_model.xml",
    "best_model.safetensors": "the weights, with the description as metadata",
}
"""Name of a file that `export` leaves in models/ -> what it is for."""

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
        names = [file.name for file in models.iterdir() if file.is_file()]
        text = _signed(render_card(read_description(models), names))
        with atomic_write(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise RunError(f"cannot write the model card {path}: {reason_of(error)}") from error
    return True


def card_body(models: Path) -> str:
    """The card's text without front matter and mark; "" where there is none."""
    try:
        text = (models / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    body = re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL)
    return _MARK.sub("", body).strip()


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
        facts = _facts(description, files)
        front = _front_matter(facts)
        text = _template().render(facts)
    except (
        ArithmeticError, AttributeError, LookupError, TypeError, ValueError, jinja2.UndefinedError,
    ) as error:  # fmt: skip
        raise UserError(
            f"RUN {DESCRIPTION}: is damaged ({type(error).__name__} {str(error)[:200]}): take it "
            "from the run again"
        ) from None
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=90)
    body = re.sub(r"\n{3,}", "\n\n", text).strip()
    return f"---\n{head}---\n\n{body}\n\n".encode("utf-8", "replace").decode()


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"markdown": _markdown, "code": _code, "score": score}
    environment.filters |= {"interval": interval, "whole": _whole}
    return environment.get_template("card.md")


def _facts(description: Mapping[str, Any], files: Sequence[str]) -> dict[str, Any]:
    """What card.md shows; ``val``: the metrics of validation by their names without val/."""
    data, training = description.get("data", {}), description.get("training", {})
    metrics, clip = description.get("metrics", {}), description["clip"]
    training = {**training, **_unusual(description)}
    val = {k[4:]: v for k, v in metrics.items() if k.startswith("val/") and v is not None}
    _whole(val.get(MACRO_CLASSES, 0))
    if not (over := over_classes(val, len(description["classes"]))):
        val.pop(f"f1_macro{ALL_CLASSES}", None)  # the same number once more
    versions = training.get("versions", {})
    made = [_markdown(f"{name} {version}") for name, version in versions.items() if version]
    if commit := training.get("git_commit"):
        made.append(f"commit `{_code(str(commit))[:12]}`")
    final = training.get("fold") == FINAL
    videos = "videos of split test" if final else "validation videos"
    return {
        "facts": description, "model": description["model"]["name"], "data": data, "val": val,
        "over": over,
        "classes": description["classes"], "training": training, "clip": clip, "made": made,
        "dataset": clean(str(data.get("name", "videos"))), "pattern": data.get("group_pattern"),
        "start": training.get("started_from"), "source": training.get("pretrained_on"),
        "head": head_parts(training), "test": description.get("test"),
        "calibration": calibration_facts(description),
        "monitor": str(description.get("monitor")), "intervals": description.get("intervals", {}),
        "videos": f"{_whole(val['videos'])} {videos}" if "videos" in val else videos,
        "views": clip["temporal_views"] * clip["spatial_crops"],
        "smallest": min((row["support"] for row in description.get("per_class", [])), default=0),
        "exports": [(name, use) for name, use in EXPORTS.items() if name in files],
        "settings": _SETTINGS, "metrics": METRICS,
        "folded_above": FOLDED_ABOVE, "reliable_support": RELIABLE_SUPPORT,
    }  # fmt: skip


def _unusual(description: Mapping[str, Any]) -> dict[str, str]:
    """Of the network and its clips, what is unlike the published ones."""
    found = {}
    with suppress(ValueError):  # else another version's
        network = from_json(description["model"])
        if unlike := network.differences(network_defaults(network.name)):
            found["network"] = ", ".join(unlike).replace("_", " ")
    if description["clip"].get("short_videos") == "loop":
        found["short_videos"] = "shown again from their first frame"
    return found


def _markdown(text: str) -> str:
    """Text that Markdown, also in a table, shows as it is."""
    text = re.sub(r"([\\`*\[\]<>|#~$&])", r"\\\1", clean(" ".join(text.split())))
    text = re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", text)  # else it may begin a list, or be a line
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # inside a word it is no emphasis


def _whole(value: Any) -> str:
    """A count, which a run that goes on keeps as a float. Raises ValueError for what is none: it
    stands in the card as it is."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if (count := whole(value)) is None:
        raise ValueError(f"{str(value)[:80]!r} is no count")
    return str(count)


def _code(text: str) -> str:
    """Text between backticks."""
    return clean(" ".join(text.split())).replace("`", "'")


def _front_matter(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the hub files the model under. No license: the user's choice. No base_model: that would
    be a repository of the hub, and pytorchvideo's weights are in none."""
    model, dataset, val = facts["model"], facts["dataset"], facts["val"]
    slug = re.sub(r"[^a-z0-9._-]+", "-", dataset.lower()).strip("-._") or "videos"
    front: dict[str, Any] = {
        "library_name": "slowfast_dist",
        "pipeline_tag": "video-classification",
        "tags": ["action-recognition", "pytorchvideo", "slowfast", model],
    }
    metrics = [
        {"type": kind, "name": shown, "value": round(float(val[name]), 6)}
        for name, (kind, shown) in METRICS.items()
        if name in val
    ]
    if metrics:
        front["metrics"] = sorted({metric["type"] for metric in metrics})
        result = {
            "task": {"type": "video-classification", "name": "Action recognition"},
            "dataset": {"type": slug, "name": dataset, "split": "validation"},
            "metrics": metrics,
        }
        front["model-index"] = [{"name": f"{model}-{slug}", "results": [result]}]
    return front
