"""Configurations become flags that a training takes; each row of docs/migrating.md."""

import re
import shlex
from pathlib import Path

import pytest

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.commands.adopt import from_mmaction, from_pyslowfast
from slowfast_dist.commands.adopt.command import run_adopt
from slowfast_dist.commands.adopt.flags import MOST_LEAVES, Flags
from slowfast_dist.config.commands.adopt import Adopt
from slowfast_dist.config.errors import UserError

ROOT = Path(__file__).parents[3]

PYSLOWFAST = """
TRAIN: {BATCH_SIZE: 32, EVAL_PERIOD: 5, CHECKPOINT_PERIOD: 2, AUTO_RESUME: true,
        CHECKPOINT_FILE_PATH: weights.pyth, MIXED_PRECISION: true}
DATA: {PATH_TO_DATA_DIR: lists, NUM_FRAMES: 64, SAMPLING_RATE: 1, TRAIN_JITTER_SCALES: [128, 160],
       TRAIN_CROP_SIZE: 112, TEST_CROP_SIZE: 128, RANDOM_FLIP: false, TARGET_FPS: 25}
SLOWFAST: {ALPHA: 8, BETA_INV: 8, FUSION_KERNEL_SZ: 5}
RESNET: {DEPTH: 50}
BN: {NORM_TYPE: sync_batchnorm, USE_PRECISE_STATS: true}
SOLVER: {BASE_LR: 0.2, LR_POLICY: steps_with_relative_lrs, MAX_EPOCH: 100, MOMENTUM: 0.8,
         WEIGHT_DECAY: 1e-4, WARMUP_EPOCHS: 3.0, OPTIMIZING_METHOD: adamw, CLIP_GRAD_L2NORM: 2.0}
MODEL: {MODEL_NAME: SlowFast, DROPOUT_RATE: 0.3}
TEST: {NUM_ENSEMBLE_VIEWS: 5, NUM_SPATIAL_CROPS: 1}
NUM_GPUS: 4
NUM_SHARDS: 2
RNG_SEED: 7
TENSORBOARD: {ENABLE: true}
X: {Y: 1}
OUTPUT_DIR: out
"""

MMACTION = """
_base_ = ['base.py']
file_client_args = dict(io_backend='disk')
model = dict(backbone=dict(slow_pathway=dict(depth=50, lateral_norm=True)),
             cls_head=dict(dropout_ratio=0.4))
train_pipeline = [
    dict(type='DecordInit', **file_client_args),
    dict(type='SampleFrames', clip_len=16, frame_interval=4, num_clips=1),
    dict(type='Resize', scale=(-1, 128)), dict(type='RandomResizedCrop'),
    dict(type='Resize', scale=(112, 112), keep_ratio=False), dict(type='Flip', flip_ratio=0.5),
    dict(type='ColorJitter')]
train_dataloader = dict(batch_size=8, num_workers=3,
                        dataset=dict(ann_file='train.txt', pipeline=train_pipeline))
test_pipeline = [dict(type='SampleFrames', clip_len=16, num_clips=7), dict(type='ThreeCrop')]
train_cfg = dict(max_epochs=2 * 16, val_interval=4)
optim_wrapper = dict(type='AmpOptimWrapper',
                     optimizer=dict(type='SGD', lr=0.1 * 2, momentum=0.85, weight_decay=1e-3),
                     clip_grad=dict(max_norm=40, norm_type=2))
param_scheduler = [dict(type='LinearLR', by_epoch=True, begin=0, end=3),
                   dict(type='CosineAnnealingLR', T_max=32)]
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=5))
auto_scale_lr = dict(enable=True, base_batch_size=64)
load_from = 'weights.pth'
work_dir = 'work'
mine = print('never')
"""

BASE = "model = dict(backbone=dict(type='ResNet3dSlowFast', speed_ratio=4, resample_rate=4))\n"


def flags_of(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    run_adopt(None, Adopt(config=path))
    lines = capsys.readouterr().out.splitlines()
    return [x for x in lines if x.startswith("--")], [x for x in lines if x.startswith("# ")]


def taken(flags: list[str], tmp_path: Path) -> None:
    """A training takes all of them, as they are printed."""
    words = [word for flag in flags for word in shlex.split(flag)]
    parsed = parse_training([*words, "--data.root", str(tmp_path)])
    assert parsed is not None


def test_pyslowfast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(PYSLOWFAST)
    flags, notes = flags_of(tmp_path / "a.yaml", capsys)
    taken(flags, tmp_path)
    assert set(flags) == {
        "--data.num-frames 64", "--data.sampling-rate 1", "--data.short-side 128 160",
        "--data.crop-size 112", "--data.flip false", "--data.frame-rate 25",
        "--data.num-workers 8", "--model.name slowfast_r50_4x16", "--model.dropout 0.3",
        "--model.norm sync", "--model.weights weights.pyth", "--epochs 100",
        "--schedule.name step", "--schedule.warmup-epochs 3", "--optimizer.name adamw",
        "--optimizer.lr 0.2", "--optimizer.momentum 0.8", "--optimizer.weight-decay 0.0001",
        "--optimizer.clip-norm 2", "--optimizer.backbone-lr-scale 1", "--loss.label-smoothing 0",
        "--global-batch-size 64", "--micro-batch-size 8", "--mixed-precision fp16",
        "--checkpoint.every-epochs 2", "--evaluation.every 5", "--seed 7", "--output-dir out",
    }  # fmt: skip
    text = "\n".join(notes)
    for said in (
        "DATA.PATH_TO_DATA_DIR lists: give --data.train-dir", "BN.USE_PRECISE_STATS: not there",
        "TRAIN.AUTO_RESUME: --resume auto", "evaluate RUN --temporal-views 5 --spatial-crops 1",
        "SOLVER.STEPS: here", "without a counterpart: X.Y",
    ):  # fmt: skip
        assert said in text


def test_mmaction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text(MMACTION)
    (tmp_path / "base.py").write_text(BASE)
    flags, notes = flags_of(tmp_path / "a.py", capsys)
    taken(flags, tmp_path)
    assert set(flags) == {
        "--data.num-frames 16", "--data.sampling-rate 4", "--data.frame-rate video",
        "--data.short-videos loop", "--data.short-side 128 128", "--data.crop-size 112",
        "--data.flip true", "--data.num-workers 3", "--model.name slowfast_r50",
        "--model.dropout 0.4", "--model.norm local", "--model.weights weights.pth", "--epochs 32",
        "--schedule.name cosine", "--schedule.warmup-epochs 3", "--optimizer.name sgd",
        "--optimizer.lr 0.2", "--optimizer.momentum 0.85", "--optimizer.weight-decay 0.001",
        "--optimizer.clip-norm 40", "--optimizer.backbone-lr-scale 1", "--loss.label-smoothing 0",
        "--global-batch-size 64", "--micro-batch-size 8", "--mixed-precision fp16",
        "--checkpoint.every-epochs 2", "--checkpoint.keep 5", "--evaluation.every 4",
        "--output-dir work",
    }  # fmt: skip
    text = "\n".join(notes)
    for said in (
        "RandomResizedCrop: here", "steps that are not converted: ColorJitter",
        "SGD: here with Nesterov's momentum", "auto_scale_lr: here the rate is never scaled",
        "train list train.txt", "evaluate RUN --temporal-views 7 --spatial-crops 3",
        "without a counterpart: mine",
    ):  # fmt: skip
        assert said in text


def test_a_short_yaml_means_the_defaults_of_pyslowfast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("TRAIN: {DATASET: ssv2}\nSLOWFAST: {ALPHA: 4}\n")
    flags, _ = flags_of(tmp_path / "a.yaml", capsys)
    taken(flags, tmp_path)
    expected = {"--data.num-frames 8", "--data.sampling-rate 8", "--data.frame-rate 30",
                "--data.sampling uniform", "--optimizer.name sgd", "--epochs 300",
                "--optimizer.clip-norm none", "--model.norm local", "--mixed-precision no",
                "--model.pretrained false"}  # fmt: skip
    assert expected <= set(flags)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.yaml", "a: !!python/object/apply:os.mkdir [x]", "is no plain YAML, line 1"),
        ("a.yaml", "[1, 2]", "holds no settings by name"),
        ("a.yaml", "a: 1", "is no configuration of"),
        ("a.yaml", "MODEL: {MODEL_NAME: MViT}\nDATA: {}", "is of a MViT"),
        ("a.yaml", "a: " + "[" * 5000, "is no plain YAML"),
        ("a.py", "a = (", "is no Python, line 1"),
        ("a.py", "a = " + "[" * 1000, "is no Python"),
        ("a.py", "_base_ = 'gone.py'", "builds on gone.py, which is not beside it"),
        ("a.py", "_base_ = 'a.py'", "builds on a.py"),
        ("a.py", "with read_base():\n    from x import *", "complete configuration"),
        ("a.py", "model = dict(backbone=dict(type='ResNet3d'))", "is of a ResNet3d"),
        ("a.json", "{}", "is neither the .yaml of PySlowFast nor the .py of MMAction2"),
    ],
)
def test_what_is_no_configuration_is_one_line(
    name: str, text: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=re.escape(why)):
        run_adopt(None, Adopt(config=tmp_path / name))


def test_nothing_of_a_python_file_is_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "executed"
    (tmp_path / "a.py").write_text(
        f"import pathlib\npathlib.Path({str(trace)!r}).mkdir()\n"
        f"model = dict(backbone=dict(type='ResNet3dSlowFast', speed_ratio=4), "
        f"x=pathlib.Path({str(trace)!r}).mkdir(), y=[i for i in range(10**9)], z=9**9**9**9)\n"
    )
    flags, _ = flags_of(tmp_path / "a.py", capsys)
    assert "--model.name slowfast_r50" in flags
    assert not trace.exists()


def test_every_converted_setting_is_in_the_tables_of_the_docs() -> None:
    text = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    for key in (*from_pyslowfast.SAME, *from_mmaction.SAME):
        assert re.search(rf"\b{key.rpartition('.')[2]}\b", text), key




@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "SLOWFAST: {ALPHA: 4}\nSOLVER: {LR_POLICY: [cosine]}\nBN: {NORM_TYPE: [a]}\n"),
        ("a.yaml", "SLOWFAST: {ALPHA: 4}\nSOLVER: {BASE_LR: .nan}\nRESNET: {DEPTH: .nan}\n"),
        (
            "a.py",
            "model = dict(backbone=dict(type='ResNet3dSlowFast'))\n"
            "param_scheduler = [dict(type=['a'], end=3)]\n"
            "train_pipeline = [dict(type='Resize', scale=('a', -1))]\n",
        ),
    ],
)
def test_values_of_other_types_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    run_adopt(None, Adopt(config=tmp_path / name))
    printed = capsys.readouterr().out
    assert "--loss.label-smoothing 0\n" in printed and "nan" not in printed


def test_settings_in_each_other_are_looked_through_within_a_bound() -> None:
    group: dict[str, object] = {str(number): 1 for number in range(20)}
    for _ in range(3):  # 20 to the power of 4 leaves
        group = dict.fromkeys(map(str, range(20)), group)
    assert 0 < len(Flags(group).left_over()) <= MOST_LEAVES
