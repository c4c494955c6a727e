"""Checkpoints that are whole or absent, and that load without executing anything.

A checkpoint is a folder ``step_00000120`` with model.safetensors, optimizer.pt (read with
``weights_only``), training.safetensors, state.json and, written last, manifest.json with the
SHA-256 of each. It is written under a hidden name, fsynced, renamed and verified before an older
one goes.
"""

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.model.finite import describe_broken
from slowfast_dist.system.files import (
    disk_full,
    file_sha256,
    free_space,
    reason_of,
    sync_folder,
    write_json,
)
from slowfast_dist.system.parsing import parse_json
from slowfast_dist.system.text import size

FORMAT = 2
"""Of the files of a checkpoint; another one is refused."""
FILES = ("model.safetensors", "optimizer.pt", "training.safetensors", "state.json")
"""The files of a checkpoint whose SHA-256 are in its manifest.json."""
_NAME = re.compile(r"step_\d{8,}")


@dataclass(frozen=True)
class Checkpoint:
    """All that a resume needs; tensors on the CPU.

    ``model``: state_dict; ``optimizer``: the optimizer's state_dict; ``tensors``: what else the
    loop keeps, by name; ``state``: JSON types, with "global_step".
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU in plain memory order, as safetensors wants them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write and verify ``folder/step_NNNNNNNN``, then delete all but it and those before it.

    ``keep`` stay in all. Checkpoints of later steps, which a resume left behind, go too.

    Raises RunError with the path when the disk refuses, or when the checkpoint holds numbers that
    are not finite; older checkpoints are then untouched and nothing partial stays.
    """
    name = f"step_{checkpoint.state['global_step']:08d}"
    if broken := _broken(checkpoint):
        raise RunError(
            f"checkpoint {folder / name}: not saved, as {broken}: lower --optimizer.lr, or set "
            "--optimizer.clip-norm; what was saved before is from good steps"
        )
    final, temporary = folder / name, folder / f".{name}.{os.getpid()}.tmp"
    try:
        for leftover in folder.glob(".step_*.tmp"):  # of a run that was killed while it saved
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write_files(temporary, checkpoint)
        verify_checkpoint(temporary)
        aside = folder / f".{name}.{os.getpid()}.old.tmp"
        if final.exists():
            os.replace(final, aside)
        os.replace(temporary, final)
        sync_folder(folder)
        shutil.rmtree(aside, ignore_errors=True)
    # torch.save and safetensors do not raise OSError on a full disk.
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        _put_back(folder)
        parts = (checkpoint.model, checkpoint.optimizer, checkpoint.tensors)
        reason = disk_fault(error, folder, tensor_bytes(parts))
        raise RunError(f"cannot save checkpoint {final}: {reason}") from error
    earlier = list_checkpoints(folder)
    # What is newer than this one was left behind by a resume from before it.
    later = [earlier.pop(0) for _ in range(earlier.index(final))]
    for old in [*later, *earlier[keep:]]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def disk_fault(error: Exception, folder: Path, needed: int) -> str:
    """What the disk said that refused some of ``needed`` bytes, whose files are gone again.

    torch.save and safetensors do not say what is wrong; with less free than is needed it is that.
    """
    if isinstance(error, OSError):
        return reason_of(error, folder, needed)
    said, free = str(error).splitlines()[0], free_space(folder)
    if free is not None and free >= needed:
        return f"{said} ({size(free)} are free there, and {size(needed)} needed)"
    return f"{disk_full(folder, needed)} ({said})"


def tensor_bytes(content: Any) -> int:
    """Of the tensors in a state_dict, or whatever holds some: nearly all that its file takes."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, Mapping):
        content = content.values()
    elif not isinstance(content, list | tuple):
        return 0
    return sum(map(tensor_bytes, content))


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    safetensors.torch.save_file(portable(checkpoint.model), folder / "model.safetensors")
    safetensors.torch.save_file(portable(checkpoint.tensors), folder / "training.safetensors")
    torch.save(checkpoint.optimizer, folder / "optimizer.pt")
    for name in FILES[:3]:
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())
    write_json(folder / "state.json", checkpoint.state)
    sums = {name: file_sha256(folder / name) for name in FILES}
    write_json(folder / "manifest.json", {"format": FORMAT, "sha256": sums})


def _put_back(folder: Path) -> None:
    """What a run that was killed had set aside for a checkpoint of the same step, not yet there."""
    for aside in folder.glob(".step_*.old.tmp"):
        final = folder / aside.name.split(".")[1]
        if not final.exists():
            with suppress(OSError):  # in a folder of somebody else's
                os.replace(aside, final)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in ``folder``, newest first, valid or not."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def verify_checkpoint(path: Path) -> None:
    """Raise RunError with the reason if a file of the checkpoint is missing or not as written."""
    try:
        for name in (*FILES, "manifest.json"):  # the only names that are ever opened
            if not (path / name).is_file():  # a pipe would be waited for
                raise RunError(f"{path}: {name} is missing")
        manifest = parse_json((path / "manifest.json").read_bytes())
        if manifest["format"] != FORMAT:
            raise RunError(f"{path}: format {manifest['format']}, this version reads {FORMAT}")
        for name, digest in {name: manifest["sha256"][name] for name in FILES}.items():
            if file_sha256(path / name) != digest:
                raise RunError(f"{path}: {name} is damaged")
    except OSError as error:
        raise RunError(f"{path}: {Path(error.filename or path).name} cannot be read") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: manifest.json is damaged") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Verify and read a checkpoint. Raises RunError with path and reason."""
    verify_checkpoint(path)
    try:
        checkpoint = Checkpoint(
            model=safetensors.torch.load_file(path / "model.safetensors"),
            optimizer=torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True),
            tensors=safetensors.torch.load_file(path / "training.safetensors"),
            state=parse_json((path / "state.json").read_bytes()),
        )
    except Exception as error:  # whatever the formats' readers raise: nothing was executed
        raise RunError(f"{path}: cannot be loaded ({type(error).__name__})") from error
    if broken := _broken(checkpoint):  # older versions looked at the loss alone
        raise RunError(
            f"{path}: {broken}: the training had diverged: remove it to go on from the one before, "
            "with a lower --optimizer.lr and --resume-changed, or start over in a new --output-dir"
        )
    return checkpoint


def _broken(checkpoint: Checkpoint) -> str | None:
    """In words, which tensors of the model or of the optimizer are not finite; None where all are.

    7 ms for slowfast_r50's weights and 14 for AdamW's moments, on 2 CPU cores.
    """
    moments = {
        f"optimizer.{parameter}.{name}": value
        for parameter, values in checkpoint.optimizer.get("state", {}).items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    # The history may hold what is not finite, as the gradients of steps that fp16 skipped.
    kept = {
        "BatchNorm statistics" if name == "statistics" else name: value
        for name, value in checkpoint.tensors.items()
        if name not in ("rows", "steps")
    }
    return describe_broken({**checkpoint.model, **moments, **kept})


def newest_valid(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint of ``folder`` that verifies, and why newer ones do not."""
    problems: list[str] = []
    _put_back(folder)
    for path in list_checkpoints(folder):
        try:
            verify_checkpoint(path)
        except RunError as error:
            problems.append(str(error))
        else:
            return path, problems
    return None, problems


def find_checkpoint(path: Path) -> Path:
    """A checkpoint given by ``--resume PATH``: its folder, or the newest of a run's folder."""
    if (path / "manifest.json").exists():
        return path
    newest, problems = newest_valid(path / "checkpoints")
    if newest is None:
        why = f" ({problems[0]})" if problems else ""
        raise UserError(
            f"--resume {path}: no checkpoint there{why}; give a folder such as "
            "RUN/checkpoints/step_00000120, or auto"
        )
    return newest
