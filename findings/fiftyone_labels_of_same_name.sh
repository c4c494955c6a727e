#!/usr/bin/env bash
# FiftyOne 1.22.1: the exporter of temporal detections, told to leave the videos where they are
# (export_media=False) and nothing else, names each video in labels.json by its file name without
# folder and ending. Of two videos of one name in two folders (monday/clip.mp4, tuesday/clip.mp4)
# only the labels of the last one are written; those of the first are lost without an error or a
# warning. Where the videos are copied it gives the second one a name of its own (clip-2), as its
# documentation says. With rel_dir or abs_paths=True nothing is lost.
# Ends with 0 where that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check fiftyone==1.22.1
cd "$folder"
export HOME="$folder" FIFTYONE_DO_NOT_TRACK=true
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io
import json
import logging
import warnings
from pathlib import Path

import fiftyone as fo
from fiftyone.utils.data.exporters import FiftyOneTemporalDetectionDatasetExporter as Exporter

told = io.StringIO()
logging.getLogger().addHandler(logging.StreamHandler(told))
VIDEOS = {"monday/clip.mp4": "walk", "tuesday/clip.mp4": "eat"}
for name in VIDEOS:
    Path(name).parent.mkdir()
    Path(name).write_bytes(b"a video")


def labels(folder, **how):
    with Exporter(export_dir=folder, **how) as exporter:
        for name, label in VIDEOS.items():
            detection = fo.TemporalDetection(label=label, support=[1, 25])
            detections = fo.TemporalDetections(detections=[detection])
            exporter.export_sample(str(Path(name).resolve()), detections, None)
    written = json.loads(Path(folder, "labels.json").read_text())["labels"]
    return {key: [one["label"] for one in found] for key, found in written.items()}


with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(told):
    warnings.simplefilter("always")
    left = labels("left", export_media=False)
silent = not caught and not told.getvalue()
copied = labels("copied", export_media=True)
relative = labels("relative", export_media=False, rel_dir=str(Path().resolve()))
print(f"fiftyone {fo.__version__}: videos left where they are {left}, without a word {silent}; "
      f"copied {copied}; with rel_dir {relative}")
kept = {"monday/clip": ["walk"], "tuesday/clip": ["eat"]}
asserted = (left == {"clip": ["eat"]} and silent and relative == kept
            and copied == {"clip": ["walk"], "clip-2": ["eat"]})
raise SystemExit(0 if asserted else "changed")
PYTHON
