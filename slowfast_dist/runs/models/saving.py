"""What a training or an adoption writes into models/: the best model, its description, and later
changes of that.

torch is imported where weights are written.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.metrics.task import ONE_LABEL, Task
from slowfast_dist.runs.best_model import (
    ARCHITECTURE,
    DESCRIPTION,
    WEIGHTS,
    describe_clips,
    describe_task,
    described_sha256,
    read_description,
)
from slowfast_dist.system.described_file import forget_previous, replace_described, settle
from slowfast_dist.system.files import atomic_write, reason_of, write_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from slowfast_dist.model.slowfast import SlowFast


def describe_best(
    network: "SlowFast", classes: Sequence[str], data: DataConfig, evaluation: EvaluationConfig,
    task: Task = ONE_LABEL,
) -> dict[str, Any]:  # fmt: skip
    """The part of best_model.json that `read_best` needs, in JSON's types."""
    from slowfast_dist.model.slowfast import describe

    return {
        "model": describe(network),
        "classes": list(classes),
        **describe_task(task, len(classes)),
        "clip": describe_clips(data, evaluation),
        "background": data.background,
    }


def save_best(
    models: Path, state: "Mapping[str, Tensor]", full: "torch.nn.Module",
    description: dict[str, Any],
) -> None:  # fmt: skip
    """Write best_model_architecture.pth, best_model_weights.pth and best_model.json, with the
    SHA-256 of the weights.

    ``full`` is the whole model on the CPU, ``state`` its state_dict; each file is replaced
    atomically, best_model.json last: until then the weights that the old one is of stay, too.
    Raises RunError with the path when the disk refuses, and, before anything is written, for
    numbers that are not finite.
    """
    import torch

    from slowfast_dist.model.finite import describe_broken
    from slowfast_dist.runs.checkpoint import disk_fault, portable, tensor_bytes

    if broken := describe_broken(state):
        raise RunError(
            f"the best model in {models} is not saved, as {broken}: lower --optimizer.lr, or set "
            "--optimizer.clip-norm; what was saved before is from good steps"
        )
    try:
        settle_best(models)
        with atomic_write(models / ARCHITECTURE) as file:
            torch.save(full, file)
        with replace_described(models / WEIGHTS) as weights:
            torch.save(portable(state), weights)  # type: ignore[arg-type]  # it needs no more
        write_json(models / DESCRIPTION, description | {"weights_sha256": weights.sha256})
        forget_previous(models / WEIGHTS)
    except (OSError, RuntimeError) as error:
        reason = disk_fault(error, models, 2 * tensor_bytes(state))
        raise RunError(f"cannot save the best model in {models}: {reason}") from error


def change_description(models: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put ``changes`` into best_model.json of a training that is over, and return all of it. Raises
    UserError where it is damaged, RunError where the disk refuses."""
    content = read_description(models) | dict(changes)
    try:
        write_json(models / DESCRIPTION, content)
    except OSError as error:
        reason = reason_of(error, models)
        raise RunError(f"cannot write {models / DESCRIPTION}: {reason}") from error
    return content


def settle_best(models: Path) -> None:
    """Where a training was killed between weights and description: the weights that best_model.json
    is of, again. Raises OSError."""
    settle(models / WEIGHTS, described_sha256(models))
