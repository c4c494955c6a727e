"""The words of a command line: flags with their values, and those that belong to no flag."""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from slowfast_dist.cli.flags import (
    SEE_HELP,
    Setting,
    apply,
    did_you_mean,
    fewest_values,
    flag_types,
    most_values,
    print_help,
    wanted,
)
from slowfast_dist.cli.presets import preset_names, preset_path, preset_summary, read_config_file
from slowfast_dist.config.checks import validate
from slowfast_dist.config.commands import EvaluateCommand, validate_evaluate
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config

MODULE = "python -m slowfast_dist"


class _Command(Protocol):
    def check(self) -> None: ...


C = TypeVar("C", bound=_Command)


@dataclass
class CommandLine:
    """``words``: those that belong to no flag; ``help``: whether --help stands among the flags."""

    words: list[str] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    help: bool = False


def parse_command(
    arguments: Sequence[str], defaults: C, name: str, words: tuple[str, ...]
) -> tuple[list[str], C] | None:
    """The words and the settings of a command, checked; None after --help.

    ``words`` name what is given without a flag: in brackets what may be missing; the last one may
    end in "..." and then stands for one or more. Raises UserError for a mistake.
    """
    types = flag_types(type(defaults))
    many = bool(words) and words[-1].endswith("...")
    line = read_command_line(arguments, types, most_words=None if many else len(words))
    if line.help:
        print_help(defaults, " ".join((MODULE, name, *words)), type(defaults).__doc__ or "")
        return None
    for word in words[len(line.words) :]:
        if not word.startswith("["):
            missing = word.removesuffix("...")
            raise UserError(f"{name}: {missing} is missing: {MODULE} {name} {' '.join(words)}")
    command = apply(line.settings, defaults, types)
    command.check()
    return line.words, command


def read_command_line(
    arguments: Sequence[str], types: Mapping[str, Any], most_words: int | None
) -> CommandLine:
    """Split the arguments; ``types`` are those of `flags.flag_types`; None: any number of words.

    Raises UserError for an unknown flag, a value that is missing, and a word too many.
    """
    line = CommandLine()
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word in ("-h", "--help"):
            line.help = True
        elif is_flag(word):
            kind = types.get(word.removeprefix("--").replace("_", "-"))
            # What follows a switch and is no value of it is a word: predict RUN --json a.mp4
            words = [other for other in waiting if other.lower() not in ("true", "false")]
            reserved = words if kind is bool else ()
            line.settings.append(read_flag(word, waiting, types, reserved=reserved))
        elif len(line.words) == most_words:
            raise stray_word(word)
        else:
            line.words.append(word)
    return line


def read_flag(
    word: str,
    words: list[str],
    types: Mapping[str, Any],
    others: Collection[str] = ("help",),
    reserved: Collection[str] = (),
) -> Setting:
    """The flag ``word``, as --x or --x=value, with its values, which are removed from ``words``.

    ``others`` are flags of the command beside ``types``; ``reserved`` as for `take_values`.
    """
    flag, equals, value = word.partition("=")
    name = flag.removeprefix("--").replace("_", "-")
    if not flag.startswith("--") or name not in types:
        hint = did_you_mean(name.lstrip("-"), (*others, *types), "--") or SEE_HELP
        raise UserError(f"{flag}: unknown flag{hint}")
    given = [value] if equals else []
    most, fewest = most_values(types[name]), fewest_values(types[name])
    given += take_values(words, most and most - len(given), fewest - len(given), reserved)
    if len(given) < fewest:
        raise UserError(f"--{name}: a value is missing: give {wanted(types[name])}")
    return Setting(name, tuple(given), f"--{name}")


def take_values(
    words: list[str], most: int | None, fewest: int, reserved: Collection[str] = ()
) -> list[str]:
    """Remove and return the values at the start of ``words``: at most ``most``, None for all.

    ``reserved`` words are no values where a value could as well be missing.
    """
    taken: list[str] = []
    while words and not is_flag(words[0]) and (most is None or len(taken) < most):
        if len(taken) >= fewest and words[0] in reserved:
            break
        taken.append(words.pop(0))
    return taken


def is_flag(word: str) -> bool:
    """Whether a word is a flag, known or not, and no value; a negative number is a value."""
    return word.startswith("--") or (word.startswith("-") and word[1:2].isalpha())


def stray_word(word: str) -> UserError:
    """The error for a word where none is due."""
    return UserError(f"{word}: belongs to no flag: write it behind its flag, or take it away")


DEFAULT_PRESET = "finetune"


def _rank() -> int:
    """This process among those that a launcher started; 0 where there is no launcher."""
    return int(os.environ.get("RANK") or 0)


def parse_training(arguments: Sequence[str]) -> Config | None:
    """The settings of ``[PRESET] [--config FILE ...] [flags]``, validated; None after --help.

    Precedence: the dataclasses' defaults, the preset, --config files from left to right, flags.
    The help shows the defaults as preset and files leave them. Raises UserError for a mistake.
    """
    types = flag_types(Config)
    line = read_training_line(arguments, types)
    config = Config()
    for path in (preset_path(line.preset or DEFAULT_PRESET), *line.config_files):
        config = apply(read_config_file(path, types), config, types)
    if line.help:
        if _rank() == 0:
            _print_training_help(config)
        return None
    config = apply(line.settings, config, types)
    validate(config)
    return config


def _print_training_help(config: Config) -> None:
    script = Path(sys.argv[0]).name == "train.py"
    prog = "python train.py" if script else "python -m slowfast_dist train"
    presets = "\n".join(f"  {name:<15}{preset_summary(name)}" for name in preset_names())
    print_help(
        config,
        f"{prog} [PRESET] [--config FILE ...]",
        f"{Config.__doc__}\n\n"
        f"PRESET comes first; without one it is {DEFAULT_PRESET}:\n{presets}\n\n"
        "--config files go over the preset, a later one over an earlier, flags over all.\n\n"
        "The defaults below are as the preset and files given with --help leave them.",
    )


@dataclass
class TrainingLine:
    """What stands on a training's command line."""

    preset: str | None = None
    config_files: list[Path] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    help: bool = False


def read_training_line(arguments: Sequence[str], types: Mapping[str, Any]) -> TrainingLine:
    """Split the arguments into preset, --config files and flags with their values."""
    line = TrainingLine()
    words = list(arguments)
    if words and not is_flag(words[0]):
        line.preset = words.pop(0)
        preset_path(line.preset)
    # A preset's name where a value could as well be missing is a preset behind the flags.
    reserved = () if line.preset else preset_names()
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if word in ("-h", "--help"):
            line.help = True
        elif not is_flag(word):
            raise _stray(word, line.preset)
        elif flag == "--config":
            given = [value] if equals else take_values(words, None, 1, reserved)
            if not given:
                raise UserError("--config: a value is missing: give the path of a YAML file")
            line.config_files += map(Path, given)
        else:
            line.settings.append(read_flag(word, words, types, ("config", "help"), reserved))
    return line


def _stray(word: str, preset: str | None) -> UserError:
    if word not in preset_names():
        return stray_word(word)
    if preset is not None:
        return UserError(f"{word}: a second preset beside {preset}: give one, before the flags")
    return UserError(f"{word}: a preset comes before the flags: python train.py {word} ...")


def parse_evaluation(arguments: Sequence[str]) -> tuple[Path, EvaluateCommand] | None:
    """RUN and the flags of ``evaluate``, validated; None after --help.

    Raises UserError for a mistake.
    """
    types = flag_types(EvaluateCommand)
    line = read_command_line(arguments, types, most_words=1)
    if line.help:
        if _rank() == 0:
            print_help(
                EvaluateCommand(),
                "python -m slowfast_dist evaluate RUN [--data DIR]",
                f"{EvaluateCommand.__doc__}\n\n"
                "RUN is a run's folder, or its models folder alone. The videos are cut into clips "
                "as in the run's own validation.",
            )
        return None
    if not line.words:
        raise UserError("evaluate: RUN is missing: give a run's folder, or its models folder")
    command = apply(line.settings, EvaluateCommand(), types)
    validate_evaluate(command)
    return Path(line.words[0]), command
