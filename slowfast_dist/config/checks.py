"""The one checker of settings: bounds declared at their fields, then what relates several fields.

A bound is an object of annotated_types in a field's ``Annotated``, as ``Annotated[int, Gt(0)]``.
Its remedy, what a message tells the user to give, follows from it, or is the `Remedy` behind it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from math import isfinite
from operator import attrgetter
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from annotated_types import BaseMetadata, Ge, Gt, Interval, Le, Lt, MinLen, MultipleOf, Predicate

from slowfast_dist.config.errors import UserError


@dataclass(frozen=True)
class Remedy:
    """Behind a bound: what its message says in place of the words that follow from the bound."""

    text: str


def validate(settings: Any) -> None:
    """Raise UserError, naming flag, value and remedy, for settings that cannot be.

    First every bound in the tree of dataclasses counts, then each ``check`` method in it, those of
    nested dataclasses before their parent's.
    """
    check_bounds(settings)
    _check_relations(settings)


def check_bounds(settings: Any, prefix: str = "") -> None:
    """Raise UserError for a value beyond the bounds that its field declares; ``prefix``: of the
    flags, as "data.", where the settings are part of a tree."""
    for flag, hint in flag_types(type(settings), annotated=True).items():
        _check_bounds(prefix + flag, hint, attrgetter(flag.replace("-", "_"))(settings))


def require(condition: bool, flag: str, value: object, remedy: str) -> None:
    """Raise UserError, naming flag, value and remedy, unless ``condition``."""
    if not condition:
        raise UserError(f"--{flag} {value}: {remedy}")


def refuse_unused(settings: Any, unused: Mapping[str, str]) -> None:
    """Raise UserError for a setting that is not its default among those that count for nothing,
    ``unused``: their names, and what is said of each."""
    usual = type(settings)()
    for name, reason in unused.items():
        if (value := getattr(settings, name)) != getattr(usual, name):
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag if value is True else f'{flag} {value}'}: {reason}")


def flag_types(kind: type, prefix: str = "", annotated: bool = False) -> dict[str, Any]:
    """Every flag of a tree of dataclasses, without dashes in front, with its type. ``annotated``:
    with bounds and help, as the fields declare them, else the plain types."""
    types: dict[str, Any] = {}
    hints = get_type_hints(kind, include_extras=annotated)
    for field in fields(kind):
        name = prefix + field.name.replace("_", "-")
        if is_dataclass(hints[field.name]):
            types |= flag_types(hints[field.name], f"{name}.", annotated)
        else:
            types[name] = hints[field.name]
    return types


def bounds(hint: Any) -> list[tuple[Any, str]]:
    """The bounds of a field's type, in the order in which they are checked, with their remedies."""
    found: list[tuple[Any, str]] = []
    for item in metadata(hint):
        if isinstance(item, Remedy):
            found[-1] = (found[-1][0], item.text)
        elif isinstance(item, (BaseMetadata, Interval)):
            found.append((item, f"give {_rule(item)[0]}"))
    return found


def metadata(hint: Any) -> Iterator[Any]:
    """All that ``Annotated`` adds to a type, or to one in it."""
    if get_origin(hint) is Annotated:
        yield from metadata(hint.__origin__)
        yield from hint.__metadata__
    else:
        for part in get_args(hint):
            yield from metadata(part)


def _rule(bound: Any) -> tuple[str, Callable[[Any], bool]]:
    """What a value has to be, in words, and whether one is."""
    match bound:
        case Gt(gt=low):
            return f"a number above {low}", lambda value: value > low
        case Ge(ge=low):
            return f"{low} or a number above it", lambda value: value >= low
        case Lt(lt=high):
            return f"a number below {high}", lambda value: value < high
        case Le(le=high):
            return f"at most {high}", lambda value: value <= high
        case MultipleOf(multiple_of=step):
            return f"a multiple of {step}", lambda value: value % step == 0
        case MinLen(min_length=fewest):
            return "at least one number", lambda values: len(values) >= fewest
        case Predicate(func=holds):
            return "another", holds
        case Interval(gt=None, le=None):
            words = f"a number from {bound.ge} up to, not including, {bound.lt}"
        case Interval(gt=None):
            words = f"a number from {bound.ge} to {bound.le}"
        case _:
            words = f"a number between {bound.gt} and {bound.lt}"
    return words, lambda value: all(_rule(part)[1](value) for part in bound)


def _check_bounds(flag: str, hint: Any, value: Any) -> None:
    values = value if isinstance(value, tuple) else (value,)
    for bound, remedy in bounds(hint):
        if isinstance(bound, MinLen):
            require(_rule(bound)[1](value), flag, "", remedy)
            continue
        for one in values:
            shown = str(one)
            if isinstance(bound, Le) and len(shown) > 20:  # a slip, whose digits tell nothing
                shown = f"{shown[:20]}..."
            require(_holds(bound, one), flag, shown, remedy)


def _holds(bound: Any, value: Any) -> bool:
    """Whether ``value`` keeps the bound; none, and words as auto, keep those of numbers."""
    if value is None or (isinstance(value, str) and not isinstance(bound, Predicate)):
        return True
    finite = not isinstance(value, float) or isfinite(value)
    return finite and _rule(bound)[1](value)


def _check_relations(settings: Any) -> None:
    for field in fields(settings):
        if is_dataclass(getattr(settings, field.name)):
            _check_relations(getattr(settings, field.name))
    if hasattr(settings, "check"):
        settings.check()
