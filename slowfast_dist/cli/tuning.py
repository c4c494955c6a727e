"""``tune``: words of --search become what is searched, by the parser of the flags themselves."""

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, get_args

from annotated_types import MultipleOf

from slowfast_dist.cli.commands import load
from slowfast_dist.cli.flags import SEE_HELP, Setting, apply, did_you_mean, written
from slowfast_dist.cli.presets import preset_names
from slowfast_dist.config.checks import bounds, flag_types, validate
from slowfast_dist.config.commands.tune import USUAL, Choices, Range, Searched, Tune, usual_search
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config
from slowfast_dist.system.log import logger

FIXED = {
    "seed": "to choose by it is to choose luck: see cross-validate --seeds",
    "loss.name": "trials of one label and of several have no common score",
    "patience": "folds have no early end by the videos that they score",
}
"""Flags that cannot be searched though they change a training, and why."""

NOT_OF_A_TRIAL = (
    "output-dir", "resume", "resume-changed", "folds", "fold", "seeds", "learning-curve", "hours",
    "log-", "data.root", "data.train-dir", "data.val-dir", "data.videos", "data.synthetic",
    "data.val-fraction", "data.group-pattern", "data.background", "data.num-workers", "data.cache",
    "data.max-bad-fraction", "evaluation.every", "checkpoint.", "distributed.", "wandb.",
    "report.", "trials", "search", "keep-weights",
)  # fmt: skip
"""Flags, or the beginnings of their names, that say which videos are scored, or change no score."""


def run_tune(config: Tune) -> dict[str, Any]:
    """The command; raises UserError for a mistake in --search before anything slow is imported."""
    space = parse_search(config)
    if config.output_dir.name in [f"{name}-{{timestamp}}" for name in preset_names()]:
        config = replace(config, output_dir=Tune.output_dir)  # in place of the preset's own
    return load("commands.tune.command:run_tune")(config, space)


def parse_search(config: Tune) -> list[Searched]:
    """What --search of ``config`` says, each with the setting as given among its values. Raises
    UserError."""
    base = config.of_training()
    words: list[str] = []
    for word in config.search or (USUAL,):
        words += usual_search(base) if word == USUAL else [word]
    found: list[Searched] = []
    for word in words:
        one = _searched(word, base)
        if any(one.flag == other.flag for other in found):
            raise UserError(f"--search {word}: {one.flag} is there already: give it once")
        found.append(one)
    return found


def _searched(word: str, base: Config) -> Searched:
    name, equals, given = word.partition("=")
    flag = name.replace("_", "-")
    types = flag_types(Config)
    if not equals or not given.strip():
        raise UserError(f"--search {word}: write FLAG=LOW:HIGH, FLAG=LOW:HIGH:log or FLAG=A,B,C")
    if flag in FIXED:
        raise UserError(f"--search {word}: {FIXED[flag]}; leave it out")
    if flag.startswith(NOT_OF_A_TRIAL):
        raise UserError(
            f"--search {word}: {flag} says which videos are scored, or changes no score; leave it "
            "out"
        )
    if flag not in types:
        raise UserError(f"--search {word}: unknown flag{did_you_mean(flag, types) or SEE_HELP}")
    parts = given.split(":")
    if len(parts) > 1 and "," not in given and {int, float} & _kinds(types[flag]):
        return _range(word, flag, parts, base)
    return _choices(word, flag, given.split(","), base)


def _kinds(hint: Any) -> set[Any]:
    return {hint}.union(*map(_kinds, get_args(hint)))


def _range(word: str, flag: str, parts: Sequence[str], base: Config) -> Range:
    kinds = _kinds(flag_types(Config)[flag])
    limits = bounds(flag_types(Config, annotated=True)[flag])
    if len(parts) > 3 or (len(parts) == 3 and parts[2] != "log"):
        raise UserError(f"--search {word}: a range is LOW:HIGH or LOW:HIGH:log")
    low, high = (_value(word, flag, part, base) for part in parts[:2])
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (low, high))
    if not numbers or any(isinstance(limit, MultipleOf) for limit, _ in limits):
        raise UserError(f"--search {word}: {flag} takes no range: give its values, as {flag}=A,B")
    if low >= high:
        raise UserError(f"--search {word}: {parts[0]} is not below {parts[1]}: give two numbers, "
                        "the smaller one first")  # fmt: skip
    log, now = len(parts) == 3, _of(base, flag)
    if log and low <= 0:
        raise UserError(f"--search {word}: a logarithm has no {parts[0]}: give a LOW above 0")
    if not isinstance(now, int | float) or isinstance(now, bool) or (log and now <= 0):
        raise UserError(
            f"--search {word}: the first trial has the setting as given, {written(now)}, which is "
            f"in no such range: give values, as {flag}={written(now)},{parts[0]},{parts[1]}, or "
            f"another --{flag}"
        )
    if not low <= now <= high:
        low, high = min(low, now), max(high, now)
        logger.info(f"--search {word}: made to reach {now:g}, the setting as given")
    return Range(flag, low, high, log, int in kinds and float not in kinds)


def _choices(word: str, flag: str, given: Sequence[str], base: Config) -> Choices:
    texts, values = [], []
    for one in given:
        value = _value(word, flag, one, base)
        if value in values:
            raise UserError(f"--search {word}: {one} is there twice: give each value once")
        texts.append(written(value))
        values.append(value)
    if len(values) == 1:
        raise UserError(
            f"--search {word}: one value is no search: write --{flag} {texts[0]}, or several values"
        )
    if (now := _of(base, flag)) not in values:
        texts.insert(0, written(now))
        values.insert(0, now)
        logger.info(f"--search {word}: joined by {texts[0]}, the setting as given")
    return Choices(flag, tuple(texts), tuple(values))


def _value(word: str, flag: str, text: str, base: Config) -> Any:
    """``text`` as the flag takes it. Raises UserError, also where the other settings forbid it."""
    setting = Setting(flag, tuple(text.split()), f"--search {word}:")
    if not setting.values:
        raise UserError(f"--search {word}: a value is missing")
    changed = apply([setting], base, flag_types(Config))
    try:
        validate(changed)
    except UserError as error:
        raise UserError(f"--search {word}: {error}") from None
    return _of(changed, flag)


def _of(config: Config, flag: str) -> Any:
    return attrgetter(flag.replace("-", "_"))(config)

