"""``export --int8``: OpenVINO's model with 8-bit weights and activations, by NNCF, verified.

NNCF counts the ranges of activations on clips of the run's own training. Where the result moves a
probability by more than --tolerance, the layers that int8 hurts most stay in float until it holds.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.export.parity import Clips, Compute, own_clips
from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.backends.export_graph import openvino_model
from slowfast_dist.inference.backends.openvino_network import fix_batch, openvino_files
from slowfast_dist.inference.backends.openvino_runtime import compile_here, openvino_core
from slowfast_dist.inference.backends.signal_stack import kept_signal_stack
from slowfast_dist.inference.metadata import InputType, as_input, as_strings
from slowfast_dist.metrics.task import Task
from slowfast_dist.metrics.uncertainty import expected_calibration_error, reliability
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import BestModel

if TYPE_CHECKING:
    import openvino

CALIBRATION_CLIPS = 32
"""Clips of the training for the ranges of activations, each of another video: NNCF's usual 300 take
ten times as long, and ranges are of millions of values a clip."""

CHECKED_CLIPS = 100
"""Validation clips at most on which int8 is compared, each of another video: so many tell an
accuracy to about .1."""

RANKED_CLIPS = 8
"""Clips on which each layer by itself is tried in float, the worst ones, where int8 everywhere does
not hold: how much each helps tells the order in which they are put back."""

TOLERANCE = 0.1
"""Difference of a probability that passes, unless --tolerance says another."""


@dataclass(frozen=True)
class Int8Parity:
    """Against eager float32 on ``clips`` clips: ``changed``: of how many the answer is another;
    ``probabilities``: the largest difference; of float32 and int8 the ``accuracy`` and the
    calibration error ``ece``, None where clips have several labels or none that is known;
    ``in_float``: convolutions and products that stayed, of ``layers``."""

    clips: int
    changed: int
    probabilities: float
    accuracy: tuple[float, float] | None
    ece: tuple[float, float] | None
    in_float: int
    layers: int


def require_nncf() -> None:
    """Raise UserError where NNCF is missing."""
    if find_spec("nncf") is None:
        raise UserError("--int8: needs nncf, which is not here: pip install '.[cpu]'")


def calibration_clips(best: BestModel) -> Clips:
    """Of the run's own training videos. Raises UserError where those are not there any more."""
    clips, reason = own_clips(best, "train", CALIBRATION_CLIPS)
    if clips is None:
        raise UserError(
            f"--int8: is calibrated on the run's own training clips, and {reason}: put them back "
            "where the run's config.yaml says, or leave --int8 out"
        )
    return clips


def checked_clips(best: BestModel) -> Clips:
    """Of the run's own validation videos. Raises UserError where those are not there any more."""
    clips, reason = own_clips(best, "val", CHECKED_CLIPS)
    if clips is None:
        raise UserError(
            f"--int8: is verified on the run's own validation clips, and {reason}: put them back, "
            "give others in --data, or leave --int8 out"
        )
    return clips


def write_int8(
    network: SlowFast, best: BestModel, input_type: InputType, metadata: Mapping[str, Any],
    calibration: NDArray[np.uint8], checked: NDArray[np.uint8],
    expected: NDArray[np.float64], tolerance: float,
) -> tuple[bytes, bytes]:  # fmt: skip
    """The .xml and the .bin. ``expected``: the right probabilities (N, K) of the ``checked`` clips
    (N, T, H, W, 3)."""
    about = {**as_strings(metadata), "quantised": "int8"}
    model = openvino_model(network, best, input_type)
    fix_batch(model)
    openvino_core()  # its stack for signals, which stays, is the one that comes back
    with kept_signal_stack():  # NNCF opens Cores of its own
        made = _quantised(model, about, best.task, calibration, checked, expected, tolerance)
    return openvino_files(made, about)


def _quantised(
    model: "openvino.Model", about: Mapping[str, str], task: Task, calibration: NDArray[np.uint8],
    checked: NDArray[np.uint8], expected: NDArray[np.float64], tolerance: float,
) -> "openvino.Model":  # fmt: skip
    # NNCF reports its use over the network unless this is set when it is imported.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf

    def dataset(clips: NDArray[np.uint8]) -> Any:
        return nncf.Dataset([{"video": as_input(clip[None], about)} for clip in clips])

    given: dict[str, Any] = {
        "calibration_dataset": dataset(calibration), "subset_size": len(calibration),
        "ignored_scope": nncf.IgnoredScope(types=list(KEPT_IN_FLOAT)),
    }  # fmt: skip
    made = nncf.quantize(model, **given)
    found = probabilities_of(_compute(made, about), checked, task)
    if not np.abs(found - expected).max() <= tolerance:

        def closeness(compiled: Any, items: Iterable[Any]) -> tuple[float, list[float]]:
            """Of any of the checked clips: that of the worst, and of each."""
            numbers, videos = zip(*items, strict=True)
            logits = np.concatenate([compiled(video)["logits"] for video in videos])
            off = np.abs(task.probabilities(logits) - expected[list(numbers)]).max(axis=1)
            return 1 - float(off.max()), (1 - off).tolist()

        numbered = nncf.Dataset(
            [(number, as_input(clip[None], about)) for number, clip in enumerate(checked)],
            lambda item: {"video": item[1]},
        )
        made = nncf.quantize_with_accuracy_control(
            model, validation_dataset=numbered, validation_fn=closeness,
            max_drop=tolerance * MARGIN, **given,
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=RANKED_CLIPS
            ),
        )  # fmt: skip
    return made


KEPT_IN_FLOAT = ("ReduceMean", "MatMul")
"""OpenVINO's operations of the head, which stay in float: they take no time, and NNCF cuts what
they are given at the mean of the clips' largest values, so that half of the clips lose their
largest logit (3.4.0: -5.1 became -3.4; findings/nncf_activations_cut_at_mean.sh)."""


MARGIN = 0.99
"""Share of the tolerance to which layers are put back into float, tried on all checked clips: the
rest is for sums that another number of threads rounds differently."""


def _compute(model: "openvino.Model", about: Mapping[str, str]) -> Compute:
    compiled = compile_here(model, "no")
    return lambda clips: np.array(compiled(as_input(clips, about))[0], np.float32)


def layers_in_float(xml: bytes) -> tuple[int, int]:
    """Convolutions and products with weights in float, and all, of a model's .xml."""
    layers = ElementTree.fromstring(xml).find("layers")
    edges = ElementTree.fromstring(xml).find("edges")
    assert layers is not None and edges is not None
    kinds = {layer.get("id"): layer.get("type") for layer in layers}
    # Weights in float are constants as they are; in int8 they are scaled on the way.
    weights = {
        edge.get("to-layer"): kinds[edge.get("from-layer")]
        for edge in edges
        if edge.get("to-port") == "1"
    }
    found = [weights[name] for name, kind in kinds.items() if kind in ("Convolution", "MatMul")]
    return found.count("Const"), len(found)


def int8_parity(
    compute: Compute, clips: Clips, expected: NDArray[np.float64], task: Task, xml: bytes
) -> Int8Parity:
    """Of the file that was written. ``expected``: eager float32's probabilities (N, K)."""
    found = probabilities_of(compute, clips.frames, task)
    pair = (expected, found)
    accuracy = ece = None
    if task.several:
        decided = [task.decide(one) for one in pair]  # type: ignore[union-attr]
        changed = int((decided[0] != decided[1]).any(axis=1).sum())
    else:
        changed = int((expected.argmax(axis=1) != found.argmax(axis=1)).sum())
        if clips.labels is not None:
            labels = clips.labels
            right = [float((one.argmax(axis=1) == labels).mean()) for one in pair]
            errors = [expected_calibration_error(reliability(labels, one)) for one in pair]
            accuracy, ece = (right[0], right[1]), (errors[0], errors[1])
    return Int8Parity(
        len(found), changed, float(np.abs(expected - found).max()), accuracy, ece,
        *layers_in_float(xml),
    )  # fmt: skip


def probabilities_of(compute: Compute, clips: NDArray[np.uint8], task: Task) -> NDArray[np.float64]:
    return task.probabilities(np.concatenate([compute(clip[None]) for clip in clips]))
