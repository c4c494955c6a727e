"""OpenVINO on this machine's CPUs: its one Core, and what it is told."""

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.metadata import CpuPrecision
from slowfast_dist.system.cpus import compute_threads

if TYPE_CHECKING:  # it is an extra that not every installation has
    import openvino


def import_openvino(flag: str) -> Any:
    """The library. Raises UserError, which begins with the ``flag``, where it is missing."""
    try:
        import openvino
    except ImportError:
        raise UserError(
            f"{flag}: needs openvino, which is not here: pip install '.[cpu]'"
        ) from None
    return openvino


@cache
def openvino_core() -> "openvino.Core":
    """The one of this process, which nothing lets go of.

    Cores that come and go in one process can leave its thread a stack for signals that is not
    mapped any more, and the process ends later, at a place that has nothing to do with it (openvino
    2026.4.1).
    """
    import openvino

    core = openvino.Core()
    core.get_versions("CPU")  # now, and not later, the part for CPUs is loaded, which has the stack
    return core


def compile_here(model: "openvino.Model", precision: CpuPrecision) -> "openvino.CompiledModel":
    """The model for this CPU, as a clip alone is computed fastest."""
    return openvino_core().compile_model(model, "CPU", _settings(precision))


def _settings(precision: CpuPrecision) -> dict[str, Any]:
    """What OpenVINO is told, which would else compute in bf16 or float16 where the CPU has them,
    and bind its threads to cores that another process may be on.

    The threads are torch's: OMP_NUM_THREADS, else the CPUs that the process may use. One stream: a
    clip alone gets them all.
    """
    return {
        "INFERENCE_PRECISION_HINT": {"no": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": compute_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }


def machine_facts() -> dict[str, Any]:
    """What a measurement of OpenVINO holds for, in JSON's types: its version and this CPU."""
    import openvino

    core = openvino_core()
    return {
        "openvino": openvino.__version__,
        "cpu": core.get_property("CPU", "FULL_DEVICE_NAME"),
        "can": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
    }


def read_tensor(path: Path) -> "openvino.Tensor":
    """The bytes (N,) of a file, uint8, in memory of OpenVINO's: an array would be copied. Raises
    OSError, and ValueError for a file that changes meanwhile."""
    import openvino

    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        tensor = openvino.Tensor(openvino.Type.u8, openvino.Shape([size]))
        if size and file.readinto(tensor.data) != size:
            raise ValueError(f"{path} changes while it is read")
    return tensor


def read_model(text: bytes, weights: "openvino.Tensor") -> "openvino.Model":
    """Of the content of an .xml and its .bin, in whose memory the weights stay."""
    return openvino_core().read_model(text, weights)
