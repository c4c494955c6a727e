import json
from dataclasses import replace
from pathlib import Path

import pytest

from slowfast_dist.config.checks import validate
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config, ModelConfig, config_dict

GIVEN = Config(data=replace(Config().data, root=Path("videos")))


def changed(**groups: dict[str, object]) -> Config:
    """GIVEN with some settings of its groups replaced; top-level settings are under ``run``."""
    top = groups.pop("run", {})
    parts = {name: replace(getattr(GIVEN, name), **values) for name, values in groups.items()}
    return replace(GIVEN, **top, **parts)  # type: ignore[arg-type]


def test_defaults_with_a_folder_of_videos_are_valid() -> None:
    validate(GIVEN)


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
