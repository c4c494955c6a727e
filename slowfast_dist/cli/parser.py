"""The words of a command line: flags with their values, and those that belong to no flag."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slowfast_dist.cli import flags
from slowfast_dist.cli.commands import COMMANDS, MODULE, Command, load
from slowfast_dist.cli.flags import Setting, apply, did_you_mean, most_values
from slowfast_dist.cli.presets import preset_names, preset_path, preset_summary, read_config_file
from slowfast_dist.config.checks import flag_types, validate
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config
from slowfast_dist.distributed.environment import rank

DEFAULT_PRESET = "finetune"
"""What a training starts from where no preset is named: right for videos of one's own."""

ADD_UP = ("search",)
"""Flags that may be given several times, and mean all; of others the last counts."""


def parse_training(arguments: Sequence[str]) -> Config | None:
    """The settings of ``[PRESET] [--config FILE ...] [flags]``, validated; None after --help.

    Precedence: the dataclasses' defaults, the preset, --config files from left to right, flags.
    The help shows the defaults as preset and files leave them. Raises UserError for a mistake.
    """
    parsed = parse_command(COMMANDS["train"], arguments)
    return parsed[0] if parsed else None


def parse_command(command: Command, arguments: Sequence[str]) -> list[Any] | None:
    """What the function of ``command`` takes: its words, then its settings, validated.

    None after --help. Raises UserError for a mistake.
    """
    if command.settings is None:
        return _parse_words(command, arguments)
    types = flag_types(load(command.settings))
    line = read_command_line(
        arguments, types, command.most_words, command.trains, not command.preset
    )
    settings = defaults(command, line.preset, line.config_files)
    if line.help:
        usage = command.usage_line
        if command.trains and Path(sys.argv[0]).name == "train.py":
            usage = usage.replace(f"{MODULE} train", "python train.py")
        texts = (type(settings).__doc__, _preset_note() if command.trains else command.note)
        if command.preset:
            texts = (command.summary, command.note)
        flags.print_help(settings, usage, "\n\n".join(filter(None, texts)))
        return None
    for word in command.words[len(line.words) :]:
        if not word.startswith("["):
            missing = f"{word.removesuffix('...')} is missing: {command.usage_line}"
            raise UserError(command.missing or f"{command.name}: {missing}")
    if command.preset:
        [root] = line.words
        if any(setting.flag == "data.root" for setting in line.settings):
            raise UserError(f"{root}: is what --data.root would say: leave one of the two out")
        line.settings.append(Setting("data.root", (root,), command.words[0]))
    settings = apply(line.settings, settings, types)
    validate(settings)
    return [*command.values_of(line.words), settings]


def defaults(command: Command, preset: str | None = None, files: Sequence[Path] = ()) -> Any:
    """The settings of a command that has some, as preset and files leave them."""
    settings = load(command.settings or "")()
    if command.trains:
        types = flag_types(type(settings))
        for path in (preset_path(preset or command.preset or DEFAULT_PRESET), *files):
            settings = apply(read_config_file(path, types), settings, types)
    if command.folds is not None and settings.folds is None:
        settings = replace(settings, folds=command.folds)
    return settings


def _parse_words(command: Command, arguments: Sequence[str]) -> list[Any] | None:
    """As `parse_command`, for a command without flags."""
    if {"-h", "--help"} & set(arguments):
        if rank() == 0:
            print(f"usage: {command.usage_line}")
        return None
    if len(arguments) != len(command.words) or arguments[0].startswith("-"):
        raise UserError(command.missing)
    return command.values_of(arguments)


def _preset_note() -> str:
    presets = "\n".join(f"  {name:<19}{preset_summary(name)}" for name in preset_names())
    return (
        f"PRESET comes first; without one it is {DEFAULT_PRESET}:\n{presets}\n\n"
        "--config files go over the preset, a later one over an earlier, flags over all.\n\n"
        "The defaults below are as the preset and files given with --help leave them."
    )


@dataclass
class CommandLine:
    """What stands on a command line."""

    words: list[str] = field(default_factory=list)
    """Those that belong to no flag."""
    settings: list[Setting] = field(default_factory=list)
    help: bool = False
    """Whether --help stands among the flags."""
    preset: str | None = None
    """The first word of a training's line, where that is no flag."""
    config_files: list[Path] = field(default_factory=list)

    def add(self, setting: Setting) -> None:
        """One more flag with its values, behind those that it was given before where they add up.
        """
        for place, before in enumerate(self.settings):
            if before.flag == setting.flag and setting.flag in ADD_UP:
                values = (*before.values, *setting.values)
                self.settings[place] = replace(before, values=values)
                return
        self.settings.append(setting)


def read_command_line(
    arguments: Sequence[str], types: Mapping[str, Any], most_words: int | None,
    trains: bool = False, has_preset: bool = True,
) -> CommandLine:  # fmt: skip
    """Split the arguments; ``types`` are those of `flag_types`; ``most_words`` None: any number.

    The line of a training (``trains``) may start with a preset, if it ``has_preset``, and have
    --config files. Raises UserError for an unknown flag or preset, a value that is missing, and a
    word too many.
    """
    line = CommandLine()
    waiting = list(arguments)
    if trains and has_preset and waiting and not is_flag(waiting[0]):
        line.preset = waiting.pop(0)
        preset_path(line.preset)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.partition("=")
        # These are no values where a value could as well be missing: in a training a preset behind
        # the flags, else what follows a switch: predict RUN --json a.mp4
        reserved: Collection[str] = ()
        if trains and (has_preset or line.words):
            reserved = () if line.preset or line.words else preset_names()
        elif flags.is_switch(types.get(_flag_name(word))):
            reserved = [other for other in waiting if other.lower() not in ("true", "false")]
        if word in ("-h", "--help"):
            line.help = True
        elif not is_flag(word):
            if len(line.words) == most_words:
                if trains and has_preset:
                    raise _unexpected_preset(word, line.preset)
                raise unexpected_word(word)
            line.words.append(word)
        elif trains and flag == "--config":
            given = [value] if equals else take_values(waiting, None, 1, reserved)
            if not given:
                raise UserError("--config: a value is missing: give the path of a YAML file")
            line.config_files += map(Path, given)
        else:
            others = ("config", "help") if trains else ("help",)
            line.add(read_flag(word, waiting, types, others, reserved))
    return line


def _flag_name(word: str) -> str:
    return word.removeprefix("--").replace("_", "-")


def read_flag(
    word: str, words: list[str], types: Mapping[str, Any], others: Collection[str],
    reserved: Collection[str],
) -> Setting:  # fmt: skip
    """The flag ``word``, as --x or --x=value, with its values, which are removed from ``words``.
    ``others`` are flags of the command beside ``types``; ``reserved`` as for `take_values`."""
    flag, equals, value = word.partition("=")
    name = _flag_name(flag)
    if not flag.startswith("--") or name not in types:
        hint = did_you_mean(name.lstrip("-"), (*others, *types), "--") or flags.SEE_HELP
        raise UserError(f"{flag}: unknown flag{hint}")
    given = [value] if equals else []
    most = most_values(types[name])
    # Two numbers may come as one word.
    fewest = 0 if flags.is_switch(types[name]) or most is None else 1
    given += take_values(words, most and most - len(given), fewest - len(given), reserved)
    if len(given) < fewest:
        raise UserError(f"--{name}: a value is missing: give {flags.describe(types[name])}")
    return Setting(name, tuple(given), f"--{name}")


def take_values(
    words: list[str], most: int | None, fewest: int, reserved: Collection[str]
) -> list[str]:
    """Remove and return the values at the start of ``words``: at most ``most``, None for all.
    ``reserved`` words are no values where a value could as well be missing."""
    taken: list[str] = []
    while words and not is_flag(words[0]) and (most is None or len(taken) < most):
        if len(taken) >= fewest and words[0] in reserved:
            break
        taken.append(words.pop(0))
    return taken


def is_flag(word: str) -> bool:
    """Whether a word is a flag, known or not, and no value; a negative number is a value."""
    return word.startswith("--") or (word.startswith("-") and word[1:2].isalpha())


def unexpected_word(word: str) -> UserError:
    """The error for a word where none is due."""
    return UserError(f"{word}: belongs to no flag: write it behind its flag, or take it away")


def _unexpected_preset(word: str, preset: str | None) -> UserError:
    if word not in preset_names():
        return unexpected_word(word)
    if preset is not None:
        return UserError(f"{word}: a second preset beside {preset}: give one, before the flags")
    return UserError(f"{word}: a preset comes before the flags: python train.py {word} ...")
