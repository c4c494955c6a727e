"""The flags that are found in settings of another framework, and what has none."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from slowfast_dist.model.foreign.names import descend

MOST_LEAVES = 5_000
"""Settings that are looked through for those without a counterpart: a complete configuration has
about 300, and one whose groups contain another one many times over would have no end."""


class Flags:
    """The flags as they are found, and which settings of the source they came from."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.used: set[str] = set()
        self.defaults: Mapping[str, Any] = {}

    def get(self, key: str) -> Any:
        """The setting at DATA.NUM_FRAMES and the like; None where there is none. It counts as
        used, with all below it."""
        self.used.add(key)
        value = descend(self.config, *key.split("."))
        return descend(self.defaults, *key.split(".")) if value is None else value

    def copy(self, key: str, flag: str) -> None:
        """A flag that has the same value, where that is a number, true or false."""
        value = self.get(key)
        if isinstance(value, bool):
            self.add(flag, str(value).lower())
        elif (number := as_number(value)) is not None:
            self.add(flag, number)

    def add(self, flag: str, *values: object) -> None:
        self.lines.append(" ".join((f"--{flag}", *map(str, values))))

    def preset_off(self) -> None:
        """What the preset finetune has and the frameworks have not."""
        self.add("optimizer.backbone-lr-scale", 1)
        self.add("loss.label-smoothing", 0)

    def note(self, text: str) -> None:
        self.notes.append(f"# {text}")

    def left_over(self) -> list[str]:
        """Settings that nothing was made of."""
        return [
            name for name in islice(_leaves(self.config), MOST_LEAVES)
            if not any(name == key or name.startswith(f"{key}.") for key in self.used)
        ]  # fmt: skip


def as_number(value: Any) -> int | float | None:
    """A number, also one as YAML 1.1 reads 1e-4: as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not abs(number) <= 1e12:  # nor NaN
        return None
    return int(number) if number == int(number) else number


def _leaves(config: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, dict) and value and depth < 3:
            yield from _leaves(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}"
