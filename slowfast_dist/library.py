"""What ``import slowfast_dist`` offers: training, prediction and exact frames, to be called.

It is the code of the command line. A mistake of the caller's, as a video that cannot be read,
raises UserError; what ends the work from outside, as a full disk, raises RunError; either is one
line of text. Nothing here ends the process. Only `train` and `load` import torch.
"""

import os
import signal
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.cli.flags import Setting, apply
from slowfast_dist.cli.parser import parse_training
from slowfast_dist.cli.presets import preset_path
from slowfast_dist.commands.predict.output import top
from slowfast_dist.config.checks import flag_types
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.fields import Backend
from slowfast_dist.config.training import Config, config_dict
from slowfast_dist.distributed.environment import adopt_ranks
from slowfast_dist.inference.segments import Segment
from slowfast_dist.runs.history import read_history
from slowfast_dist.runs.reading import mapping, read_json
from slowfast_dist.system import signals
from slowfast_dist.system.cpus import let_threads_sleep
from slowfast_dist.video import reader
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.views import square_pixels

if TYPE_CHECKING:
    from slowfast_dist.inference import predictor

__all__ = [
    "Config", "Prediction", "Predictor", "RunError", "Segment", "UserError", "VideoProperties",
    "load", "load_config", "probe", "read_frames", "train",
]  # fmt: skip

REMEMBERED_PROBES = 1024
"""Files of which the last probe is remembered, in memory: one takes less than a kilobyte, and a
program that reads many clips of each file then scans its packets once, not once a clip."""


# --- training ------------------------------------------------------------------------------------


def load_config(preset: str = "finetune", flags: Sequence[str | Path] = ()) -> Config:
    """The settings of a training, as ``train.py PRESET FLAGS...`` parses and checks them.

    ``flags`` are the words of the command line, one each: ``["--data.root", "videos", "--epochs",
    "5", "--config", "mine.yaml"]``. Flags go over --config files, these over the preset. A field of
    the result is changed with `dataclasses.replace`.

    Raises UserError, with flag, value and remedy, for what the command line refuses.
    """
    if isinstance(flags, str):
        raise UserError(f"flags {flags!r}: give a list with one word each, as flags.split() is")
    words = [str(word) for word in flags]
    if {"-h", "--help"} & set(words):
        raise UserError("--help: is for the command line: leave it out")
    preset_path(preset)  # a name that looks like a flag is refused here
    config = parse_training([preset, *words])
    assert config is not None  # as without --help
    return config


def train(config: Config) -> dict[str, Any]:
    """Train as ``config`` says into its output_dir; the same run as that of ``train.py``.

    Returns "output_dir" (str), "status" ("finished", or "preempted" where a signal stopped it),
    "best" (the best epoch's "monitor", "mode", "value", "epoch" and "global_step"; None where no
    epoch was the best), and the last epoch's row of metrics.jsonl: "epoch", "global_step",
    "train/loss", "val/loss", "val/accuracy", "val/f1_macro" and so on, as fractions of 1, with None
    for what is no number. A run that was finished already returns what it has. A cross-validation
    (``folds``) returns its "output_dir" and "status" and, once all is done, out-of-fold "accuracy",
    "f1_macro", "loss" and their "intervals".

    In the main thread Ctrl-C, SIGTERM and distributed.preempt_signal stop it as they stop the
    command: the step is finished and saved. Under a launcher every process calls it, collectively.

    Raises UserError for settings that cannot be and data that cannot be used, and RunError for what
    ends a run from outside; the run's status file then says failed.
    """
    config = _as_parsed(config)
    adopt_ranks(os.environ)
    let_threads_sleep()
    from slowfast_dist.commands.cross_validate.command import run_cross_validation
    from slowfast_dist.training.run import run_training

    with _stopped_by_signals(config.distributed.preempt_signal):
        if config.folds is not None:
            return run_cross_validation(config)
        summary = run_training(config)
    root = Path(summary["output_dir"])
    rows = read_history(root / "metrics.jsonl").epochs
    last = {name: value for name, value in (rows or [{}])[-1].items() if name != "kind"}
    description = mapping(read_json(root / "models" / "best_model.json"))
    names = ("monitor", "mode", "value", "epoch", "global_step")
    best = {name: description.get(name) for name in names} if description else None
    return {**last, "best": best, **summary}


def _as_parsed(config: Config) -> Config:
    """As the command line would have made it: with paths for strings, and no unknown choices."""

    def settings(values: Mapping[str, Any], prefix: str = "") -> Iterator[Setting]:
        for name, value in values.items():
            flag = prefix + name.replace("_", "-")
            if isinstance(value, dict):
                yield from settings(value, f"{flag}.")
            else:
                items = value if isinstance(value, list) else [value]
                yield Setting(flag, tuple("none" if v is None else str(v) for v in items), flag)

    return apply(list(settings(config_dict(config))), Config(), flag_types(Config))


@contextmanager
def _stopped_by_signals(preempt_signal: str) -> Iterator[None]:
    """In the block a signal asks the training to stop; after it all is as it was before."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main one may say what a signal does
        return
    names = (*signals.STOP_SIGNALS, *signals.PREEMPT_SIGNALS, preempt_signal)
    numbers = {getattr(signal, name) for name in names if hasattr(signal, name)}
    before = {number: signal.getsignal(number) for number in numbers}
    signals.install(preempt_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # as of one that was not set by Python
                signal.signal(number, handler)
        signals.forget()


# --- prediction ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
    """What a model says of a whole video."""

    label: str
    """The most probable class; "unknown" where the training kept a confidence with the model that
    it does not reach (--evaluation.unknown-recall)."""
    probability: float
    """The most probable class's probability, 0 to 1."""
    probabilities: Mapping[str, float]
    """Of every class, the most probable first; they add up to 1, unless a video may have several
    labels."""
    labels: tuple[str, ...] = ()
    """What is said to be there, the most probable first: ``label`` alone, or, of a model that gives
    several labels (--loss.name bce), all classes at their thresholds, which may be none."""


class Predictor:
    """A run's best model, ready to answer; `load` makes it.

    Other processes decode: a video that hangs or crashes its decoder costs an error, not this
    process. Call it from one thread at a time.
    """

    def __init__(self, model: "predictor.Predictor") -> None:
        self._model = model

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the model's classes, in the order of its outputs."""
        return self._model.classes

    def predict(self, path: str | Path) -> Prediction:
        """What happens in a video file: the mean over as many views as in the run's validation.

        The numbers are those of ``predict RUN FILE --json``. Raises UserError for a video that
        cannot be read.
        """
        from slowfast_dist.commands.predict.videos import predict_video

        with _one_line_errors():
            probabilities = predict_video(self._model, Path(path))
        ranked = top(probabilities, self.classes, len(self.classes))
        label, probability = ranked[0]
        told = self._model.label(label, probability)
        said = self._model.labels(probabilities)
        labels = [told] if said is None else [name for name, _ in said]
        return Prediction(told, probability, dict(ranked), tuple(labels))

    def embed(self, paths: Sequence[str | Path]) -> NDArray[np.float32]:
        """The features of video files, float32 (N, F), F 2304 of slowfast_r50: what goes into the
        last linear layer, the mean over as many views as in the run's validation.

        The numbers are those of ``embed RUN FILES...``. Raises UserError for a video that cannot be
        read.
        """
        from slowfast_dist.config.commands.embed import Embed
        from slowfast_dist.inference.inputs import Input
        from slowfast_dist.inference.scoring import rows_of_files

        if isinstance(paths, str | Path):
            raise UserError(f"paths {str(paths)!r}: give a list of paths")
        model, found = self._model, []
        with _one_line_errors():
            files = [Input(Path(path)) for path in paths]
            for one in rows_of_files(model.best, model.features, files, Embed(num_workers=0)):
                if one.row is None:
                    raise DecodeError(one.path, one.reason or "")
                found.append(one.row.astype(np.float32))
            width = model.head[0].shape[1]
        return np.stack(found) if found else np.empty((0, width), np.float32)

    def predict_segments(self, path: str | Path) -> list[Segment]:
        """What happens when in a video file: segments from its start to its end, without gaps.

        Each has ``start`` and ``end`` in seconds from the first frame on, a ``label``, and its mean
        ``probability`` in between. ``predict RUN FILE --segments --json`` gives the same, rounded.
        Raises UserError for a video that is damaged anywhere, and where the model gives several
        labels.
        """
        from slowfast_dist.commands.predict.videos import predict_segments

        with _one_line_errors():
            return predict_segments(self._model, Path(path))


def load(run: str | Path, backend: Backend = "torch") -> Predictor:
    """The best model of a run's folder, or of its models/ folder alone, on the GPU if there is one;
    or published weights, by a word such as kinetics400:slowfast_r50.

    ``backend`` auto takes OpenVINO on a CPU where it answers faster and the same, which it finds
    out now, once for these weights; else as ``--backend`` of ``predict``. torch alone has features
    for `Predictor.embed`. It computes in the precision that the hardware has, as ``predict`` does.
    Raises UserError where there is no such model, where its files are damaged, and where what the
    backend needs is missing.
    """
    let_threads_sleep()
    if backend not in get_args(Backend):
        raise UserError(f"backend {backend!r}: give one of {', '.join(get_args(Backend))}")
    from slowfast_dist.inference.predictor import open_predictor
    from slowfast_dist.inference.published import run_folder

    with _one_line_errors():
        return Predictor(open_predictor(run_folder(Path(run)), backend, clips=None, ahead=True))


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Raise UserError or RunError in place of what most often goes wrong; imports torch."""
    from slowfast_dist.distributed.failures import faults_as_run_errors

    with faults_as_run_errors(), _unreadable_as_user_error():
        yield


# --- frames --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VideoProperties:
    """What a video file holds, as it is displayed: rotation and mirroring applied, square pixels.
    """

    frames: int
    """Exactly those that a decode from the beginning to the end gives, whatever the header says."""
    fps: float
    """Average frames per second; 0.0 where the file does not say."""
    width: int
    """Pixels of the upright picture: of a phone's video that is stored lying and displayed
    standing, the smaller number."""
    height: int
    """Pixels of the upright picture."""
    pixel_aspect: float = 1.0
    """Width over height with which a player shows a stored pixel of the upright picture; ``width``
    is that many times the stored columns."""
    light: str = "sdr"
    """How its numbers stand for light: sdr, or HDR as pq or hlg, which is read as if it were SDR.
    """
    interlaced: bool = False
    """Whether a frame holds two pictures, one in every second row, which are not parted."""
    alpha: bool = False
    """Whether it is partly transparent; alpha is dropped."""


def probe(path: str | Path, image_fps: float | None = None) -> VideoProperties:
    """What a video holds, a file or a folder of numbered images, of which ``image_fps`` are shown a
    second where it has no fps.txt.

    All packets are scanned and a few frames decoded, or all where only that tells the count, in
    this process. Raises UserError for a file that cannot be read.
    """
    info = _probed(Path(path), image_fps)
    return VideoProperties(
        info.frames, info.fps, info.shown_width, info.height, info.pixel_aspect, info.light,
        info.interlaced, info.alpha,
    )  # fmt: skip


def read_frames(
    path: str | Path, indices: Sequence[int] | NDArray[np.integer[Any]],
    pixel_aspect: Literal["square", "stored"] = "square",
) -> NDArray[np.uint8]:  # fmt: skip
    """The frames of a video, a file or a folder of images, at ``indices``: uint8 (T, H, W, 3), RGB,
    upright.

    ``indices`` (T,) count from 0, in any order, also repeated; `probe` says how many frames there
    are. Frame i is the i-th of a decode from the beginning, to the bit, also where it is sought.

    ``pixel_aspect`` square: as a player shows them, H and W are those of `probe`; a video whose
    pixels are not square is made wider or narrower. stored: the pixels that the file holds.

    Raises UserError for an index that the video does not have, and for a file that cannot be read.
    """
    path, wanted = Path(path), np.asarray(indices)
    if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
        raise UserError(f"{path}: indices {indices!r}: give a list of whole numbers")
    info = _probed(path, 1.0)  # frames are asked for by number
    missing = wanted[(wanted < 0) | (wanted >= info.frames)]
    if missing.size:
        raise UserError(f"{path}: index {missing[0]}: give numbers from 0 to {info.frames - 1}")
    if pixel_aspect not in ("square", "stored"):
        raise UserError(f"{path}: pixel_aspect {pixel_aspect!r}: give 'square' or 'stored'")
    width = info.shown_width if pixel_aspect == "square" else info.width
    if not wanted.size:
        return np.empty((0, info.height, width, 3), np.uint8)
    with _unreadable_as_user_error():
        frames = reader.read_frames(path, wanted.astype(np.int64), info, "pyav", None)
    if width == info.width:
        return frames
    return np.stack([square_pixels(frame, width) for frame in frames])


def _probed(path: Path, image_fps: float | None) -> reader.VideoInfo:
    with _unreadable_as_user_error():
        try:
            status = path.stat()
        except (OSError, ValueError) as error:  # a ValueError of a null character
            raise DecodeError(path, getattr(error, "strerror", None) or str(error)) from error
        if stat.S_ISDIR(status.st_mode):
            return probe_file(path, image_fps)
        if not stat.S_ISREG(status.st_mode):  # a read of a pipe or a device may never end
            raise DecodeError(path, "is no file")
        return _probe_unchanged(path.absolute(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=REMEMBERED_PROBES)
def _probe_unchanged(path: Path, size: int, mtime_ns: int) -> reader.VideoInfo:
    """``size`` and ``mtime_ns`` tell whether the file is still the one that was probed."""
    return probe_file(path)


@contextmanager
def _unreadable_as_user_error() -> Iterator[None]:
    try:
        yield
    except DecodeError as error:
        raise UserError(str(error)) from error
