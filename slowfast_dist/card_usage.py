"""The part of a model card that says how the model is used: commands, Python, exported files."""

from collections.abc import Mapping, Sequence
from typing import Any

EXPORTS = {
    "best_model.onnx": "for onnxruntime and other engines (`predict --backend onnx`)",
    "best_model.pt2": "a torch.export program, which loads with torch alone "
    "(`predict --backend pt2`)",
    "best_model.safetensors": "the weights, with the description as metadata",
}
"""What `export` leaves in models/ -> what it is for."""

_COMMANDS = """\
With slowfast_dist installed and this folder at hand as MODEL:

```sh
python -m slowfast_dist predict MODEL video.mp4
python -m slowfast_dist evaluate MODEL --data my_videos   # a folder of class folders
```"""

_PYTHON = """\
```python
from pathlib import Path

from slowfast_dist.data.clips import {function}
from slowfast_dist.data.probe import probe_file
from slowfast_dist.data.transforms import evaluation_view
from slowfast_dist.data.video import read_frames
from slowfast_dist.predictor import open_predictor

predictor = open_predictor(Path("MODEL"))
video = Path("video.mp4")
info = probe_file(video)
indices = {call}
view = evaluation_view(info.height, info.width, predictor.best.data, crop=0, crops=1)
clip = read_frames(video, indices, info, "auto", view)  # uint8 (T, H, W, 3), RGB
probabilities = predictor.probabilities(clip[None])[0]
print(predictor.classes[probabilities.argmax()], probabilities.max())
```"""


def usage_section(description: Mapping[str, Any], files: Sequence[str]) -> str:
    """``description`` is best_model.json, ``files`` are the names of what lies beside it."""
    clip = description["clip"]
    frames, rate = int(clip["num_frames"]), int(clip["sampling_rate"])
    if clip["sampling"] == "uniform":
        call = f"uniform_indices(info.frames, {frames})"
    else:
        call = f"dense_indices(info.frames, {frames}, {rate}, position=0.5)"
    python = _PYTHON.format(function=call.partition("(")[0], call=call)
    parts = ["## How to use it", _COMMANDS, "From Python, one clip of a video:", python]
    exports = [f"- `{name}`: {use}" for name, use in EXPORTS.items() if name in files]
    if exports:
        parts.append("Exported, too:\n\n" + "\n".join(exports))
    return "\n\n".join(parts)
