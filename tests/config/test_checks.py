import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import pytest
from annotated_types import Ge, Gt, Interval, Le, MinLen, MultipleOf, Predicate

from slowfast_dist.cli.commands import COMMANDS, Command, load
from slowfast_dist.config.checks import Remedy, bounds, flag_types, validate
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import Config, config_dict

GIVEN = Config(data=replace(Config().data, root=Path("videos")))


def changed(**groups: dict[str, object]) -> Config:
    """GIVEN with some settings of its groups replaced; top-level settings are under ``run``."""
    top = groups.pop("run", {})
    parts = {name: replace(getattr(GIVEN, name), **values) for name, values in groups.items()}
    return replace(GIVEN, **top, **parts)  # type: ignore[arg-type]


def with_value(settings: object, flag: str, value: object) -> object:
    """``settings`` with the flag of a nested dataclass, as data.num-frames, replaced."""
    name, _, rest = flag.replace("-", "_").partition(".")
    inner = with_value(getattr(settings, name), rest, value) if rest else value
    return replace(settings, **{name: inner})  # type: ignore[type-var]


NUMBERS = [
    (command.name, flag)
    for command in COMMANDS.values()
    if command.settings
    for flag, kind in flag_types(load(command.settings)).items()
    if re.search(r"\b(int|float)\b", str(kind))
]


@pytest.mark.parametrize(("command", "flag"), NUMBERS)
def test_every_number_has_a_largest_value(command: str, flag: str) -> None:
    kind_of_settings = load(COMMANDS[command].settings or "")
    settings = kind_of_settings(data=GIVEN.data) if COMMANDS[command].trains else kind_of_settings()
    kind = str(flag_types(type(settings))[flag])
    for large in (10**39, 1e300)[: 1 + ("float" in kind)]:
        value = (large, large) if kind.startswith("tuple") else large
        with pytest.raises(UserError, match=f"--{flag} "):
            validate(with_value(settings, flag, value))


def test_defaults_with_a_folder_of_videos_are_valid() -> None:
    validate(GIVEN)


def test_a_shape_of_crops_that_are_not_made_is_told_and_not_refused() -> None:
    shaped = changed(augment={"crop_aspect": (0.5, 2.0)})
    validate(shaped)  # as the config.yaml of an older run has it
    assert "--augment.crop-aspect 0.5 2 changes nothing" in (shaped.augment.unused or "")
    made = changed(augment={"crop_aspect": (0.5, 2.0), "crop_scale": (0.3, 1.0)})
    assert made.augment.unused is None is GIVEN.augment.unused


@pytest.mark.parametrize(
    ("config", "flag", "value"),
    [
        (changed(run={"epochs": 0}), "--epochs", "0"),
        (changed(run={"micro_batch_size": -1}), "--micro-batch-size", "-1"),
        (changed(run={"seed": -1}), "--seed", "-1"),
        (changed(optimizer={"lr": float("nan")}), "--optimizer.lr", "nan"),
        (changed(optimizer={"lr": float("inf")}), "--optimizer.lr", "inf"),
        (changed(optimizer={"clip_norm": 0.0}), "--optimizer.clip-norm", "0.0"),
        (changed(optimizer={"momentum": 1.0}), "--optimizer.momentum", "1.0"),
        (changed(checkpoint={"every_steps": 0}), "--checkpoint.every-steps", "0"),
        (changed(data={"num_workers": -2}), "--data.num-workers", "-2"),
        (changed(data={"num_frames": 30}), "--data.num-frames", "30"),
        (changed(data={"val_fraction": 1.0}), "--data.val-fraction", "1.0"),
        (changed(data={"max_bad_fraction": 1.5}), "--data.max-bad-fraction", "1.5"),
        (changed(data={"short_side": (320, 256)}), "--data.short-side", "320 256"),
        (changed(data={"crop_size": 257}), "--data.crop-size", "257"),
        (changed(data={"group_pattern": "seq("}), "--data.group-pattern", "seq("),
        (changed(model={"freeze": 6}), "--model.freeze", "6"),
        (changed(model={"dropout": -0.1}), "--model.dropout", "-0.1"),
        (changed(loss={"label_smoothing": 1.0}), "--loss.label-smoothing", "1.0"),
        (changed(schedule={"warmup_epochs": 31.0}), "--schedule.warmup-epochs", "31.0"),
        (changed(evaluation={"spatial_crops": 2}), "--evaluation.spatial-crops", "2"),
        (changed(checkpoint={"monitor": "loss"}), "--checkpoint.monitor", "loss"),
        (changed(checkpoint={"monitor": "val/f1"}), "--checkpoint.monitor", "val/f1"),
        (changed(checkpoint={"monitor": "val/f1_macro"}), "--checkpoint.mode", "min"),
        (
            changed(data={"sampling": "uniform"}, evaluation={"temporal_views": 3}),
            "--evaluation.temporal-views",
            "3",
        ),
        (
            changed(data={"resize": "square"}, evaluation={"spatial_crops": 3}),
            "--evaluation.spatial-crops",
            "3",
        ),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(
    config: Config, flag: str, value: str
) -> None:
    with pytest.raises(UserError) as error:
        validate(config)
    message = str(error.value)
    assert message.startswith(f"{flag} {value}: ")
    assert "\n" not in message


@dataclass(frozen=True)
class Inner:
    """A group of settings, of which one relates to another."""

    count: Annotated[int | Literal["auto"], Gt(0), Le(100), MultipleOf(4)] = 4
    sizes: Annotated[tuple[int, ...], MinLen(1), Ge(0), Remedy("give sizes")] = (1,)

    def check(self) -> None:
        if self.sizes[0] == 5 and self.count == 8:
            raise UserError("5 with 8")


@dataclass(frozen=True)
class Outer:
    """One of each kind of bound, alone and in a union."""

    share: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    part: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    port: Annotated[int, Interval(ge=0, le=10)] = 0
    rate: Annotated[float, Gt(0)] | None = None
    name: Annotated[str | None, Predicate(str.islower), Remedy("give lower case")] = None
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Outer(share=1.0), "--share 1.0: give a number from 0 up to, not including, 1"),
        (Outer(part=1.0), "--part 1.0: give a number between 0 and 1"),
        (Outer(port=11), "--port 11: give a number from 0 to 10"),
        (Outer(rate=0.0), "--rate 0.0: give a number above 0"),
        (Outer(rate=float("inf")), "--rate inf: give a number above 0"),
        (Outer(rate=float("nan")), "--rate nan: give a number above 0"),
        (Outer(name="A"), "--name A: give lower case"),
        (Outer(inner=Inner(count=0)), "--inner.count 0: give a number above 0"),
        (Outer(inner=Inner(count=104)), "--inner.count 104: give at most 100"),
        (Outer(inner=Inner(count=10**400)), f"--inner.count 1{'0' * 19}...: give at most 100"),
        (Outer(inner=Inner(count=6)), "--inner.count 6: give a multiple of 4"),
        (Outer(inner=Inner(sizes=())), "--inner.sizes : give at least one number"),
        (Outer(inner=Inner(sizes=(1, -2))), "--inner.sizes -2: give sizes"),
        (Outer(inner=Inner(count=8, sizes=(5,))), "5 with 8"),
        (Outer(port=11, inner=Inner(count=8, sizes=(5,))), "--port 11: give a number from 0 to 10"),
    ],
)
def test_a_bound_at_a_field_is_kept_and_says_its_remedy(settings: Outer, message: str) -> None:
    with pytest.raises(UserError) as error:
        validate(settings)
    assert str(error.value) == message


def test_what_is_no_number_keeps_the_bounds_of_numbers() -> None:
    validate(Outer())
    validate(Outer(rate=1e-9, name="a", port=10, inner=Inner("auto", (0, 3))))


WITH_SETTINGS = [command for command in COMMANDS.values() if command.settings]


@pytest.mark.parametrize("command", WITH_SETTINGS, ids=lambda command: command.name)
def test_every_number_of_every_command_has_a_bound(command: Command) -> None:
    """But for the two sizes of the short side, which relate to each other."""
    kind = load(command.settings or "")
    validate(GIVEN if command.trains else kind())
    types, annotated = flag_types(kind), flag_types(kind, annotated=True)
    numbers = {flag for flag in types if {int, float} & {types[flag], *get_args(types[flag])}}
    without = {flag for flag in numbers if not bounds(annotated[flag])}
    assert without <= {"data.short-side", "short-side"}


def test_an_automatic_micro_batch_needs_no_number_to_divide_the_global_batch() -> None:
    validate(changed(run={"global_batch_size": 30, "micro_batch_size": "auto"}))


def test_the_crop_may_be_larger_than_the_short_side_where_frames_are_squeezed() -> None:
    validate(changed(data={"crop_size": 400, "resize": "square"}))


@pytest.mark.parametrize(
    ("total", "micro", "nearest"), [(30, 8, "24 or 32"), (3, 8, "8"), (17, 16, "16 or 32")]
)
def test_a_global_batch_that_cannot_be_cut_up_names_the_nearest_that_can(
    total: int, micro: int, nearest: str
) -> None:
    with pytest.raises(UserError, match=f"--global-batch-size {total} .*: {nearest}$"):
        validate(changed(run={"global_batch_size": total, "micro_batch_size": micro}))


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({"root": None}, "--data.root FOLDER"),
        ({"root": None, "train_dir": Path("a")}, "--data.val-dir is missing beside a"),
        ({"root": None, "val_dir": Path("b")}, "--data.train-dir is missing beside b"),
        ({"train_dir": Path("a"), "val_dir": Path("b")}, "--data.root videos: give either"),
    ],
)
def test_videos_are_given_in_one_of_two_ways(paths: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(changed(data=paths))


def test_training_and_validation_folders_are_enough() -> None:
    validate(changed(data={"root": None, "train_dir": Path("a"), "val_dir": Path("b")}))


def test_the_plain_form_is_json_and_holds_every_setting() -> None:
    plain = config_dict(replace(GIVEN, model=ModelConfig(weights=Path("w.pth"))))
    assert json.loads(json.dumps(plain)) == plain
    assert plain["data"]["root"] == "videos"
    assert plain["data"]["short_side"] == [256, 320]
    assert plain["model"]["weights"] == "w.pth"
    assert plain["optimizer"]["clip_norm"] is None
