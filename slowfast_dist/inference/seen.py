"""What of videos a model looked at, and what of them is unlike those of its training."""

import numpy as np

from slowfast_dist.data.clips import clip_indices, view_positions
from slowfast_dist.data.image_folders import gap_of
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.video.pictures import PictureCounts
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.views import region_of


def seen_part(
    predictor: Predictor, info: VideoInfo, temporal_views: int | None = None
) -> tuple[float, float, float] | None:
    """Seconds from the video's first frame: from where to where the clips of `predict_video` reach,
    and how many of these they show; None where they show the whole video, up to less than the time
    from one frame of a clip to the next, or the file does not tell how fast it plays."""
    data, clips = predictor.best.data, predictor.best.views(temporal_views, None).temporal_views
    times = info.times()
    if data.sampling != "dense" or times is None:
        return None
    shown = [clip_indices(info, data, place) for place in view_positions(clips)]
    spans = [(int(frames.min()), int(frames.max())) for frames in shown]
    frame = float(times[-1]) / max(1, info.frames - 1) or 1.0
    seen, reached = 0.0, 0.0
    for first, last in spans:
        end = float(times[last]) + frame
        seen += max(0.0, end - max(reached, float(times[first])))
        reached = max(reached, end)
    counted = frame if data.frame_rate == "video" else 1 / data.frame_rate
    if float(times[-1]) + frame - seen < data.sampling_rate * counted + frame / 2:
        return None
    return float(times[spans[0][0]]), reached, seen


class SeenVideos:
    """Of videos that were predicted: what is unlike those of the training, and what was not seen of
    them; counted, as people should know it."""

    def __init__(
        self, predictor: Predictor, temporal_views: int | None = None, whole: bool = False,
        remedy: str | None = None,
    ) -> None:  # fmt: skip
        """``temporal_views`` as for `predict_video`; ``whole``: whether all of each video is looked
        at in any case; the ``remedy`` where it is not, None: that of the command."""
        self._of_region = "give videos that show that alone"
        if remedy is None:
            self._of_region = "--crop-box X Y W H shows one"
            remedy = "--segments tells what happens when in all of it"
            if predictor.best.task.several:
                remedy = "--temporal-views 10 looks at more of it"
        self._predictor, self._views = predictor, temporal_views
        self._whole, self._remedy = whole, remedy
        self._rates: list[float] = []
        self._pictures: PictureCounts | None = None
        self._names: list[str] = []
        self._gaps: list[str] = []
        self._cut: list[str] = []
        self._longer, self._unseen, self._example = 0, 0.0, ""

    def add(self, name: str, info: VideoInfo) -> None:
        """A video that was predicted, and what to call it."""
        self._rates.append(info.mean_rate())
        pictures = PictureCounts.of_one(vars(info))
        self._pictures = self._pictures + pictures if self._pictures else pictures
        self._names.append(name)
        self._gaps += [gap for gap in [gap_of(name, info)] if gap]
        box = self._predictor.best.data.crop_box
        if box is not None and region_of(box, info.height, info.width, info.pixel_aspect)[1]:
            self._cut.append(name)
        part = None if self._whole else seen_part(self._predictor, info, self._views)
        if part is None:
            return
        self._longer += 1
        begin, end, seen = part
        seconds = info.frames / info.mean_rate()
        if seconds - seen > self._unseen:
            self._unseen = seconds - seen
            clips = self._predictor.best.views(self._views, None).temporal_views
            how = f"in {clips} clips " if clips > 1 else ""
            parts = f"{seen:.1f} of {seconds:.1f} s, {how}from {begin:.1f} to {end:.1f} s"
            self._example = f"{name}: {parts}"

    def notes(self) -> list[str]:
        """A line each."""
        best, rates, total = self._predictor.best, np.array(self._rates), len(self._names)
        lines = best.picture_notes(self._pictures) if self._pictures else []
        lines += best.region_notes(self._of_region) if total else []
        lines += best.rate_notes(rates, self._names.__getitem__)
        lines += self._gaps
        if self._cut:
            lines.append(
                f"the region of interest reaches beyond the picture of {len(self._cut)} of {total} "
                f"videos, as {self._cut[0]}, and is cut there"
            )
        if self._longer:
            which = f"{self._longer} of {total} videos are longer than what was looked at, as "
            lines.append(
                f"{which if total > 1 else 'looked at of '}{self._example}; {self._remedy}"
            )
        return lines
