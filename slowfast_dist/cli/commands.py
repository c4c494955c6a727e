"""The table of the commands: of each its settings, the function that runs it, and its words.

Settings and functions stand here by name: a command imports its own alone, and functions, which
may need torch, only for a command line that is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from slowfast_dist.config.commands.tune import TUNE_FOLDS
from slowfast_dist.config.fields import USUAL_FOLDS

MODULE = "python -m slowfast_dist"


@dataclass(frozen=True)
class Command:
    """One command, and what has to be done around the function that runs it."""

    name: str
    """The words that choose it, as benchmark step."""
    run: str
    """module:function below slowfast_dist; it takes the words, then the settings if there are."""
    settings: str | None
    """module:dataclass below slowfast_dist whose fields are the flags; none: it has no flags."""
    words: tuple[str, ...]
    """Names of what is given without a flag: in brackets what may be missing; the last one may end
    in "..." and then stands for one or more. All are paths but INPUT, which may be an address."""
    summary: str
    """What the list of commands says of it."""
    usage: str = ""
    """The words in the usage line, where it shows more than ``words``."""
    missing: str = ""
    """The message where a word is missing, in place of the one that shows the usage line."""
    note: str = ""
    """What its help says below the description of its settings."""
    computes: bool = False
    """Whether it computes with torch: its CPU threads then sleep while they wait."""
    launched: bool = False
    """Whether a launcher may start it several times, as ranks of one computation."""
    trains: bool = False
    """Whether it writes a run, in a folder that only one process holds, and stops at a signal."""
    preset: str = ""
    """The preset that it begins from, in place of one that the line names; its word is the videos'
    folder, as --data.root of a training."""
    folds: int | None = None
    """Its --folds where neither preset nor file has some; it is a cross-validation then."""

    @property
    def usage_line(self) -> str:
        """How to call it, but for its flags."""
        return f"{MODULE} {self.name} {self.usage or ' '.join(self.words)}".rstrip()

    @property
    def most_words(self) -> int | None:
        """How many words it takes without a flag; none: any number."""
        return None if self.words and self.words[-1].endswith("...") else len(self.words)

    def values_of(self, words: Sequence[str]) -> list[Any]:
        """What its function takes for the words; None for one that is left out. Nothing where the
        word is a setting."""
        if self.preset:
            return []
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
    Command("train", "training.run:run_training", "config.training:Config", (),
            "Train a model: [PRESET] [--config FILE ...] [flags]; train.py is the same.",
            usage="[PRESET] [--config FILE ...]", computes=True, launched=True, trains=True),
    Command("cross-validate", "commands.cross_validate.command:run_cross_validation",
            "config.training:Config", (),
            "Predict each video by a model that never saw its group: flags as of train.",
            usage="[PRESET] [--config FILE ...] [--folds N]", computes=True, launched=True,
            trains=True, folds=USUAL_FOLDS),
    Command("tune", "cli.tuning:run_tune", "config.commands.tune:Tune", (),
            "Search for better settings by cross-validated trials: flags as of train, --trials N.",
            usage="[PRESET] [--config FILE ...] [--trials N] [--search FLAG=...]", computes=True,
            trains=True, folds=TUNE_FOLDS),
    Command("pretrain", "training.run:run_training", "config.training:Config", ("DIR",),
            "Learn from videos without labels, for --model.weights of train: DIR [flags].",
            usage="DIR [--config FILE ...]", computes=True, launched=True, trains=True,
            preset="pretrain",
            note="All videos in DIR and below it count. It is a training with the preset pretrain "
                 "and the flags of train; what is learned is in which way a clip is shown."),
    Command("evaluate", "commands.evaluate.command:run_evaluation",
            "config.commands.evaluate:EvaluateCommand", ("RUN",),
            "Score labelled videos with a run's best model: RUN [--data DIR] [flags].",
            usage="RUN [--data DIR]", computes=True, launched=True,
            note="RUN is a run's folder, or its models folder alone. The videos are cut into clips "
                 "as in the run's own validation.",
            missing="evaluate: RUN is missing: give a run's folder, or its models folder"),
    Command("predict", "commands.predict.command:run_predict", "config.commands.predict:Predict",
            ("RUN", "INPUT..."),
            "Say what happens in videos or a live source: RUN INPUT... [flags].", computes=True),
    Command("embed", "commands.embed.command:run_embed", "config.commands.embed:Embed",
            ("RUN", "INPUT..."),
            "Write the features of videos into a file, and check them: RUN INPUT... [flags].",
            computes=True),
    Command("export", "commands.export.command:run_export", "config.commands.export:Export",
            ("RUN",),
            "Write a run's best model as onnx, pt2, safetensors or openvino: RUN [flags].",
            computes=True),
    Command("adopt", "commands.adopt.command:run_adopt", "config.commands.adopt:Adopt", ("[FILE]",),
            "Make a run of weights of PySlowFast, MMAction2 and others: FILE [flags].",
            usage="[FILE]", computes=True,
            note="adopt FILE --classes classes.txt --output RUN makes a run; adopt --config FILE "
                 "prints flags."),
    Command("report", "commands.report:run_report", "config.commands.report:Report", ("RUN...",),
            "Write an HTML page about a run, or one that compares several: RUN... [flags].",
            computes=True),
    Command("model-card", "commands.hub:run_model_card", "config.commands.model_card:ModelCard",
            ("RUN",),
            "Write, and with --push-to-hub upload, the card of a run's best model: RUN [flags]."),
    Command("serve", "commands.serve.command:run_serve", "config.commands.browser:Serve", ("RUN",),
            "Show a run's best model in the browser: RUN [flags].", computes=True),
    Command("review", "commands.review.command:run_review", "config.commands.browser:Review",
            ("RUN",),
            "Mend labels in the browser, video after video: RUN [flags]."),
    Command("suggest", "commands.suggest.command:run_suggest", "config.commands.suggest:Suggest",
            ("RUN", "INPUT..."),
            "Choose the videos to label next, by uncertainty and diversity: RUN INPUT... [flags].",
            computes=True),
    Command("check-data", "commands.check.command:run_check", "config.commands.dataset:CheckData",
            ("DIR",), "Report what is wrong with a folder of videos: DIR [flags]."),
    Command("prepare", "commands.prepare.command:run_prepare", "config.commands.dataset:Prepare",
            ("DIR", "OUT"), "Rewrite a folder of videos once, for fast loading: DIR OUT [flags]."),
    Command("import", "commands.import_.command:run_import", "config.commands.dataset:Import",
            ("FILE...",),
            "Make a CSV of segments from the annotations of other tools: FILE... [flags]."),
    Command("benchmark step", "commands.benchmark.step:run_benchmark",
            "config.benchmark:BenchmarkStep", (),
            "Time of a training step and of scoring, on random data; against a plain loop.",
            computes=True),
    Command("benchmark train", "commands.benchmark.train:run_benchmark",
            "config.benchmark:BenchmarkTrain", ("DIR",),
            "A training end to end on the videos of DIR; against a plain loop.", computes=True),
    Command("benchmark answers", "commands.benchmark.answers:run_benchmark",
            "config.benchmark:BenchmarkAnswers", ("[RUN]",),
            "Time of an answer, by torch, OpenVINO and the files that export wrote: [RUN] [flags].",
            computes=True),
    Command("benchmark scaling", "commands.benchmark.scaling:run_benchmark",
            "config.benchmark:BenchmarkScaling", (),
            "1 to N processes on this machine, and a model of 8 to 512 GPUs.",
            computes=True, launched=True),
    Command("benchmark loader", "commands.benchmark.reading.loader:run_benchmark",
            "config.benchmark:BenchmarkLoader", ("[DIR]",),
            "CPU time of reading clips, by reader, size, keyframe interval and workers."),
    Command("benchmark index", "commands.benchmark.reading.index:run_benchmark",
            "config.benchmark:BenchmarkIndex", (),
            "Time to list a large dataset and to start on it, and memory."),
    Command("make-demo", "data.synthetic:make_demo_videos", None, ("DIR",),
            "Make the small videos of the demo in a folder: DIR.",
            missing=f"make-demo takes the folder to make: {MODULE} make-demo DIR"),
)  # fmt: skip

COMMANDS = {command.name: command for command in _TABLE}

GROUPS = {
    "benchmark": "Measure on this machine: step, answers, train, scaling, loader or index, [flags]."
}
"""What the list says of commands that have their first word in common."""


def find(words: Sequence[str]) -> Command | None:
    """The command that ``words`` start with, if they start with one."""
    return COMMANDS.get(" ".join(words[:1])) or COMMANDS.get(" ".join(words[:2]))
