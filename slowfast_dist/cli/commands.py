"""The table of the commands: of each its settings, the function that runs it, and its words.

Settings and functions stand here by name: a command imports its own alone, and functions, which
may need torch, only for a command line that is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

MODULE = "python -m slowfast_dist"


@dataclass(frozen=True)
class Command:
    """One command, and what has to be done around the function that runs it."""

    name: str
    """The words that choose it, as benchmark step."""
    summary: str
    """What the list of commands says of it."""
    run: str
    """module:function below slowfast_dist; it takes the words, then the settings if there are."""
    settings: str | None = None
    """module:dataclass below slowfast_dist whose fields are the flags; none: it has no flags."""
    words: tuple[str, ...] = ()
    """Names of what is given without a flag: in brackets what may be missing; the last one may end
    in "..." and then stands for one or more. All are paths but INPUT, which may be an address."""
    usage: str = ""
    """The words in the usage line, where it shows more than ``words``."""
    missing: str = ""
    """The message where a word is missing, in place of the one that shows the usage line."""
    note: str = ""
    """What its help says below the description of its settings."""
    computes: bool = False
    """Whether it computes with torch: its CPU threads then sleep while they wait."""
    ends_with_pipe: bool = False
    """Whether it ends without a word where nobody reads any more what it prints."""
    launched: bool = False
    """Whether a launcher may start it several times, as ranks of one computation."""
    trains: bool = False
    """Whether it writes a run, in a folder that only one process holds, and stops at a signal."""

    @property
    def usage_line(self) -> str:
        """How to call it, but for its flags."""
        return f"{MODULE} {self.name} {self.usage or ' '.join(self.words)}".rstrip()

    @property
    def most_words(self) -> int | None:
        """How many words it takes without a flag; none: any number."""
        return None if self.words and self.words[-1].endswith("...") else len(self.words)

    def values_of(self, words: Sequence[str]) -> list[Any]:
        """What its function takes for the words; None for one that is left out."""
        values: list[Any] = []
        for place, name in enumerate(self.words):
            kind = str if name.startswith("INPUT") else Path
            if name.endswith("..."):
                values.append([kind(word) for word in words[place:]])
            else:
                values.append(kind(words[place]) if place < len(words) else None)
        return values


def load(place: str) -> Any:
    """The function or class at ``place``, as training.run:run_training."""
    module, _, name = place.partition(":")
    return getattr(import_module(f"slowfast_dist.{module}"), name)


_TABLE = (
    Command(
        "train",
        "Train a model: [PRESET] [--config FILE ...] [flags]; train.py is the same.",
        run="training.run:run_training",
        settings="config.training:Config",
        usage="[PRESET] [--config FILE ...]",
        computes=True,
        launched=True,
        trains=True,
    ),
    Command(
        "evaluate",
        "Score labelled videos with a run's best model: RUN [--data DIR] [flags].",
        run="commands.evaluate:run_evaluation",
        settings="config.commands:EvaluateCommand",
        words=("RUN",),
        usage="RUN [--data DIR]",
        note="RUN is a run's folder, or its models folder alone. The videos are cut into clips as "
        "in the run's own validation.",
        missing="evaluate: RUN is missing: give a run's folder, or its models folder",
        computes=True,
        launched=True,
    ),
    Command(
        "predict",
        "Say what happens in videos or a live source: RUN INPUT... [flags].",
        run="commands.predict.command:run_predict",
        settings="config.commands:Predict",
        words=("RUN", "INPUT..."),
        computes=True,
    ),
    Command(
        "export",
        "Write a run's best model as onnx, pt2 or safetensors: RUN --format FORMAT [flags].",
        run="commands.export.command:run_export",
        settings="config.commands:Export",
        words=("RUN",),
        computes=True,
        ends_with_pipe=True,
    ),
    Command(
        "report",
        "Write an HTML page about a run, or one that compares several: RUN... [flags].",
        run="report.command:run_report",
        settings="config.commands:Report",
        words=("RUN...",),
        ends_with_pipe=True,
    ),
    Command(
        "model-card",
        "Write, and with --push-to-hub upload, the card of a run's best model: RUN [flags].",
        run="commands.hub:run_model_card",
        settings="config.commands:ModelCard",
        words=("RUN",),
        ends_with_pipe=True,
    ),
    Command(
        "serve",
        "Show a run's best model in the browser: RUN [flags].",
        run="commands.serve.command:run_serve",
        settings="config.commands:Serve",
        words=("RUN",),
        computes=True,
    ),
    Command(
        "check-data",
        "Report what is wrong with a folder of videos: DIR [flags].",
        run="commands.check.command:run_check",
        settings="config.commands:CheckData",
        words=("DIR",),
    ),
    Command(
        "prepare",
        "Rewrite a folder of videos once, for fast loading: DIR OUT [flags].",
        run="commands.prepare.command:run_prepare",
        settings="config.commands:Prepare",
        words=("DIR", "OUT"),
    ),
    Command(
        "benchmark step",
        "Time of a training step and of scoring, on random data; against a plain loop.",
        run="commands.benchmark.step:run_benchmark",
        settings="config.benchmark:BenchmarkStep",
        computes=True,
    ),
    Command(
        "benchmark train",
        "A training end to end on the videos of DIR; against a plain loop.",
        run="commands.benchmark.train:run_benchmark",
        settings="config.benchmark:BenchmarkTrain",
        words=("DIR",),
        computes=True,
    ),
    Command(
        "benchmark scaling",
        "1 to N processes on this machine, and a model of 8 to 512 GPUs.",
        run="commands.benchmark.scaling:run_benchmark",
        settings="config.benchmark:BenchmarkScaling",
        computes=True,
        launched=True,
    ),
    Command(
        "benchmark loader",
        "CPU time of reading clips, by reader, size, keyframe interval and workers.",
        run="commands.benchmark.loader:run_benchmark",
        settings="config.benchmark:BenchmarkLoader",
        words=("[DIR]",),
    ),
    Command(
        "benchmark index",
        "Time to list a large dataset and to start on it, and memory.",
        run="commands.benchmark.index:run_benchmark",
        settings="config.benchmark:BenchmarkIndex",
    ),
    Command(
        "make-demo",
        "Make the small videos of the demo in a folder: DIR.",
        run="data.synthetic:make_demo_videos",
        words=("DIR",),
        missing=f"make-demo takes the folder to make: {MODULE} make-demo DIR",
    ),
)

COMMANDS = {command.name: command for command in _TABLE}

GROUPS = {"benchmark": "Measure on this machine: step, train, scaling, loader or index, [flags]."}
"""What the list says of commands that have their first word in common."""


def find(words: Sequence[str]) -> Command | None:
    """The command that ``words`` start with, if they start with one."""
    return COMMANDS.get(" ".join(words[:1])) or COMMANDS.get(" ".join(words[:2]))
