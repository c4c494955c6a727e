"""The command ``export``: write the file under another name, check it, put it in its place."""

import errno
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast_dist.best_model import BestModel, read_best
from slowfast_dist.config import RunError, UserError
from slowfast_dist.export.clips import find_clips
from slowfast_dist.export.graph import ExportGraph
from slowfast_dist.export.metadata import (
    as_strings,
    describe_export,
    export_path,
    is_export,
    weights_sha256,
)
from slowfast_dist.export.onnx import require_onnx, to_onnx
from slowfast_dist.export.parity import Parity, Speed, compare
from slowfast_dist.export.pt2 import to_pt2
from slowfast_dist.export.quiet import ends_at_ctrl_c, quiet
from slowfast_dist.export.summary import (
    bits_line,
    parity_line,
    shape_lines,
    size_line,
    speed_line,
    use_lines,
)
from slowfast_dist.export.tensors import check_safetensors, to_safetensors
from slowfast_dist.exported import open_exported
from slowfast_dist.files import atomic_write
from slowfast_dist.model import SlowFast
from slowfast_dist.model_settings import Export

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What a terminal takes for colours; torch.onnx writes them into its errors."""

NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True)
class Exported:
    """A file that was written and passed; ``parity`` and ``speed`` are None for safetensors, which
    are compared bit for bit."""

    path: Path
    parity: Parity | None = None
    speed: Speed | None = None


def run_export(run: Path, command: Export) -> Exported:
    """Write the best model of ``run`` as one file, and print how near and how fast it is.

    A file that is there already is replaced only by one that passed. Raises UserError for mistakes
    of the user's, and RunError for a file that differs from the original by more than the
    tolerance, or that cannot be written.
    """
    _refuse_what_has_no_effect(command)
    best = read_best(run)
    path = _output(best, command)
    if command.format == "onnx":
        require_onnx()
    clips = None if command.format == "safetensors" else find_clips(best, command.data)
    print(f"{best.model['name']} of epoch {best.epoch} to {command.format} ...", flush=True)
    # Opened before all that takes long: a folder that cannot be written is said at once.
    with _write_faults(path), atomic_write(path) as file:
        network, sha256 = _load(best)
        metadata = describe_export(best, sha256, command.input_type)
        begin = time.perf_counter()
        content = _content(network, best, command, metadata)
        file.write(content)
        file.flush()
        seconds, written = time.perf_counter() - begin, Path(file.name)
        lines = [size_line(path, len(content), seconds)]
        if clips is None:
            state = network.state_dict()
            check_safetensors(written, state, as_strings(metadata))
            lines.append(bits_line(len(state)))
            done = Exported(path)
        else:
            assert command.format != "safetensors"
            exported = open_exported(written, command.format, on_gpu=False)
            parity, speed = compare(network, exported, clips.frames)
            _require_parity(parity, command.tolerance, path)
            lines += shape_lines(best, command.input_type)
            lines += [parity_line(parity, clips.source), speed_line(speed, command.format)]
            done = Exported(path, parity, speed)
    print("\n".join(lines))
    print("\nTo use it without slowfast_dist:\n")
    print(use_lines(best, path, command.format, command.input_type), flush=True)
    return done


def _refuse_what_has_no_effect(command: Export) -> None:
    if command.format != "safetensors":
        return
    if command.data is not None:
        raise UserError("--data: safetensors are compared bit by bit, without videos: leave it out")
    if command.input_type != "uint8":
        raise UserError("--input-type: safetensors hold weights alone: leave it out")


def _output(best: BestModel, command: Export) -> Path:
    path, ending = command.output, f".{command.format}"
    if path is None:
        path = export_path(best.folder, command.format)
    if path.is_dir():
        file = path / f"best_model{ending}"
        raise UserError(f"--output {path}: is a folder: give the file to write, as {file}")
    if path.suffix != ending:
        raise UserError(
            f"--output {path}: give a name that ends in {ending}, or the --format of that name"
        )
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {path.parent}: make it first")
    if path.exists() and not is_export(path):
        raise UserError(
            f"--output {path}: is there already, and is no file that export wrote: give another "
            "name, or move it away"
        )
    return path


@contextmanager
def _write_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NOT_ALLOWED:
            raise UserError(
                f"--output {path}: cannot be written ({error.strerror}): give another place"
            ) from None
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def _load(best: BestModel) -> tuple[SlowFast, str]:
    """The network, and the SHA-256 of the file that it came from."""
    try:
        before = weights_sha256(best)
    except FileNotFoundError:
        before = ""  # load() says so
    network = best.load()
    if weights_sha256(best) != before:
        raise RunError(f"{best.folder}: a training wrote a new best model meanwhile: export again")
    return network, before


def _content(
    network: SlowFast, best: BestModel, command: Export, metadata: dict[str, Any]
) -> bytes:
    """What the file holds. Raises RunError with the cause where a library cannot make it."""
    if command.format == "safetensors":
        return to_safetensors(network.state_dict(), as_strings(metadata))
    side = best.data.crop_size
    try:
        with ends_at_ctrl_c(), quiet():
            graph = ExportGraph(network, best.data.num_frames, command.input_type)
            if command.format == "onnx":
                return to_onnx(graph, side, as_strings(metadata))
            return to_pt2(graph, side, metadata)
    except Exception as error:
        cause = COLOURS.sub("", str(error)).strip().partition("\n")[0]
        raise RunError(
            f"--format {command.format}: this torch cannot export the model "
            f"({type(error).__name__}: {cause})"
        ) from error


def _require_parity(parity: Parity, tolerance: float, path: Path) -> None:
    if parity.within(tolerance):
        return
    kept = "; the one that was there is kept" if path.exists() else ""
    raise RunError(
        f"{path}: not written, as it differs from the original by {parity.logits:.1e} in a logit, "
        f"{parity.probabilities:.1e} in a probability, more than --tolerance {tolerance:g}{kept}"
    )
