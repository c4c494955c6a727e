"""The formats that segments of a video are written in, for other tools to open."""

import csv
import io
from collections.abc import Callable, Mapping

from slowfast_dist.annotations.formats import boris, elan, label_studio, via
from slowfast_dist.annotations.formats.writing import VideoSegments
from slowfast_dist.annotations.importing.writing import seconds
from slowfast_dist.config.fields import SegmentFormat

Writer = Callable[[VideoSegments], str]


def write_table(video: VideoSegments) -> str:
    """Our own list, which a training takes: path,label,start,end,confidence."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "label", "start", "end", "confidence"])
    for segment in video.segments:
        start, end = round(segment.start, 3), round(segment.end, 3)
        confidence = f"{segment.confidence:.4f}"
        writer.writerow([video.path, segment.label, seconds(start), seconds(end), confidence])
    return text.getvalue()


WRITERS: Mapping[SegmentFormat, tuple[str, Writer]] = {
    "boris": (".boris", boris.write_project),
    "elan": (".eaf", elan.write_eaf),
    "label-studio": (".label-studio.json", label_studio.write_tasks),
    "via": (".via.json", via.write_project),
    "csv": (".annotations.csv", write_table),
}
"""Of each format the ending of its file, behind the video's name, and what writes it."""
