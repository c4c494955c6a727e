"""The sections of a model card, as Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slowfast_dist.system.text import clean

FOLDED_ABOVE = 50
"""Number of classes above which lists of them are folded, to be shown on a click: a table of so
many rows fills a page."""

RELIABLE_SUPPORT = 50
"""Validation videos of a class below which the card warns of its scores: with 50 the 95 % interval
of a recall of 0.5 is 0.28 wide."""

METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "top5_accuracy": ("accuracy", "Top-5 accuracy"),
    "f1_macro": ("f1", "F1 (macro)"),
    "f1_weighted": ("f1", "F1 (weighted)"),
    "precision_macro": ("precision", "Precision (macro)"),
    "recall_macro": ("recall", "Recall (macro)"),
}
"""Name below val/ in metrics.jsonl -> the hub's type of metric, and how it is shown."""

_SETTINGS = {
    "epochs": "Epochs", "global_batch_size": "Batch (videos a step)", "optimizer": "Optimizer",
    "lr": "Learning rate", "backbone_lr_scale": "Backbone's rate over that",
    "weight_decay": "Weight decay", "clip_norm": "Gradient clipped to", "schedule": "Schedule",
    "warmup_epochs": "Warm-up epochs", "label_smoothing": "Label smoothing",
    "class_weights": "Class weights", "freeze": "Frozen", "norm": "BatchNorm",
    "mixed_precision": "Mixed precision", "processes": "Processes", "seed": "Seed",
}  # fmt: skip

EXPORTS = {
    "best_model.onnx": "for onnxruntime and other engines (`predict --backend onnx`)",
    "best_model.pt2": "a torch.export program, which loads with torch alone "
    "(`predict --backend pt2`)",
    "best_model.safetensors": "the weights, with the description as metadata",
}
"""Name of a file that `export` leaves in models/ -> what it is for."""

_COMMANDS = """\
With slowfast_dist installed and this folder at hand as MODEL:

```sh
python -m slowfast_dist predict MODEL video.mp4
python -m slowfast_dist evaluate MODEL --data my_videos   # a folder of class folders
```"""

_PYTHON = """\
From Python:

```python
import slowfast_dist

prediction = slowfast_dist.load("MODEL").predict("video.mp4")
print(prediction.label, prediction.probability)
```"""


class Sections:
    """What best_model.json tells, section by section; "" where it tells nothing."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.description = description
        self.model: str = description["model"]["name"]
        self.classes: list[str] = description["classes"]
        self.data: Mapping[str, Any] = description.get("data", {})
        self.training: Mapping[str, Any] = description.get("training", {})
        self.intervals: Mapping[str, Any] = description.get("intervals", {})
        metrics = description.get("metrics", {})
        self.val = {k[4:]: v for k, v in metrics.items() if k.startswith("val/") and v is not None}
        self.dataset = clean(str(self.data.get("name", "videos")))

    def all(self, files: Sequence[str]) -> list[str]:
        """The sections in their order; ``files``: names of what lies beside best_model.json."""
        return [
            self.title(), self.classes_section(), self.data_section(), self.training_section(),
            self.results_section(), usage_section(files), self.limits_section(),
            self.version_section(),
        ]  # fmt: skip

    def title(self) -> str:
        lines = [f"# {self.model} for {len(self.classes)} actions of {_escaped(self.dataset)}", ""]
        start, source = self.training.get("started_from"), self.training.get("pretrained_on")
        origin = ""
        if start == "scratch":
            origin = ", trained from scratch"
        elif start:
            origin = f", fine-tuned from `{_code(start)}`"
            origin += f" (pytorchvideo's, of {source})" if source else ""
        lines.append(
            "A [SlowFast](https://arxiv.org/abs/1812.03982) network that tells which of "
            f"{len(self.classes)} actions a video shows{origin}."
        )
        if "accuracy" in self.val:
            scores = " and ".join(
                f"{words} {self.val[name]:.3f}{self._interval(name)}"
                for name, words in (("accuracy", "an accuracy of"), ("f1_macro", "a macro-F1 of"))
                if name in self.val
            )
            lines.append(f"On {self._videos()} it reached {scores}.")
        return "\n".join(lines)

    def _interval(self, name: str) -> str:
        if name not in self.intervals:
            return ""
        low, high = self.intervals[name]
        return f" (95 % interval {low:.3f} to {high:.3f})"

    def _videos(self) -> str:
        count = self.val.get("videos")
        return "validation videos" if count is None else f"{count} validation videos"

    def classes_section(self) -> str:
        names = ", ".join(map(_escaped, self.classes))
        return "## Classes\n\n" + self._folded(names, f"All {len(self.classes)} classes")

    def _folded(self, text: str, summary: str) -> str:
        if len(self.classes) <= FOLDED_ABOVE:
            return text
        return f"<details>\n<summary>{summary}</summary>\n\n{text}\n\n</details>"

    def data_section(self) -> str:
        if not self.data:
            return ""
        train, val = self.data["train_videos"], self.data["val_videos"]
        lines = [f"{_escaped(self.dataset)}: {train} videos to train on, {val} to validate."]
        pattern = self.data.get("group_pattern")
        if self.data["split"] == "given":
            lines.append("The split was given.")
        elif pattern:
            lines.append(
                "Split at random, class by class; videos with the same match of "
                f"`{_code(pattern)}` in their paths are on one side."
            )
        else:
            lines.append("Split at random, class by class, each video by itself.")
        if self.data.get("unreadable"):
            lines.append(f"{self.data['unreadable']} more could not be read.")
        counts = self.data["per_class"]
        rows = [(_escaped(row["class"]), row["train"], row["val"]) for row in counts]
        table = _table(("class", "training videos", "validation videos"), rows)
        return "## Data\n\n" + " ".join(lines) + "\n\n" + self._folded(table, "Videos a class")

    def training_section(self) -> str:
        rows = [("Clip", self._clip()), ("Best epoch", self._best())]
        rows += [
            (shown, _escaped(str(self.training[name])))
            for name, shown in _SETTINGS.items()
            if self.training.get(name) is not None
        ]
        return "## Training\n\n" + _table(("setting", "value"), rows)

    def _clip(self) -> str:
        clip = self.description["clip"]
        frames, size = clip["num_frames"], clip["crop_size"]
        how = f"{frames} frames spread over the whole video"
        if clip["sampling"] == "dense":
            how = f"{frames} frames, {_every(clip['sampling_rate'])} of the video"
        resize = "the whole frame squeezed to a square"
        if clip["resize"] == "short-side":
            resize = f"cropped from a short side of {clip['short_side']}"
        return f"{how}, {size} x {size} px, {resize}"

    def _best(self) -> str:
        chosen = self.description
        least = "least" if chosen.get("mode") == "min" else "highest"
        return f"{chosen.get('epoch')}, with the {least} `{_code(str(chosen.get('monitor')))}`"

    def results_section(self) -> str:
        if not self.val:
            return "## Results\n\nNot validated."
        clip = self.description["clip"]
        views = clip["temporal_views"] * clip["spatial_crops"]
        about = f"Of {self._videos()}, {views} view{'s' * (views > 1)} of each."
        rows = []
        for name, (_, shown) in METRICS.items():
            if name in self.val:
                ends = self.intervals.get(name)
                interval = f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""
                rows.append((shown, f"{self.val[name]:.3f}", interval))
        if "loss" in self.val:
            rows.append(("Cross-entropy", f"{self.val['loss']:.3f}", ""))
        parts = [f"## Results\n\n{about}", _table(("metric", "value", "95 % interval"), rows)]
        if self.intervals:
            parts.append("Intervals: bootstrap over the videos, percentiles.")
        scores = ("precision", "recall", "f1")
        if "per_class" in self.description:
            each = [
                (_escaped(row["class"]), *(f"{row[score]:.3f}" for score in scores), row["support"])
                for row in self.description["per_class"]
            ]
            table = _table(("class", *scores, "videos"), each)
            parts.append(self._folded(table, "Class by class"))
        if self.description.get("confusions"):
            taken = ", ".join(
                f"{_escaped(row['class'])} for {_escaped(row['prediction'])} ({row['count']})"
                for row in self.description["confusions"]
            )
            parts.append(f"Most often taken for one another: {taken}.")
        if "ece" in self.description:
            parts.append(
                f"Calibration: confidence and accuracy differ by {self.description['ece']:.3f} on "
                "average (expected calibration error, 15 bins)."
            )
        return "\n\n".join(parts)

    def limits_section(self) -> str:
        limits = [
            "It names one of its classes for every video, also where none of them happens or "
            "several do: training videos had one label each.",
            "It was not tested on videos of other sources: other cameras, places, people and "
            "ways of acting may do worse. Whether it works equally well for all people was not "
            "tested either.",
        ]
        smallest = min((row["support"] for row in self.description.get("per_class", [])), default=0)
        if 0 < smallest < RELIABLE_SUPPORT:
            limits.append(
                f"The smallest class has {smallest} validation video{'s' * (smallest > 1)}: scores "
                "of single classes are rough, and the intervals tell only of the draw of videos."
            )
        if self.val and str(self.description.get("monitor")).startswith("val/"):
            limits.append(
                "The epoch was chosen on the same validation videos, so these numbers are a "
                "little too good: judge it on videos of your own."
            )
        if self.data.get("split") == "random" and not self.data.get("group_pattern"):
            limits.append(
                "Each video was split by itself. If several were cut from one recording, they "
                "are on both sides, and the numbers are far too good."
            )
        if self.training.get("flip"):
            limits.append("It was trained on mirrored videos, too: it cannot tell left from right.")
        if self.training.get("pretrained_on"):
            limits.append(
                f"It started from {self.training['pretrained_on']}, videos of a public platform, "
                "and may keep their one-sidedness."
            )
        limits.append("Sound is not used.")
        return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)

    def version_section(self) -> str:
        versions, commit = self.training.get("versions", {}), self.training.get("git_commit")
        made = [
            f"{name} {version}" for name, version in versions.items() if version
        ]
        if commit:
            made.append(f"commit `{_code(str(commit))[:12]}`")
        return f"## Version\n\nMade with {', '.join(made)}." if made else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _every(rate: int) -> str:
    return {1: "next to each other", 2: "every second one", 3: "every third one"}.get(
        rate, f"every {rate}th one"
    )


def _escaped(text: str) -> str:
    """Text that Markdown, also in a table, shows as it is."""
    text = re.sub(r"([\\`*\[\]<>|#~$&])", r"\\\1", clean(" ".join(text.split())))
    text = re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", text)  # else it may begin a list, or be a line
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # inside a word it is no emphasis


def _code(text: str) -> str:
    """Text between backticks."""
    return clean(" ".join(text.split())).replace("`", "'")


def usage_section(files: Sequence[str]) -> str:
    """Commands, Python and exported files; ``files``: names of what lies beside best_model.json."""
    parts = ["## How to use it", _COMMANDS, _PYTHON]
    exports = [f"- `{name}`: {use}" for name, use in EXPORTS.items() if name in files]
    if exports:
        parts.append("Exported, too:\n\n" + "\n".join(exports))
    return "\n\n".join(parts)
