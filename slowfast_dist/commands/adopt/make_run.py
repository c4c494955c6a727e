"""The run of a file of weights: network, description, settings and card."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import cast

from slowfast_dist.config.checks import validate
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.fields import ModelName
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import Config, EvaluationConfig
from slowfast_dist.model.foreign import names
from slowfast_dist.model.foreign.recognise import Weights, read_weights, unknown_names
from slowfast_dist.model.foreign.source_facts import SourceFacts
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.report.card import write_card
from slowfast_dist.runs.best_model import clip_facts
from slowfast_dist.runs.checkpoint import portable
from slowfast_dist.runs.folder import RunFolder, describe_environment
from slowfast_dist.runs.models.saving import describe_best, save_best
from slowfast_dist.system.files import reason_of
from slowfast_dist.system.text import operand, unwritable


def make_run(
    file: Path, output: Path, classes: tuple[str, ...] | None, told: SourceFacts | None
) -> None:
    """Write the run and say what it is. ``classes``: the names of --classes, ``told``: what
    --config says, None where they are not given. Raises UserError for a file that cannot be one.
    """
    weights = read_weights(file, "FILE", told)
    network = _network(file, weights)
    _write(output, file, weights, network, _classes(file, weights, classes, network.num_classes))


def _network(file: Path, weights: Weights) -> SlowFast:
    """The network with all its weights, in evaluation mode."""
    if weights.description is None:
        raise UserError(
            f"FILE {file}: {unknown_names(weights.tensors)}: give a file of one of these"
        )
    bias = weights.tensors.get(f"{names.HEAD}bias")
    if bias is None or bias.ndim != 1 or not len(bias):
        raise UserError(
            f"FILE {file}: has no head, so it tells nothing about videos: train one with "
            f"--model.weights {operand(file)}"
        )
    network = SlowFast(weights.description, len(bias), ModelConfig().dropout)
    own = network.state_dict()
    fits = {name: value for name, value in weights.tensors.items() if name in own}
    bad = [name for name in own if name not in fits or fits[name].shape != own[name].shape]
    if bad:
        raise UserError(
            f"FILE {file}: does not fit {weights.description.name} ({bad[0]} is missing or has "
            f"another shape, {len(bad)} of {len(own)} in all): this network is not built here"
        )
    network.load_state_dict(fits)
    return network.eval()


def _classes(
    file: Path, weights: Weights, given: tuple[str, ...] | None, rows: int
) -> tuple[str, ...]:
    classes, where = given or weights.classes, "--classes" if given else f"FILE {file}"
    if classes is None:
        raise UserError(
            f"--classes is missing: {file} has {rows} classes and does not tell their names: give "
            "a file with a name a line, in the order of the training"
        )
    if len(classes) != rows:
        raise UserError(
            f"{where}: names {len(classes)} classes, and the head of {file} has {rows}: give the "
            "names of its own, in the order of the training"
        )
    for name in classes:
        if problem := unwritable(name) or (None if name.strip() else "is empty"):
            raise UserError(
                f"{where}: the class name {name!r} {problem}: give others with --classes, a name "
                "a line, in the order of the training"
            )
    return classes


def _write(
    output: Path, file: Path, weights: Weights, network: SlowFast, classes: tuple[str, ...]
) -> None:
    clip = weights.clip
    side = clip.pop("short_side")
    flip = DataConfig.flip if weights.facts.flip is None else weights.facts.flip
    data = replace(DataConfig(), short_side=(side, side), flip=flip, **clip)
    place = Path(os.path.abspath(file))
    model = ModelConfig(cast(ModelName, network.name), weights=place, head="keep")
    evaluation = EvaluationConfig()
    config = replace(Config(), output_dir=output, data=data, model=model, evaluation=evaluation)
    validate(replace(config, data=replace(data, root=Path(output))))  # a run names its videos
    if data.num_frames % network.description.alpha:
        raise UserError(
            f"FILE {file}: its clips of {data.num_frames} frames are no multiple of alpha "
            f"{network.description.alpha}: give the right configuration with --config"
        )
    description = {
        **describe_best(network, classes, data, evaluation),
        "epoch": 0, "global_step": 0, "metrics": {},
        "training": {
            "started_from": file.name, "adopted_from": weights.framework,
            **({} if weights.facts.flip is None else {"flip": flip}),
        },
    }  # fmt: skip
    folder = RunFolder(output.absolute())
    was_there = folder.root.exists()
    try:
        folder.models.mkdir(parents=True)
        with _removed_on_failure(folder.root, was_there):
            save_best(folder.models, portable(network.state_dict()), network, description)
            folder.describe(config, classes, describe_environment("cpu", "no", 1))
            folder.set_status("finished")
            write_card(folder.models)
    except OSError as error:
        raise RunError(f"cannot write {output}: {reason_of(error, output)}") from error
    for line in _lines(output, file, weights, network, data):
        print(line, flush=True)


@contextmanager
def _removed_on_failure(root: Path, was_there: bool) -> Iterator[None]:
    """No half of a run stays in ``root``, nor that itself unless it, empty, ``was_there``."""
    try:
        yield
    except BaseException:
        for entry in root.iterdir():
            if entry.is_dir():
                rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if not was_there:
            rmtree(root, ignore_errors=True)
        raise


def _lines(
    output: Path, file: Path, weights: Weights, network: SlowFast, data: DataConfig
) -> list[str]:
    """What was made of what."""
    own = set(network.state_dict())
    left_out = [name for name in weights.tensors if name not in own]
    facts = clip_facts(data)
    told = ("num_frames", "sampling", "sampling_rate", "frame_rate", "short_side", "crop_size")
    clip = ", ".join(f"{name.replace('_', ' ')} {facts[name]}" for name in told)
    lines = weights.lines(file) or [f"{file}: weights of {weights.framework}: {network.name}"]
    lines.append(f"clips: {clip}, short videos {data.short_videos}")
    if not data.flip:
        lines.append("its training mirrored no clips (--data.flip false)")
    if left_out:
        lines.append(f"left out, the network has no such tensor: {names.few(left_out)}")
    lines.append(
        f"run: {output} with {network.num_classes} classes; 'evaluate {operand(output)} --data DIR "
        "--temporal-views 10 --spatial-crops 3' is the test of 30 views that papers give"
    )
    return lines
