"""The command line: ``python -m slowfast_dist COMMAND``, and ``train.py``, which is its ``train``.

One lazy import a command, so that ``--help`` and a user's mistake never wait for torch.
"""

import errno
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from slowfast_dist import (
    benchmark_commands,
    data_commands,
    heartbeat,
    model_commands,
    signals,
)
from slowfast_dist.arguments import (
    is_flag,
    read_command_line,
    read_flag,
    stray_word,
    take_values,
)
from slowfast_dist.config import (
    Config,
    EvaluateCommand,
    RunError,
    UserError,
)
from slowfast_dist.config_checks import validate, validate_evaluate
from slowfast_dist.config_files import preset_names, preset_path, preset_summary, read_config_file
from slowfast_dist.cpus import let_threads_sleep
from slowfast_dist.flags import Setting, apply, did_you_mean, flag_types, print_help
from slowfast_dist.run_lock import refuse_if_held

DEFAULT_PRESET = "finetune"
WAIT_OF_OTHER_RANKS = 2.0
"""Seconds before another process than rank 0 exits: a launcher that sees one exit kills the rest,
and the message is rank 0's."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a mistake of the user's is one line on standard error and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # no name of a class or a file ends a run
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with one_line_for_mistakes():
        if not words or words[0] in ("-h", "--help"):
            if _rank() == 0:
                print("usage: python -m slowfast_dist COMMAND ...\n")
                for name, command in COMMANDS.items():
                    print(f"  {name:<12}{command.__doc__}")
        elif words[0] in COMMANDS:
            with _too_long_paths_refused(words):
                COMMANDS[words[0]](words[1:])
        else:
            hint = did_you_mean(words[0], COMMANDS) or f": give one of {', '.join(COMMANDS)}"
            raise UserError(f"{words[0]}: no such command{hint}")


@contextmanager
def one_line_for_mistakes() -> Iterator[None]:
    """Turn a UserError (exit code 2) or RunError (1) into one line, and Ctrl-C into none (130).

    Any other error is a bug and keeps its traceback. Whatever one process meets ends all: once
    they know each other, the first one prints it, also another one's. Before that rank 0 says it
    at once and another one waits first, as the launcher ends it where rank 0 made the same mistake.
    """
    try:
        yield
    except (UserError, RunError) as error:
        message = one_line(error)
        code = 2 if isinstance(error, UserError) else 1
        if (own := heartbeat.current()) is not None:
            own.fail(message, code)
        elif _rank() == 0:
            print(f"error: {message}", file=sys.stderr, flush=True)
        else:
            signals.end_at_once()
            time.sleep(WAIT_OF_OTHER_RANKS)
            print(f"error: process {_rank()}: {message}", file=sys.stderr, flush=True)
        raise SystemExit(code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if (own := heartbeat.current()) is None:
            raise
        traceback.print_exc()
        own.fail(f"{type(error).__name__}: {error}: a bug, see the traceback", 1)
        raise SystemExit(1) from None


@contextmanager
def _too_long_paths_refused(words: Sequence[str]) -> Iterator[None]:
    """Raise UserError for a path that no file system takes, whatever met it first."""
    try:
        yield
    except (OSError, RunError) as error:
        cause = error.__cause__ if isinstance(error, RunError) else error
        if not isinstance(cause, OSError) or cause.errno != errno.ENAMETOOLONG:
            raise
        path = os.fsdecode(cause.filename or "a path")
        raise UserError(
            f"{_source(words, path)}{path[:LONGEST_NAME]}: {len(path)} characters are more than a "
            "path may have, or its name: give a shorter one"
        ) from None


def _source(words: Sequence[str], path: str) -> str:
    """The flag of which ``path`` is the value, or that names a folder above it, and a space."""
    flag = ""
    for word in words:
        name, equals, value = word.partition("=")
        given = value if is_flag(word) and equals else word
        if len(given) > LONGEST_NAME and path.startswith((given, os.path.abspath(given))):
            return f"{name if equals else flag} ".lstrip()
        flag = word if is_flag(word) else ""
    return ""


LONGEST_NAME = 100
"""Characters that are shown of a path too long to be one, and that every one of those exceeds."""

LONGEST_LINE = 900
"""Characters of a message; what is longer, as a value of a broken file, loses its middle."""


def one_line(error: Exception) -> str:
    """Its text for a terminal or a log: no line breaks, no control characters, not too long."""
    text = " ".join(str(error).splitlines())
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    if len(text) > LONGEST_LINE:
        text = f"{text[: LONGEST_LINE // 2]} ... {text[-LONGEST_LINE // 2 :]}"
    return text


def _rank() -> int:
    """This process among those that a launcher started; 0 where there is no launcher."""
    return int(os.environ.get("RANK") or 0)


def _train(arguments: list[str]) -> None:
    """Train a model: [PRESET] [--config FILE ...] [flags]; train.py is the same."""
    config = parse_training(arguments)
    if config is None:
        return
    signals.install(config.distributed.preempt_signal)
    refuse_if_held(config.output_dir)
    let_threads_sleep()
    from slowfast_dist.training import run_training

    run_training(config)


def _evaluate(arguments: list[str]) -> None:
    """Score labelled videos with a run's best model: RUN [--data DIR] [flags]."""
    parsed = parse_evaluation(arguments)
    if parsed is None:
        return
    let_threads_sleep()
    from slowfast_dist.evaluate_run import run_evaluation

    run_evaluation(*parsed)


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


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": model_commands.predict,
    "export": model_commands.export,
    "report": model_commands.report,
    "model-card": model_commands.model_card,
    "serve": model_commands.serve,
    "check-data": data_commands.check_data,
    "prepare": data_commands.prepare,
    "benchmark": benchmark_commands.benchmark,
    "make-demo": _make_demo,
}


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


def check_flags(words: Sequence[str]) -> None:
    """End with one line and exit code 2 if ``train`` does not take these; for launch scripts."""
    with one_line_for_mistakes():
        parse_training(words)


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
