"""Published weights as a run's folder, by a word such as kinetics400:slowfast_r50."""

import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.fields import DataSet
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.frame_rates import PRETRAINED_RATE
from slowfast_dist.model.description import network_defaults
from slowfast_dist.model.hub import CLASSES, PUBLISHED, TITLES, class_names, hub_file
from slowfast_dist.runs.best_model import DESCRIPTION, WEIGHTS, describe_clips
from slowfast_dist.system.files import reason_of, write_json
from slowfast_dist.system.log import logger

DROPOUT = 0.5
"""Before the head of every published network; no answer depends on it."""


def run_folder(run: Path) -> Path:
    """``run`` itself, or, for DATA:NAME where there is no such path, a folder with the published
    weights as a run's models, in torch.hub's cache.

    Raises UserError for a name that is not published, and where weights or the names of the classes
    can be neither found nor downloaded; RunError when the disk refuses.
    """
    data, name = named(run)
    if data is None:
        return run
    if name not in PUBLISHED[data]:
        raise UserError(
            f"RUN {run}: no such weights were published: give "
            f"{' or '.join(f'{data}:{one}' for one in PUBLISHED[data])}"
        )
    classes = class_names(data)  # the smaller download first
    source = hub_file(data, name)
    folder = Path(torch.hub.get_dir()) / "slowfast_dist" / f"{data}-{name}"
    network = network_defaults(name).as_json()
    # PySlowFast mirrors no clip of Something-Something, whose classes name sides.
    unmirrored = {"flip": False} if data == "ssv2" else {}
    content = {
        "model": network | {"num_classes": CLASSES[data], "dropout": DROPOUT},
        "classes": list(classes),
        "clip": describe_clips(clips(data, name), EvaluationConfig()),
        "epoch": 0,
        "training": {
            "started_from": source.name, "pretrained_on": TITLES[data], **unmirrored,
        },
    }
    try:
        (folder / "models").mkdir(parents=True, exist_ok=True)
        _put(source, folder / "models" / WEIGHTS)
        write_json(folder / "models" / DESCRIPTION, content)
    except OSError as error:
        raise RunError(f"cannot write {folder}: {reason_of(error)}") from error
    if data == "charades":
        logger.warning(
            f"{run}: several of its classes can be right at once, and it was trained with a "
            "sigmoid for each; shown are shares of all classes (softmax): their order is right, a "
            "small one may still be a sure one"
        )
    return folder


def named(run: Path) -> tuple[DataSet, str] | tuple[None, str]:
    """The data set and the name that DATA:NAME gives; None for a path, also for one that is so
    called."""
    found = re.fullmatch(rf"({'|'.join(PUBLISHED)}):(.*)", str(run))
    if found is None or run.exists():
        return None, ""
    return cast(DataSet, found[1]), found[2]


def clips(data: DataSet, name: str) -> DataConfig:
    """How the clips of a data set were cut for a published network: PySlowFast's
    configs/*/pytorchvideo, one view of its tests'."""
    frames = 64 if name == "slowfast_16x8_r101_50_50" else 32
    dense = DataConfig(
        num_frames=frames, sampling_rate=2, frame_rate=PRETRAINED_RATE, short_side=(256, 256),
        crop_size=256,
    )  # fmt: skip
    # Something-Something's short videos are seen whole.
    return replace(dense, sampling="uniform", frame_rate="video") if data == "ssv2" else dense


def _put(source: Path, target: Path) -> None:
    """The file ``source`` at ``target``, too, without a second copy where the disk can."""
    if target.is_file() and target.samefile(source):
        return
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        place = Path(folder, "weights")
        try:
            os.link(source, place)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, place)
        os.replace(place, target)
