import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.cli.presets import preset_names, preset_path, preset_summary, read_config_file
from slowfast_dist.config.checks import flag_types
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import (
    CheckpointConfig,
    Config,
    LossConfig,
    OptimizerConfig,
    ScheduleConfig,
    WandbConfig,
    config_dict,
)
from tests.campaigns.recipes import RECIPES, TODAY

REPOSITORY = Path(__file__).resolve().parents[2]
FLAGS = flag_types(Config)
ROOT = ["--data.root", "videos"]
Written = Callable[..., str]


def parsed(*arguments: str) -> Config:
    config = parse_training(arguments)
    assert config is not None
    return config


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(text: str, name: str = "my.yaml") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


# Presets


def test_the_shipped_presets() -> None:
    assert preset_names() == [
        "demo", "few-clips", "finetune", "original", "pretrain", "slowfast_r101",
        "slowfast_r50_4x16",
    ]  # fmt: skip


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_can_be_run_and_says_what_it_is(name: str) -> None:
    config = parsed(name, *ROOT)
    assert str(config.output_dir) == f"runs/{name}-{{timestamp}}"
    header = preset_path(name).read_text(encoding="utf-8").partition("\n\n")[0]
    for part in ("# Command   python train.py", "# Hardware  ", "# Time  ", "# Result  "):
        assert part in header
    assert preset_summary(name) and "#" not in preset_summary(name)


def test_few_clips_is_the_recipe_that_was_measured() -> None:
    measured = [*TODAY, *RECIPES["few-clips"]]
    given = parsed("few-clips", *ROOT)
    recipe = parsed("finetune", *ROOT, *measured)
    data = replace(recipe.data, group_pattern=None)  # of names as UT-Interaction has them
    assert given == replace(recipe, output_dir=given.output_dir, data=data)


def test_pretrain_cuts_clips_as_few_clips() -> None:
    few, pretrain = parsed("few-clips", *ROOT), parsed("pretrain", *ROOT)
    sizes = {name: getattr(pretrain.data, name) for name in ("short_side", "crop_size")}
    data = replace(few.data, ways=True, val_fraction=pretrain.data.val_fraction, **sizes)
    assert pretrain.data == data and pretrain.model == few.model
    assert max(sizes["short_side"]) < max(few.data.short_side)


def test_demo_needs_no_other_argument() -> None:
    config = parsed("demo")
    assert config.data.synthetic and config.data.root is not None
    assert (config.model.name, config.model.published) == ("slowfast_tiny", None)
    assert not config.data.flip  # left and right are two of its classes


def test_finetune_is_what_is_run_without_a_preset() -> None:
    assert parsed(*ROOT) == parsed("finetune", *ROOT)


def test_finetune_samples_as_the_weights_were_trained() -> None:
    config = parsed("finetune", *ROOT)
    assert (config.model.name, config.model.pretrained) == ("slowfast_r50", "kinetics400")
    assert (config.data.num_frames, config.data.sampling_rate) == (32, 2)
    assert (config.data.short_side, config.data.crop_size) == ((256, 320), 224)
    assert config.data.flip and config.mixed_precision == "auto"
    assert config.optimizer.backbone_lr_scale < 1
    assert config.schedule.name == "cosine" and config.schedule.warmup_epochs > 0


@pytest.mark.parametrize("name", ["slowfast_r101", "slowfast_r50_4x16"])
def test_a_preset_of_a_model_differs_from_finetune_in_the_model_alone(name: Any) -> None:
    finetune, other = parsed("finetune", *ROOT), parsed(name, *ROOT)
    model = replace(finetune.model, name=name)
    assert other == replace(finetune, output_dir=other.output_dir, model=model)


@pytest.mark.parametrize(
    ("words", "pretrained"),
    [
        (["--model.pretrained", "false"], "none"), (["--model.pretrained"], "kinetics400"),
        (["--model.pretrained=true"], "kinetics400"), (["--model.pretrained", "none"], "none"),
        (["--model.pretrained", "ssv2"], "ssv2"),
        (["--model.pretrained", "--epochs", "3"], "kinetics400"),
    ],
)  # fmt: skip
def test_pretrained_is_a_switch_and_a_word(words: list[str], pretrained: str) -> None:
    assert parsed(*ROOT, *words).model.pretrained == pretrained


def test_original_is_exactly_the_script() -> None:
    assert parsed("original", *ROOT) == Config(
        output_dir=Path("runs/original-{timestamp}"),
        global_batch_size=4,
        micro_batch_size=4,
        mixed_precision="no",
        data=DataConfig(
            root=Path("videos"),
            num_frames=32,
            sampling="uniform",
            resize="square",
            crop_size=224,
            flip=False,
        ),
        model=ModelConfig(name="slowfast_r50", pretrained=True, norm="local"),
        optimizer=OptimizerConfig(
            name="adam", lr=1e-4, weight_decay=0.0, backbone_lr_scale=1.0, clip_norm=None
        ),
        schedule=ScheduleConfig(name="constant", warmup_epochs=0.0),
        loss=LossConfig(label_smoothing=0.0, class_weights="none"),
        checkpoint=CheckpointConfig(monitor="val/loss", mode="min"),
    )


def test_an_installed_package_finds_the_presets_inside_itself(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "slowfast_dist", tmp_path / "slowfast_dist", ignore=ignore)
    shutil.copytree(REPOSITORY / "configs", tmp_path / "slowfast_dist" / "configs")
    (tmp_path / "configs").mkdir()  # another package's, which must not count
    code = "from slowfast_dist.cli.presets import *; print(preset_path('demo'), preset_names())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    inside = tmp_path.resolve() / "slowfast_dist" / "configs" / "demo.yaml"
    assert done.stdout.strip() == f"{inside} {preset_names()}"


# What a file may say


def test_words_and_numbers_mean_what_they_mean_as_flags(written: Written) -> None:
    path = written(
        "mixed_precision: no\noptimizer:\n  lr: 1e-4\n  clip-norm: null\n"
        "data:\n  flip: False\n  crop_size: 64\n"
        "  short_side: [64, 96]\n  group_pattern: 'seq\\d+'\n"
        "model:\n  # nothing here any more\nwandb:\n  tags: [no, 1e-4, two words]\n  name: on\n"
    )
    config = parsed("--config", path, *ROOT)
    assert config.mixed_precision == "no"
    assert config.optimizer.lr == 1e-4 and config.optimizer.clip_norm is None
    assert config.data.flip is False and config.data.short_side == (64, 96)
    assert config.data.group_pattern == r"seq\d+"
    assert config.wandb.tags == ("no", "1e-4", "two words") and config.wandb.name == "on"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "data:\nwandb:\n  tags:\n"])
def test_a_file_may_say_nothing(written: Written, text: str) -> None:
    assert parsed("--config", written(text), *ROOT) == parsed(*ROOT)


@pytest.mark.parametrize(
    "config",
    [
        Config(data=DataConfig(root=Path("videos"))),
        Config(
            output_dir=Path("runs/ein Lauf: #1"),
            epochs=3,
            mixed_precision="no",
            resume="auto",
            data=DataConfig(
                train_dir=Path("-train"),
                val_dir=Path("/väl/dir"),
                group_pattern=r"(seq\d+)['\"]: [a-z]*",
                crop_size=64,
                short_side=(64, 96),
                flip=False,
                num_workers=0,
            ),
            model=ModelConfig(weights=Path("no"), freeze=2, compile=True, pretrained=False),
            optimizer=OptimizerConfig(name="sgd", lr=1e-5, clip_norm=0.1 + 0.2),
            checkpoint=CheckpointConfig(every_steps=7, monitor="val/f1_macro", mode="max"),
            wandb=WandbConfig(name="-x", tags=("no", "1e-4", "0x10", "a b", "é\n", "12:30:00")),
        ),
    ],
)
@pytest.mark.parametrize("preset", ["finetune", "demo", "original"])
def test_a_saved_config_reloads_to_an_equal_one(
    written: Written, preset: str, config: Config
) -> None:
    assert parsed(preset, "--config", written(yaml.safe_dump(config_dict(config)))) == config


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("epochs: abc\n", 1, "epochs: abc: give a whole number"),
        ("epochs: 1.5\n", 1, "epochs: 1.5: give a whole number"),
        ("epochs: [3, 4]\n", 1, "epochs: 3 4: give a whole number"),
        ("data:\n  flip: [true, true]\n", 2, "data.flip: true true: give true or false"),
        ("epochs: {a: 3}\n", 1, "epochs: not a group: give a value"),
        ("seed: 1\ndata:\n  flip: yes\n", 3, "data.flip: yes: give true or false"),
        ("mixed_precision: yes\n", 1, "mixed_precision: yes: give auto, no, bf16 or fp16"),
        ("data:\n  short_side: 3\n", 2, "data.short_side: 3: give two whole numbers"),
        ("data:\n  num_frame: 8\n", 2, "unknown setting: did you mean data.num_frames?"),
        ("\nlr: 3\n", 2, "lr: unknown setting: did you mean optimizer.lr?"),
        ("optimzer:\n  lr: 3\n", 1, "optimzer: unknown setting: did you mean optimizer?"),
        ("qqqq: 3\n", 1, "qqqq: unknown setting: --help lists them all"),
        ("data: [1, 2]\n", 1, "data is a group: write one 'name: value' a line"),
        ("hello\n", 1, "no settings: write one 'name: value' a line"),
        ("seed: 1\nepochs: 1\nseed: 1\n", 3, "seed: given twice, first on line 1"),
        ("data:\n  crop_size: 8\n  crop-size: 9\n", 3, "given twice, first on line 2"),
        ("data:\n  flip: true\nseed: 1\ndata:\n  crop_size: 8\n", 4, "data: given twice"),
        ("epochs: 3: 4\n", 1, "not valid YAML"),
        ("epochs: 3\n\tseed: 4\n", 2, "not valid YAML"),
        ("epochs: 3\n---\nepochs: 4\n", 2, "not valid YAML"),
    ],
)
def test_a_mistake_in_a_file_names_file_and_line(
    written: Written, text: str, line: int, message: str
) -> None:
    path = written(text)
    with pytest.raises(UserError) as error:
        parse_training(["--config", path, *ROOT])
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mistake_in_a_file_counts_although_a_later_file_and_a_flag_go_over_it(
    written: Written,
) -> None:
    first, second = written("epochs: abc\n"), written("epochs: 3\n", "second.yaml")
    with pytest.raises(UserError, match="epochs: abc: give a whole number"):
        parse_training(["--config", first, second, "--epochs", "3", *ROOT])


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name, reason in (
        ("missing.yaml", "no such file"),
        (".", "directory"),
        ("binary.yaml", "not UTF-8 text"),
    ):
        with pytest.raises(UserError, match=f"--config .*{name}: .*{reason}"):
            read_config_file(tmp_path / name, FLAGS)


def test_a_file_holds_no_code(written: Written, tmp_path: Path) -> None:
    path = written(f"wandb:\n  name: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    with pytest.raises(UserError):
        parse_training(["--config", path, "--epochs", "-1", *ROOT])
    assert not (tmp_path / "made").exists()
