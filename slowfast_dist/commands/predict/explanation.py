"""What --explain does with one video: the map of where and the curve of when, as files."""

from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.clips import clip_indices, clip_offsets, view_positions
from slowfast_dist.inference.drawing.explained import read_clip, title_of, write_explained
from slowfast_dist.inference.drawing.explanation import Picture
from slowfast_dist.inference.drawing.names import claim_name
from slowfast_dist.inference.explain import Explainer, Explanation, Map
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.inference.torch_network import TorchNetwork
from slowfast_dist.inference.windows import default_window, plan_windows
from slowfast_dist.metrics.task import SeveralLabels
from slowfast_dist.system.progress import note
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.ordered_reader import frame_times
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.views import region_of


class VideoExplainer:
    """Explains videos one after the other, by the weights that ``predictor`` computes with."""

    def __init__(self, predictor: Predictor, command: Predict) -> None:
        """``predictor`` computes by torch. Raises UserError for a class that the model does not
        have."""
        self._predictor, self._command = predictor, command
        wanted, classes = command.explain_class, predictor.classes
        if wanted is not None and wanted not in classes:
            raise UserError(
                f"--explain-class {wanted}: the model has no such class: give one of "
                f"{', '.join(classes)}"
            )
        assert isinstance(predictor.network, TorchNetwork), command.backend
        self._device = predictor.network.device

    @cached_property
    def _explainer(self) -> Explainer:
        best = self._predictor.best
        several = isinstance(best.task, SeveralLabels)
        return Explainer(best.load(), several, self._device)

    def write(
        self, path: Path, info: VideoInfo, probabilities: NDArray[np.float64]
    ) -> dict[str, Any]:
        """Write the clip and the strip of one video, whose classes' ``probabilities`` (K,) are
        known, into --output, and tell what is in them: {"explanation": {"class", "strength",
        "times": seconds (T,), "when": shares (T,)}, "files": [path, path]}.

        Raises DecodeError for a video that cannot be read, UserError for a folder that cannot be
        made, RunError for what cannot be written.
        """
        clip, times = self._clip(path, info)
        if self._command.explain_at is not None:
            scored = self._predictor.probabilities(clip[None])
            probabilities = self._predictor.calibrated(scored)[0]
        classes = self._predictor.classes
        name = self._command.explain_class or classes[int(probabilities.argmax())]
        label = classes.index(name)
        found = self._explainer.explain(clip, label)
        title = title_of(f"{name}  {probabilities[label]:.1%}", path.name, found)
        colours = {each: one.colours(clip.shape[1]) for each, one in self._maps(found).items()}
        picture = Picture(clip, times, colours, found.joined.when, title)
        folder = self._command.output
        files = write_explained(folder, claim_name(folder, path), picture)
        told = {
            "class": name, "strength": round(found.joined.strength, 4),
            "times": np.round(times, 4).tolist(), "when": np.round(found.joined.when, 4).tolist(),
        }  # fmt: skip
        return {"explanation": told, "files": [str(file) for file in files]}

    def _maps(self, found: Explanation) -> dict[str, Map]:
        if not self._command.explain_pathways:
            return {"both pathways": found.joined}
        alone = {"slow pathway": found.slow, "fast pathway": found.fast}
        return {"both pathways": found.joined, **alone}

    def _clip(
        self, path: Path, info: VideoInfo
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The frames (T, S, S, 3) of the view that is explained, the centre crop however many views
        are scored, and their times in seconds."""
        data, region = self._predictor.best.data, None
        if data.crop_box is not None:
            try:
                region, _ = region_of(data.crop_box, info.height, info.width, info.pixel_aspect)
            except ValueError as error:
                raise DecodeError(path, f"the region of interest (crop_box) {error}") from None
        with closing(GuardedReader()) as reader:
            return read_clip(reader, path, info, self._numbers(path, info), data, region)

    def _numbers(self, path: Path, info: VideoInfo) -> NDArray[np.int64]:
        """The frames (T,) of the clip in the middle, or of the window, as --segments places them,
        whose middle is nearest to --explain-at."""
        at, best = self._command.explain_at, self._predictor.best
        if at is None:
            return clip_indices(info, best.data, view_positions(1)[0])
        data, times = best.data, frame_times(info)
        if at > times.end:
            note(f"{path}: ends at {times.end:.2f} s, before --explain-at {at:g}: its last clip is "
                 "explained")  # fmt: skip
        if clip_offsets(info, data) is None:
            data = replace(data, frame_rate="video")
        length = default_window(best, None, times.end)
        windows = plan_windows(times, data, length, None)
        middles = times.starts[windows].mean(axis=1)
        return np.asarray(windows[int(np.abs(middles - at).argmin())])
