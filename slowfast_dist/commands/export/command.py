"""The command ``export``: write the file under another name, check it, put it in its place."""

import errno
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast_dist.commands.export.formats import (
    FORMATS,
    check_safetensors,
    require_libraries,
    usage_of,
)
from slowfast_dist.commands.export.int8 import (
    TOLERANCE,
    Int8Parity,
    calibration_clips,
    checked_clips,
    int8_parity,
    probabilities_of,
    require_nncf,
    write_int8,
)
from slowfast_dist.commands.export.parity import (
    MOST,
    Clips,
    Parity,
    Speed,
    compare,
    eager,
    find_clips,
)
from slowfast_dist.config.commands.export import Export
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.fields import Format
from slowfast_dist.inference.backends.openvino_network import open_openvino
from slowfast_dist.inference.exported import open_exported
from slowfast_dist.inference.metadata import (
    PT2_FILE,
    InputType,
    as_strings,
    describe_export,
    export_path,
    is_export,
    weights_sha256,
)
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import BestModel, read_best
from slowfast_dist.system.described_file import forget_previous, replace_described
from slowfast_dist.system.files import atomic_write, reason_of
from slowfast_dist.system.interrupts import ends_at_ctrl_c, quiet
from slowfast_dist.system.text import few

if TYPE_CHECKING:
    from slowfast_dist.inference.exported import ExportedNetwork

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What a terminal takes for colours; torch.onnx writes them into its errors."""

NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
"""Errors of writing that the user's choice of a place makes, not a disk that is full or broken."""


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
    backend = FORMATS[command.format].backend
    if backend is None and command.data is not None:
        raise UserError(
            f"--data: {command.format} are compared bit by bit, without videos: leave it out"
        )
    if backend is None and command.input_type != "uint8":
        raise UserError(f"--input-type: {command.format} hold weights alone: leave it out")
    best = read_best(run)
    path, two = _output(best, command), command.format == "openvino"
    tolerance = command.tolerance or (TOLERANCE if command.int8 else 1e-4)
    require_libraries(command.format)
    if command.int8 and not two:
        raise UserError(f"--int8: is for --format openvino, not {command.format}: leave it out")
    clips, calibration = _clips(best, command) if backend else (None, None)
    print(f"{best.model['name']} of epoch {best.epoch} to {command.format} ...", flush=True)
    # Opened before all that takes long: a folder that cannot be written is said at once.
    with _write_faults(path), ExitStack() as files:
        file = files.enter_context(atomic_write(path))
        beside = files.enter_context(replace_described(path.with_suffix(".bin"))) if two else None
        network, sha256 = _load(best)
        metadata = describe_export(best, sha256, command.input_type)
        begin = time.perf_counter()
        write, expected = FORMATS[command.format].write, None
        if calibration is not None and clips is not None:
            expected = probabilities_of(eager(network), clips.frames, best.task)
            write = partial(
                write_int8, calibration=calibration.frames, checked=clips.frames,
                expected=expected, tolerance=tolerance,
            )  # fmt: skip
        content = _content(write, network, best, command, metadata)
        bytes_written = sum(map(len, content))
        try:
            for part, target in zip(content, (file, beside), strict=False):
                assert target is not None
                target.write(part)
                target.flush()
        except OSError as error:
            reason = reason_of(error, path.parent, bytes_written)
            raise OSError(error.errno, reason, str(path)) from error
        seconds, written = time.perf_counter() - begin, Path(file.name)
        with_bin = f" and {path.with_suffix('.bin').name}" if beside else ""
        lines = [f"{path}{with_bin}: {bytes_written / 1e6:.1f} MB, made in {seconds:.1f} s"]
        if clips is None or backend is None:
            state = network.state_dict()
            check_safetensors(written, state, as_strings(metadata))
            lines.append(_line("parity", f"{len(state)} tensors, read back and equal bit for bit"))
            done = Exported(path)
        else:
            if beside is not None:
                exported: ExportedNetwork = open_openvino(written, weights=Path(beside.file.name))
            else:
                exported = open_exported(written, backend, on_gpu=False)
            some = clips.frames[:MOST]
            parity, speed = compare(network, exported, some, task=best.task)
            line = _parity_line(parity, clips.source, best.task.several)
            if expected is not None:
                int8 = int8_parity(exported, clips, expected, best.task, content[0])
                line = _int8_line(int8, clips.source, best.task.several)
                if not int8.probabilities <= tolerance:
                    raise RunError(
                        f"{path}: not written, as int8 moves a probability by "
                        f"{int8.probabilities:.2f}, more than --tolerance {tolerance:g}"
                        + "; the one that was there is kept" * path.exists()
                    )
            elif not parity.within(tolerance):
                raise RunError(
                    f"{path}: not written, as it differs from the original by {parity.logits:.1e} "
                    f"in a logit, {parity.probabilities:.1e} in a probability, more than "
                    f"--tolerance {tolerance:g}"
                    + "; the one that was there is kept"
                    * path.exists()
                )
            lines += [
                *_shape_lines(best, command.input_type, "B is 1" if command.int8 else "any B"),
                line,
                _speed_line(speed, command.format),
            ]
            done = Exported(path, parity, speed)
    if two:
        forget_previous(path.with_suffix(".bin"))
    print("\n".join(lines))
    print("\nTo use it without slowfast_dist:\n")
    t, s, dtype = best.data.num_frames, best.data.crop_size, command.input_type
    usage = usage_of(command.format, best.task.several)
    print(usage.format(path=str(path), dtype=dtype, t=t, s=s, extra=PT2_FILE), flush=True)
    return done


def _clips(best: BestModel, command: Export) -> tuple[Clips, Clips | None]:
    """Those on which the file is compared, and for int8 those that calibrate it."""
    if not command.int8:
        return find_clips(best, command.data), None
    require_nncf()
    checked = checked_clips(best) if command.data is None else find_clips(best, command.data)
    return checked, calibration_clips(best)


def _output(best: BestModel, command: Export) -> Path:
    usual = export_path(best.folder, command.format)
    path, ending = command.output or usual, usual.suffix
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
    beside = path.with_suffix(".bin")
    if command.format == "openvino" and beside.exists() and not path.exists():
        raise UserError(
            f"--output {path}: {beside} is there already, and is no file that export wrote: give "
            "another name, or move it away"
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
        raise RunError(f"cannot write {path}: {reason_of(error)}") from error


def _load(best: BestModel) -> tuple[SlowFast, str]:
    """The network, and the SHA-256 of the file that it came from."""
    if best.weights_sha256 is not None:
        return best.load(), best.weights_sha256
    try:  # of an older version
        before = weights_sha256(best)
    except FileNotFoundError:
        before = ""  # load() says so
    network = best.load()
    if weights_sha256(best) != before:
        raise RunError(f"{best.folder}: a training wrote a new best model meanwhile: export again")
    return network, before


def _content(
    write: Callable[..., Any], network: SlowFast, best: BestModel, command: Export,
    metadata: dict[str, Any],
) -> tuple[bytes, ...]:  # fmt: skip
    """What the file holds, and the .bin beside it if there is one. Raises RunError with the cause
    where a library cannot make it."""
    try:
        with ends_at_ctrl_c(), quiet():
            content = write(network, best, command.input_type, metadata)
            return content if isinstance(content, tuple) else (content,)
    except Exception as error:
        cause = COLOURS.sub("", str(error)).strip().partition("\n")[0]
        raise RunError(
            f"--format {command.format}: this torch cannot export the model "
            f"({type(error).__name__}: {cause})"
        ) from error


def _shape_lines(best: BestModel, input_type: InputType, batch: str) -> list[str]:
    t, s = best.data.num_frames, best.data.crop_size
    several = best.task.several  # whose description has the thresholds, too
    meaning = ", a sigmoid each for several labels" * several
    if best.temperature != 1:  # which is in the description, too
        meaning = f", to be divided by {best.temperature:.4g} before softmax"
    classes = few(best.classes, 6)
    values = {"uint8": "0 to 255", "float32": "0 to 1"}[input_type]
    return [
        _line("input", f"video (B, 3, {t}, {s}, {s}) {input_type}, RGB, {values}; {batch}"),
        _line("output", f"logits (B, {len(best.classes)}) float32{meaning}: {classes}"),
    ]


def _parity_line(parity: Parity, source: str, several: bool) -> str:
    clips, batches, same = "1 clip", "", "labels" if several else "class"
    if parity.clips > 1:
        clips, batches = f"{parity.clips} clips", f", one by one and {parity.batch} at once"
    return _line(
        "parity",
        f"with eager float32 on {clips} {source}{batches}: largest difference of logits "
        f"{parity.logits:.1e}, of probabilities {parity.probabilities:.1e}; the same {same} in "
        f"{parity.same} of {parity.clips}",
    )


def _int8_line(parity: Int8Parity, source: str, several: bool) -> str:
    scores = ""
    if parity.accuracy is not None and parity.ece is not None:
        scores = (
            f"accuracy {parity.accuracy[1]:.3f} (float32 {parity.accuracy[0]:.3f}), calibration "
            f"error {parity.ece[1]:.3f} ({parity.ece[0]:.3f}), "
        )
    what = "other labels" if several else "another class"
    return _line(
        "parity",
        f"of int8 with eager float32 on {parity.clips} clips {source}: {scores}{what} in "
        f"{parity.changed}, largest difference of probabilities {parity.probabilities:.3f}; "
        f"{parity.in_float} of {parity.layers} layers stay in float",
    )


def _speed_line(speed: Speed, format: Format) -> str:
    threads = f"{speed.threads} thread" + "s" * (speed.threads > 1)
    return _line(
        "speed",
        f"{speed.exported:.0f} ms a clip (median, CPU, {threads}, {FORMATS[format].engine}); eager "
        f"{speed.eager:.0f} ms, in channels_last_3d {speed.channels_last:.0f} ms: "
        f"{speed.exported / min(speed.eager, speed.channels_last):.2f} of the faster one's time",
    )


def _line(name: str, text: str) -> str:
    return f"  {name:<8}{text}"
