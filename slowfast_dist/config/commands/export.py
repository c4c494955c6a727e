"""The settings of ``export``: field names are the flags, the text below is their help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slowfast_dist.config import fields


@dataclass(frozen=True)
class Export:
    """Write a run's best model as one file for other programs, and check it against the original.

    RUN is a run's folder, or its models folder alone. The file takes one tensor, "video" (B, 3, T,
    H, W), any B (of --int8 1); normalisation and the split into pathways are inside, and so are the
    classes and the sampling, as metadata.
    """

    format: fields.Format = "onnx"
    """onnx: for onnxruntime and other engines; pt2: torch.export's, which loads with torch alone;
    safetensors: the weights with the description, for slowfast_dist; openvino: an .xml and a .bin
    for CPUs, in float32."""
    output: Path | None = None
    """The file to write; none: best_model.FORMAT beside the run's best model."""
    input_type: Literal["uint8", "float32"] = "uint8"
    """uint8: pixel values 0..255; float32: the same divided by 255."""
    data: Path | None = None
    """Videos on which the file is compared with the original: a video, or a folder of videos;
    none: the run's own validation videos where they are still there, else random frames."""
    tolerance: fields.PositiveFloat | None = None
    """Largest difference of a probability or logit that passes; none: 1e-4. With --int8 of a
    probability alone; none: 0.1."""
    int8: bool = False
    """With --format openvino: compute in 8-bit integers, calibrated on the run's own training clips
    and compared on its validation clips; layers that lose too much stay in float."""
