"""What ``export`` prints about the file that it wrote."""

from collections.abc import Sequence
from pathlib import Path

from slowfast_dist.best_model import BestModel
from slowfast_dist.export.graph import InputType
from slowfast_dist.export.metadata import PT2_FILE, Format
from slowfast_dist.export.parity import Parity, Speed

ENGINES = {"onnx": "onnxruntime", "pt2": "torch.export"}

USE: dict[Format, str] = {
    "onnx": """\
import json, onnxruntime
session = onnxruntime.InferenceSession({path!r})
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
(logits,) = session.run(["logits"], {{"video": video}})  # numpy {dtype} (B, 3, {t}, {s}, {s})
print([classes[index] for index in logits.argmax(1)])""",
    "pt2": """\
import json, torch
extra = {{{extra!r}: ""}}
model = torch.export.load({path!r}, extra_files=extra).module()
logits = model(video)  # torch {dtype} (B, 3, {t}, {s}, {s})
print([json.loads(extra[{extra!r}])["classes"][index] for index in logits.argmax(1)])""",
    "safetensors": """\
from safetensors import safe_open
with safe_open({path!r}, framework="np") as file:  # or "pt"
    metadata = file.metadata()
    state = {{name: file.get_tensor(name) for name in file.keys()}}
print(metadata["model"], metadata["classes"], len(state))""",
}
"""Python that uses the file and nothing of slowfast_dist; ``video`` is the reader's."""


def use_lines(best: BestModel, path: Path, format: Format, input_type: InputType) -> str:
    """The lines of USE for this file."""
    t, s = best.data.num_frames, best.data.crop_size
    return USE[format].format(path=str(path), dtype=input_type, t=t, s=s, extra=PT2_FILE)


def shape_lines(best: BestModel, input_type: InputType) -> list[str]:
    """Input and output, for people."""
    t, s = best.data.num_frames, best.data.crop_size
    values = {"uint8": "0 to 255", "float32": "0 to 1"}[input_type]
    return [
        _line("input", f"video (B, 3, {t}, {s}, {s}) {input_type}, RGB, {values}; any B"),
        _line("output", f"logits (B, {len(best.classes)}) float32: {_few(best.classes)}"),
    ]


def size_line(path: Path, size: int, seconds: float) -> str:
    return f"{path}: {size / 1e6:.1f} MB, made in {seconds:.1f} s"


def parity_line(parity: Parity, source: str) -> str:
    clips, batches = "1 clip", ""
    if parity.clips > 1:
        clips, batches = f"{parity.clips} clips", f", one by one and {parity.batch} at once"
    return _line(
        "parity",
        f"with eager float32 on {clips} {source}{batches}: largest difference of logits "
        f"{parity.logits:.1e}, of probabilities {parity.probabilities:.1e}; the same class in "
        f"{parity.same} of {parity.clips}",
    )


def speed_line(speed: Speed, format: Format) -> str:
    threads = f"{speed.threads} thread" + "s" * (speed.threads > 1)
    return _line(
        "speed",
        f"{speed.exported:.0f} ms a clip (median, CPU, {threads}, {ENGINES[format]}); eager "
        f"{speed.eager:.0f} ms, in channels_last_3d {speed.channels_last:.0f} ms: "
        f"{speed.ratio:.2f} of the faster one's time",
    )


def bits_line(tensors: int) -> str:
    return _line("parity", f"{tensors} tensors, read back and equal bit for bit")


def _line(name: str, text: str) -> str:
    return f"  {name:<8}{text}"


def _few(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - 6} more" if len(classes) > 6 else ""
    return ", ".join(classes[:6]) + more
