"""What --explain does with one video: the map of where and the curve of when, as files."""

import os
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.predict.explanation_drawing import Picture, draw_strip, write_clip
from slowfast_dist.commands.predict.segment_files import EXPLAINED, claim_name
from slowfast_dist.config.commands import Predict
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.clips import clip_indices, view_positions
from slowfast_dist.data.workers import WorkerPlan
from slowfast_dist.inference.explain import Explainer, enlarged
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.inference.scoring import rows_of_videos, table_of
from slowfast_dist.inference.torch_network import TorchNetwork
from slowfast_dist.system.files import reason_of, sync_folder
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.ordered_reader import frame_times
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.writer import WriteError

CENTRE = EvaluationConfig(1, 1, False)
"""The view that is explained: the clip in the middle of the video, its centre crop, however many
views are scored."""


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
        return Explainer(self._predictor.best.load(), self._device)

    def write(
        self, path: Path, info: VideoInfo, probabilities: NDArray[np.float64]
    ) -> dict[str, Any]:
        """Write the clip and the strip of one video, whose classes' ``probabilities`` (K,) are
        known, into --output, and tell what is in them: {"explanation": {"class", "times": seconds
        (T,), "when": shares (T,)}, "files": [path, path]}.

        Raises DecodeError for a video that cannot be read, UserError for a folder that cannot be
        made, RunError for what cannot be written.
        """
        command, classes = self._command, self._predictor.classes
        name = command.explain_class or classes[int(probabilities.argmax())]
        label = classes.index(name)
        clip, times = self._clip(path, info)
        found = self._explainer.explain(clip, label)
        maps = {"both pathways": found.joined}
        if command.explain_pathways:
            maps |= {"slow pathway": found.slow, "fast pathway": found.fast}
        size = clip.shape[1]
        large = {title: enlarged(cells, size) for title, cells in maps.items()}
        title = f"{name}  {probabilities[label]:.1%}   {path.name}"
        picture = Picture(clip, times, large, found.when, title)
        folder = command.output
        stem = claim_name(folder, path)
        files = [folder / (stem + suffix) for suffix in EXPLAINED]
        part = files[0].with_name(f".{files[0].name}.{os.getpid()}.tmp")
        try:
            write_clip(part, picture)
            os.replace(part, files[0])
            draw_strip(files[1], picture)
            sync_folder(folder)
        except (OSError, WriteError) as error:
            reason = reason_of(error, folder) if isinstance(error, OSError) else str(error)
            raise RunError(f"{files[0]}: cannot be written ({reason})") from error
        finally:
            part.unlink(missing_ok=True)
        told = {"times": np.round(times, 4).tolist(), "when": np.round(found.when, 4).tolist()}
        return {"explanation": {"class": name, **told}, "files": [str(file) for file in files]}

    def _clip(
        self, path: Path, info: VideoInfo
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The frames (T, S, S, 3) of the view that is explained, and their times in seconds."""
        seen: list[NDArray[np.uint8]] = []

        def keep(clips: NDArray[np.uint8]) -> NDArray[np.float64]:
            seen.extend(clips.copy())
            return np.zeros((len(clips), 1))

        data = self._predictor.best.data
        table = table_of([(path, info)])
        with closing(rows_of_videos(keep, table, data, CENTRE, 1, WorkerPlan(0))) as rows:
            if isinstance(reason := next(rows), str):
                raise DecodeError(path, reason)
        numbers = clip_indices(info, data, view_positions(1)[0])
        return seen[0], frame_times(info).starts[numbers]
