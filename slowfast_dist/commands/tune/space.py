"""What is searched, between Optuna's numbers and words and the settings of a training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from operator import attrgetter
from typing import Any

import optuna

from slowfast_dist.config.commands.tune import Choices, Range, Searched
from slowfast_dist.config.training import Config

Params = dict[str, Any]
"""Of a trial, by flag: a number of a `Range`, the text of one of `Choices`."""

DIGITS = 3
"""Significant digits of a number that is drawn: it is read and typed by people, and no score tells
more of them apart."""

MOST_COMBINATIONS = 10_000
"""Combinations of a search without ranges that are counted up to see which are left; with more
than the trials there may be, some always are."""


def distributions(space: Sequence[Searched]) -> dict[str, optuna.distributions.BaseDistribution]:
    """As Optuna has them, by flag."""
    return {one.flag: _distribution(one) for one in space}


def _distribution(one: Searched) -> optuna.distributions.BaseDistribution:
    if isinstance(one, Choices):
        return optuna.distributions.CategoricalDistribution(one.texts)
    if one.whole:
        return optuna.distributions.IntDistribution(int(one.low), int(one.high), log=one.log)
    return optuna.distributions.FloatDistribution(one.low, one.high, log=one.log)


def as_given(config: Config, space: Sequence[Searched]) -> Params:
    """The parameters of the settings as given."""
    return {one.flag: _shown(one, _of(config, one.flag)) for one in space}


def _shown(one: Searched, value: Any) -> Any:
    return one.texts[one.values.index(value)] if isinstance(one, Choices) else value


def rounded(space: Sequence[Searched], params: Mapping[str, Any]) -> Params:
    """With numbers of few digits, within their ranges."""
    found = dict(params)
    for one in space:
        if isinstance(one, Range) and not one.whole:
            value = float(f"{params[one.flag]:.{DIGITS}g}")
            found[one.flag] = min(max(value, one.low), one.high)
    return found


def with_params(config: Config, space: Sequence[Searched], params: Mapping[str, Any]) -> Config:
    """``config`` with the settings of a trial; not validated."""
    for one in space:
        value = params[one.flag]
        if isinstance(one, Choices):
            value = one.values[one.texts.index(value)]
        group, _, name = one.flag.replace("-", "_").rpartition(".")
        if group:
            inner = replace(getattr(config, group), **{name: value})
            config = replace(config, **{group: inner})
        else:
            config = replace(config, **{name: value})
    return config


def combinations(space: Sequence[Searched]) -> list[Params] | None:
    """All that there are; None where they are not to be counted."""
    values: list[Sequence[Any]] = []
    total = 1
    for one in space:
        if isinstance(one, Range) and not one.whole:
            return None
        one_has = one.texts if isinstance(one, Choices) else range(int(one.low), int(one.high) + 1)
        values.append(one_has)
        total *= len(one_has)
    if total > MOST_COMBINATIONS:
        return None
    flags = [one.flag for one in space]
    return [dict(zip(flags, each, strict=True)) for each in product(*values)]


def suggested(trial: optuna.Trial, space: Sequence[Searched]) -> Params:
    """The trial's parameters, those that were enqueued for it; written down where a process ended
    before it did."""
    return {one.flag: _suggest(trial, one) for one in space}


def _suggest(trial: optuna.Trial, one: Searched) -> Any:
    if isinstance(one, Choices):
        return trial.suggest_categorical(one.flag, one.texts)
    if one.whole:
        return trial.suggest_int(one.flag, int(one.low), int(one.high), log=one.log)
    return trial.suggest_float(one.flag, one.low, one.high, log=one.log)


def flags_of(params: Mapping[str, Any]) -> Iterator[str]:
    """As words of a command line."""
    for flag, value in params.items():
        yield f"--{flag}"
        yield from text_of(value).split()


def text_of(value: Any) -> str:
    """A parameter as a flag takes it."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def line_of(params: Mapping[str, Any]) -> str:
    """As "optimizer.lr 0.001, augment.crop-scale none"."""
    return ", ".join(f"{flag} {text_of(value)}" for flag, value in params.items())


def _of(config: Config, flag: str) -> Any:
    return attrgetter(flag.replace("-", "_"))(config)
