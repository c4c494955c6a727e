"""How many videos of an evaluation the model was trained on, as far as its run's folder tells."""

import os
from pathlib import Path

from slowfast_dist.data.video_table import VideoTable
from slowfast_dist.report.reading import read_settings
from slowfast_dist.report.run_data import read_split_names
from slowfast_dist.report.stills import data_root


def trained_on(models: Path, videos: VideoTable) -> int:
    """Videos of ``videos`` that are, by their paths, training videos of the run of ``models``.

    0 where models/ lies alone, or where the data has moved since.
    """
    run = Path(os.path.abspath(models)).parent
    settings = read_settings(run / "config.yaml")
    root, folder = (settings.get(flag, "none") for flag in ("data.root", "data.train-dir"))
    here = os.path.realpath(videos.root)
    if root != "none":
        sides = read_split_names(run / "split.csv")
        below = os.path.realpath(data_root(root, run))
        seen = {os.path.join(below, name) for name, side in sides.items() if side == "train"}
        return sum(os.path.join(here, name) in seen for name in videos.names)
    if folder == "none" or Path(folder).suffix.lower() == ".csv":
        return 0
    below = os.path.join(os.path.realpath(data_root(folder, run)), "")
    return sum(os.path.join(here, name).startswith(below) for name in videos.names)
