"""PySlowFast's YAML -> flags: each row of docs/migrating.md, From PySlowFast."""

from typing import Any

from slowfast_dist.commands.adopt.flags import Flags, as_number
from slowfast_dist.model.foreign.source_facts import PYSLOWFAST, SourceFacts

SAME = {
    "DATA.NUM_FRAMES": "data.num-frames",
    "DATA.SAMPLING_RATE": "data.sampling-rate",
    "DATA.TRAIN_CROP_SIZE": "data.crop-size",
    "DATA.RANDOM_FLIP": "data.flip",
    "DATA.TARGET_FPS": "data.frame-rate",
    "DATA_LOADER.NUM_WORKERS": "data.num-workers",
    "MODEL.DROPOUT_RATE": "model.dropout",
    "SOLVER.MAX_EPOCH": "epochs",
    "SOLVER.WARMUP_EPOCHS": "schedule.warmup-epochs",
    "SOLVER.MOMENTUM": "optimizer.momentum",
    "SOLVER.WEIGHT_DECAY": "optimizer.weight-decay",
    "SOLVER.CLIP_GRAD_L2NORM": "optimizer.clip-norm",
    "TRAIN.CHECKPOINT_PERIOD": "checkpoint.every-epochs",
    "TRAIN.EVAL_PERIOD": "evaluation.every",
    "RNG_SEED": "seed",
}
"""Settings whose values are those of a flag."""

ELSEWHERE = (
    "NUM_GPUS", "NUM_SHARDS", "SHARD_ID", "DIST_BACKEND", "INIT_METHOD", "TENSORBOARD",
    "LOG_PERIOD",
    "LOG_MODEL_INFO", "DATA_LOADER.PIN_MEMORY", "MODEL.NUM_CLASSES", "MODEL.ARCH",
    "MODEL.MODEL_NAME", "DATA.INPUT_CHANNEL_NUM", "TRAIN.ENABLE", "TEST.ENABLE", "TRAIN.DATASET",
    "TEST.DATASET", "TEST.BATCH_SIZE", "TEST.CHECKPOINT_FILE_PATH", "TEST.CHECKPOINT_TYPE",
    "TRAIN.CHECKPOINT_TYPE", "BN.NUM_BATCHES_PRECISE", "NONLOCAL", "DATA.MEAN", "DATA.STD",
    "DATA.TEST_CROP_SIZE", "DATA.REVERSE_INPUT_CHANNEL",
)  # fmt: skip
"""Settings that the launcher, the weights or the classes' folders tell here."""

NORMS = {"batchnorm": "local", "sync_batchnorm": "sync", "sync_batchnorm_apex": "sync"}
POLICIES = {"cosine": "cosine", "steps_with_relative_lrs": "step"}


DEFAULTS: dict[str, Any] = {
    "DATA": PYSLOWFAST["DATA"], "DATA_LOADER": {"NUM_WORKERS": 8}, "BN": {"NORM_TYPE": "batchnorm"},
    "MODEL": {"DROPOUT_RATE": 0.5}, "RNG_SEED": 1, "NUM_GPUS": 1, "NUM_SHARDS": 1,
    "SOLVER": {
        "BASE_LR": 0.1, "LR_POLICY": "cosine", "MAX_EPOCH": 300, "MOMENTUM": 0.9,
        "WEIGHT_DECAY": 1e-4, "WARMUP_EPOCHS": 0.0, "OPTIMIZING_METHOD": "sgd",
    },
    "TRAIN": {"BATCH_SIZE": 64, "EVAL_PERIOD": 10, "CHECKPOINT_PERIOD": 10},
    "TEST": {"NUM_ENSEMBLE_VIEWS": 10, "NUM_SPATIAL_CROPS": 3},
}  # fmt: skip
"""Of slowfast/config/defaults.py (March 2026): what holds where a YAML does not say otherwise."""


def convert(flags: Flags, facts: SourceFacts) -> None:
    """Fill ``flags``."""
    flags.defaults = DEFAULTS
    for key in ELSEWHERE:
        flags.get(key)
    for key, flag in SAME.items():
        flags.copy(key, flag)
    jitter = flags.get("DATA.TRAIN_JITTER_SCALES")
    if isinstance(jitter, list) and len(jitter) == 2:
        flags.add("data.short-side", *map(as_number, jitter))
    if facts.sampling == "uniform":
        flags.add("data.sampling", "uniform")
    _network(flags, facts)
    _batches(flags)
    _solver(flags)
    _files(flags)
    flags.preset_off()


def _network(flags: Flags, facts: SourceFacts) -> None:
    depth = as_number(flags.get("RESNET.DEPTH")) or 50
    flags.get("SLOWFAST")
    blocks = flags.get("RESNET.NUM_BLOCK_TEMP_KERNEL")
    flags.get("RESNET")
    few = isinstance(blocks, list) and blocks[2:3] == [[6, 6]]
    names: dict[Any, str] = {
        (50, 4): "slowfast_r50", (50, 8): "slowfast_r50_4x16",
        (101, 4): "slowfast_16x8_r101_50_50" if few else "slowfast_r101",
    }  # fmt: skip
    name = names.get((depth, facts.alpha))
    if name is None:
        flags.note(f"RESNET.DEPTH {depth} with SLOWFAST.ALPHA {facts.alpha}: no such --model.name")
    else:
        flags.add("model.name", name)
    norm = flags.get("BN.NORM_TYPE")
    if flags.get("MODEL.FROZEN_BN") is True:
        flags.add("model.norm", "frozen")
    elif isinstance(norm, str) and norm in NORMS:
        flags.add("model.norm", NORMS[norm])
    elif isinstance(norm, str):
        flags.note(f"BN.NORM_TYPE {norm}: not there")
    if flags.get("BN.USE_PRECISE_STATS") is True:
        flags.note("BN.USE_PRECISE_STATS: not there; validation takes the running statistics")
    if facts.mean is not None and (set(facts.mean), set(facts.std or ())) != ({0.45}, {0.225}):
        flags.note("DATA.MEAN, DATA.STD: come with weights that were trained so (--model.weights)")
    if flags.get("DETECTION.ENABLE") is True:
        flags.note("DETECTION: not there")


def _batches(flags: Flags) -> None:
    batch = as_number(flags.get("TRAIN.BATCH_SIZE"))
    if isinstance(batch, int):
        shards, gpus = (as_number(flags.get(key)) or 1 for key in ("NUM_SHARDS", "NUM_GPUS"))
        flags.add("global-batch-size", int(batch * shards))
        flags.add("micro-batch-size", max(1, int(batch // max(1, gpus))))
    if flags.get("TRAIN.MIXED_PRECISION") is True:
        flags.add("mixed-precision", "fp16")
    else:
        flags.add("mixed-precision", "no")
    if flags.get("SOLVER.CLIP_GRAD_L2NORM") is None:
        flags.add("optimizer.clip-norm", "none")
    for key in ("MIXUP", "AUG", "MULTIGRID.SHORT_CYCLE", "MULTIGRID.LONG_CYCLE"):
        value = flags.get(key)
        if value is True or (isinstance(value, dict) and value.get("ENABLE") is True):
            flags.note(f"{key}: not converted")


def _solver(flags: Flags) -> None:
    rate = as_number(flags.get("SOLVER.BASE_LR"))
    scaled = flags.get("SOLVER.BASE_LR_SCALE_NUM_SHARDS") is True
    if rate is not None:
        shards = as_number(flags.get("NUM_SHARDS")) or 1
        flags.add("optimizer.lr", rate * shards if scaled else rate)
    method = flags.get("SOLVER.OPTIMIZING_METHOD")
    if method in ("sgd", "adam", "adamw"):
        flags.add("optimizer.name", method)
    elif isinstance(method, str):
        flags.note(f"SOLVER.OPTIMIZING_METHOD {method}: give --optimizer.name sgd, adam or adamw")
    policy = flags.get("SOLVER.LR_POLICY")
    if isinstance(policy, str) and policy in POLICIES:
        flags.add("schedule.name", POLICIES[policy])
    elif isinstance(policy, str):
        flags.note(f"SOLVER.LR_POLICY {policy}: not there")
    if policy == "steps_with_relative_lrs":
        flags.get("SOLVER.STEPS")
        flags.get("SOLVER.LRS")
        flags.note("SOLVER.STEPS: here the rate is a tenth from 1/2 of the epochs on, again at 3/4")
    if flags.get("SOLVER.WARMUP_START_LR") is not None:
        flags.note("SOLVER.WARMUP_START_LR: here the warm-up starts at 0")


def _files(flags: Flags) -> None:
    folder = flags.get("DATA.PATH_TO_DATA_DIR")
    if isinstance(folder, str) and folder:
        flags.note(f"DATA.PATH_TO_DATA_DIR {folder}: give --data.train-dir and --data.val-dir")
    weights = flags.get("TRAIN.CHECKPOINT_FILE_PATH")
    if isinstance(weights, str) and weights:
        flags.add("model.weights", weights)
    else:
        flags.add("model.pretrained", "false")
    output = flags.get("OUTPUT_DIR")
    if isinstance(output, str) and output not in ("", "."):
        flags.add("output-dir", output)
    if flags.get("TRAIN.AUTO_RESUME") is True:
        flags.note("TRAIN.AUTO_RESUME: --resume auto, once there is an --output-dir to go on with")
    tests = ("TEST.NUM_ENSEMBLE_VIEWS", "TEST.NUM_SPATIAL_CROPS")
    views, crops = (as_number(flags.get(key)) for key in tests)
    flags.note(f"test: evaluate RUN --temporal-views {views} --spatial-crops {crops}")
    loss = flags.get("MODEL.LOSS_FUNC")
    if isinstance(loss, str) and loss != "cross_entropy":
        flags.note(f"MODEL.LOSS_FUNC {loss}: not converted")
