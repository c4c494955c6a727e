"""Regions of interest and padding: the pixels that a clip shows, and how lists name them."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slowfast_dist.annotations.segments import parse_sample_box
from slowfast_dist.config.checks import validate
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config, EvaluationConfig
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.split import split_videos, write_split
from slowfast_dist.data.sampler import ClipKey, ViewKey
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.data.videos.labelled import find_labelled_videos
from slowfast_dist.runs.predictions import read_predictions, write_predictions
from slowfast_dist.runs.run import read_split_names
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from slowfast_dist.video.views import evaluation_view, region_of
from slowfast_dist.video.writer import write_video

SMALL = DataConfig(
    num_frames=4, sampling_rate=1, short_side=(16, 16), crop_size=16, flip=False,
    frame_rate="video",
)  # fmt: skip
HEIGHT, WIDTH = 24, 40


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regions")
    rng = np.random.default_rng(0)
    for name in "abcd":
        frames = rng.integers(0, 256, (6, HEIGHT, WIDTH, 3), dtype=np.uint8)
        write_video(folder / f"{name}.mp4", iter(frames), 10)
    return folder


def table(root: Path, *rows: str, name: str = "list.csv", head: str = "path,label,x,y,w,h") -> Path:
    path = root / name
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


BOXES = (
    "a.mp4,one,4,2,16,20", "a.mp4,two,20,0,20,24", "b.mp4,one,0.5,0,0.5,1", "b.mp4,two,,,,",
    "c.mp4,one,30,10,30,30", "d.mp4,two,0,0,8,8",
)  # fmt: skip


def test_each_row_shows_its_own_part_of_the_picture(root: Path) -> None:
    found = find_labelled_videos(table(root, *BOXES), "data", ("one", "two"), data=SMALL)
    videos = found.videos
    clips = EvaluationClips(videos, replace(SMALL, crop_box=(10.0, 5.0, 12.0, 12.0)))
    expected = {
        "a.mp4#xywh=4,2,16,20": (2, 4, 20, 16), "a.mp4#xywh=20,0,20,24": (0, 20, 24, 20),
        "b.mp4#xywh=0.5,0,0.5,1": (0, 20, 24, 20), "b.mp4": (5, 10, 12, 12),
        "c.mp4#xywh=30,10,30,30": (10, 30, 14, 10), "d.mp4#xywh=0,0,8,8": (0, 0, 8, 8),
    }  # fmt: skip
    assert sorted(videos.samples()) == sorted(expected)
    for row, name in enumerate(videos.samples()):
        info, indices = videos.info(row), np.array([1, 2, 3, 4])
        whole = read_frames(videos.path(row), indices, info, "auto", None)
        top, left, height, width = expected[name]
        part = np.ascontiguousarray(whole[:, top : top + height, left : left + width])
        view = evaluation_view(height, width, SMALL, 0, 1)
        cut = part[:, view.top : view.top + view.height, view.left : view.left + view.width]
        frames = clips[ViewKey(row, 0)].frames
        assert frames is not None
        shown = frames.permute(0, 2, 3, 1).numpy()
        reference = [cv2.resize(frame, (16, 16)) for frame in cut]
        assert (shown == np.stack(reference)).all(), name
    trained = TrainingClips(videos, SMALL, seed=0)[ClipKey(0, 0)]
    assert trained.frames is not None and not trained.failures


def test_lists_name_and_keep_regions_and_files_stay_on_one_side(root: Path, tmp_path: Path) -> None:
    data = replace(SMALL, root=table(root, *BOXES), val_fraction=0.4)
    found = find_videos(data, seed=0)
    said = {remark.kind: remark.what for remark in found.remarks}
    assert "1 of 6 regions of interest reach beyond" in said["boxes-cut"]
    assert "x,y,w,h of 1 of 5 regions of interest are fractions" in said["box-fractions"]
    assert "overlapping-segments" not in said  # two animals in one picture
    assert not set(found.train.names) & set(found.val.names)
    assert found.train.counted("training").startswith(f"{len(found.train)} training regions of")
    write_split(tmp_path / "split.csv", found.classes, found.train, found.val)
    with open(tmp_path / "split.csv", newline="") as file:
        header = next(csv.reader(file))
    assert header[4:] == ["start", "end", "subject", "x", "y", "w", "h"]
    sides = read_split_names(tmp_path / "split.csv")
    assert set(sides) == {*found.train.samples(), *found.val.samples()}
    again = list_videos(tmp_path / "split.csv", "data.root", start=root)
    assert sorted(again.videos.samples()) == sorted(sides)
    assert split_videos(again, 0.2, 0).train.extra() is not None
    other = replace(found, val=found.val.select(np.arange(len(found.val))))
    assert other.fingerprint() == found.fingerprint()
    moved = table(root, *(row.replace("20,0,20,24", "19,0,20,24") for row in BOXES), name="2.csv")
    assert find_videos(replace(data, root=moved), 0).fingerprint() != found.fingerprint()
    path = tmp_path / "predictions.csv"
    both = np.zeros((len(found.train), 2))
    write_predictions(
        path, list(found.train.names), found.train.labels, both, found.classes,
        found.train.extra(),
    )  # fmt: skip
    assert list(read_predictions(path).names) == list(found.train.samples())
    assert parse_sample_box("a.mp4@1-2#xywh=4,2,16,20") == ("a.mp4@1-2", (4, 2, 16, 20))
    assert parse_sample_box("a#xywh=b.mp4")[0] == "a#xywh=b.mp4"


@pytest.mark.parametrize(("row", "words"), [
    ("a.mp4,one,4,2,16,", "line 2: h is empty: a region of interest needs all"),
    ("a.mp4,one,left,2,16,9", "line 2: x 'left' is no number of a region"),
    ("a.mp4,one,4,2,0,9", "line 2: w 0 leaves no pixel of the picture"),
    ("a.mp4,one,50,2,10,9", r"line 2: a.mp4: x,y,w,h 50,2,10,9 holds no pixel .* 40 x 24"),
    ("a.mp4,one,4,2,1e9,9", "line 2: w '1e9' is no number of a region"),
])  # fmt: skip
def test_a_wrong_region_names_row_and_column(root: Path, row: str, words: str) -> None:
    wrong = table(root, row, "b.mp4,two,,,,", name="wrong.csv")
    with pytest.raises(UserError, match=words):
        find_videos(replace(SMALL, root=wrong), 0)


def test_other_slips_are_one_line_each(root: Path) -> None:
    lacking = table(root, "a.mp4,one,4,2,16", "b.mp4,two,,,", name="w.csv", head="path,label,x,y,w")
    with pytest.raises(UserError, match="there is no column h"):
        find_videos(replace(SMALL, root=lacking), 0)
    twice = table(root, "a.mp4,one,4,2,16,8", "a.mp4,two,4,2,16,8", name="twice.csv")
    with pytest.raises(UserError, match="a.mp4#xywh=4,2,16,8 stands in line 2 already"):
        find_videos(replace(SMALL, root=twice), 0)
    plain = table(root, *BOXES)
    with pytest.raises(UserError, match="--data.crop-box 100 0 8 8: b.mp4: it holds no pixel"):
        find_videos(replace(SMALL, root=plain, crop_box=(100.0, 0.0, 8.0, 8.0)), 0)
    with pytest.raises(UserError, match="--data.crop-box 1 2 0 8: give x y w h, the width"):
        validate(Config(data=replace(SMALL, root=plain, crop_box=(1.0, 2.0, 0.0, 8.0))))
    with pytest.raises(UserError, match="with --data.resize pad every crop is the whole frame"):
        validate(
            Config(
                data=replace(SMALL, root=plain, resize="pad"),
                evaluation=EvaluationConfig(spatial_crops=3),
            )
        )


@pytest.mark.parametrize("flip", [False, True])
def test_pad_shows_all_of_the_picture_between_black_borders(root: Path, flip: bool) -> None:
    data = replace(SMALL, resize="pad", crop_size=21, flip=flip)
    path = root / "a.mp4"
    info = probe_file(path)
    view = evaluation_view(HEIGHT, WIDTH, data, 0, 1)
    assert view.place == (4, 0, 13, 21)  # of 8 black rows four above, four below
    view = replace(view, flip=flip)
    [frame] = read_frames(path, np.array([2]), info, "auto", None)
    [shown] = read_frames(path, np.array([2]), info, "auto", view)
    expected = np.zeros((21, 21, 3), np.uint8)
    expected[4:17] = cv2.resize(frame, (21, 13))
    assert (shown == (expected[:, ::-1] if flip else expected)).all()
    upright = evaluation_view(40, 24, replace(data, crop_size=20), 0, 1)
    assert upright.place == (0, 4, 20, 12)
    wide = evaluation_view(24, 40, replace(data, crop_size=20), 0, 1, aspect=2.0)
    assert wide.place == (7, 0, 6, 20)


def test_regions_are_of_the_picture_as_it_is_shown(videos: Any, tmp_path: Path) -> None:
    kind = replace(videos.kinds["H.264"], rotation=90)
    path = tmp_path / "turned.mp4"
    videos.write(path, kind)
    info = probe_file(path)
    region, beyond = region_of((2, 3, 10, 12), info.height, info.width)
    assert region == (3, 2, 12, 10) and not beyond
    data = replace(SMALL, resize="square")
    view = evaluation_view(info.height, info.width, data, 0, 1, region=region)
    [whole] = read_frames(path, np.array([1]), info, "auto", None)
    [shown] = read_frames(path, np.array([1]), info, "auto", view)
    part = np.ascontiguousarray(whole[3:15, 2:12])
    assert (shown == cv2.resize(part, (16, 16))).all()
    # Of pixels twice as wide as high a player shows twice as many columns as there are.
    assert region_of((20, 0, 40, 10), 30, 50, aspect=2.0)[0] == (0, 10, 10, 20)
    assert region_of((-3, 0, 10, 10), 30, 50) == ((0, 0, 10, 7), True)
