"""The command line: ``python -m slowfast_dist COMMAND``, and ``train.py``, which is its ``train``.

One lazy import a command, so that ``--help`` and a user's mistake never wait for torch.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowfast_dist.config import Config, RunError, UserError, validate
from slowfast_dist.config_files import preset_names, preset_path, preset_summary, read_config_file
from slowfast_dist.flags import (
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

DEFAULT_PRESET = "finetune"
WAIT_OF_OTHER_RANKS = 2.0
"""Seconds before another process than rank 0 exits: a launcher that sees one exit kills the rest,
and the message is rank 0's."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a mistake of the user's is one line on standard error and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with one_line_for_mistakes():
        if not words or words[0] in ("-h", "--help"):
            if _rank() == 0:
                print("usage: python -m slowfast_dist COMMAND ...\n")
                for name, command in COMMANDS.items():
                    print(f"  {name:<12}{command.__doc__}")
        elif words[0] in COMMANDS:
            COMMANDS[words[0]](words[1:])
        else:
            hint = did_you_mean(words[0], COMMANDS) or f": give one of {', '.join(COMMANDS)}"
            raise UserError(f"{words[0]}: no such command{hint}")


@contextmanager
def one_line_for_mistakes() -> Iterator[None]:
    """Turn a UserError (exit code 2) or RunError (1) into one line from rank 0.

    Any other error is a bug and keeps its traceback.
    """
    try:
        yield
    except (UserError, RunError) as error:
        if _rank() == 0:
            print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr, flush=True)
        else:
            time.sleep(WAIT_OF_OTHER_RANKS)
        raise SystemExit(2 if isinstance(error, UserError) else 1) from None


def _rank() -> int:
    """This process among those that a launcher started; 0 where there is no launcher."""
    return int(os.environ.get("RANK") or 0)


def _train(arguments: list[str]) -> None:
    """Train a model: [PRESET] [--config FILE ...] [flags]; train.py is the same."""
    config = parse_training(arguments)
    if config is None:
        return
    from slowfast_dist.training import run_training

    run_training(config)


def _make_demo(arguments: list[str]) -> None:
    """Make the small videos of the demo in a folder: DIR."""
    usage = "python -m slowfast_dist make-demo DIR"
    if {"-h", "--help"} & set(arguments):
        if _rank() == 0:
            print(f"usage: {usage}")
        return
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise UserError(f"make-demo takes the folder to make: {usage}")
    from slowfast_dist.data.synthetic import make_demo_videos

    make_demo_videos(Path(arguments[0]))


COMMANDS: dict[str, Callable[[list[str]], None]] = {"train": _train, "make-demo": _make_demo}


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
    if words and not _is_flag(words[0]):
        line.preset = words.pop(0)
        preset_path(line.preset)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("_", "-")
        given = [value] if equals else []
        if word in ("-h", "--help"):
            line.help = True
        elif not _is_flag(word):
            raise _stray(word, line.preset)
        elif flag == "--config":
            given += _take(words, None if not given else 0, 1, line.preset)
            if not given:
                raise UserError("--config: a value is missing: give the path of a YAML file")
            line.config_files += map(Path, given)
        elif flag.startswith("--") and name in types:
            most, fewest = most_values(types[name]), fewest_values(types[name])
            given += _take(words, most and most - len(given), fewest - len(given), line.preset)
            if len(given) < fewest:
                raise UserError(f"--{name}: a value is missing: give {wanted(types[name])}")
            line.settings.append(Setting(name, tuple(given), f"--{name}"))
        else:
            hint = did_you_mean(name.lstrip("-"), ("config", "help", *types), "--") or SEE_HELP
            raise UserError(f"{flag}: unknown flag{hint}")
    return line


def _take(words: list[str], most: int | None, fewest: int, preset: str | None) -> list[str]:
    """Remove and return the values at the start of ``words``: at most ``most``, None for all.

    A preset's name where a value could as well be missing is a preset behind the flags.
    """
    taken: list[str] = []
    while words and not _is_flag(words[0]) and (most is None or len(taken) < most):
        if preset is None and len(taken) >= fewest and words[0] in preset_names():
            raise _stray(words[0], preset)
        taken.append(words.pop(0))
    return taken


def _stray(word: str, preset: str | None) -> UserError:
    if word not in preset_names():
        return UserError(f"{word}: belongs to no flag: write it behind its flag, or take it away")
    if preset is not None:
        return UserError(f"{word}: a second preset beside {preset}: give one, before the flags")
    return UserError(f"{word}: a preset comes before the flags: python train.py {word} ...")


def _is_flag(word: str) -> bool:
    return word.startswith("--") or (word.startswith("-") and word[1:2].isalpha())
