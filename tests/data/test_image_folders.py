"""Folders of images in class folders and lists: found, probed once, cut by their own times."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slowfast_dist.commands.prepare.command import run_prepare
from slowfast_dist.config.commands.dataset import Prepare
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data import probing
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.sampler import ViewKey
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.inference.inputs import find_inputs
from slowfast_dist.runs.videos import own_validation, trained_on
from slowfast_dist.video.images.listing import stamp_of
from slowfast_dist.video.probe import probe_file
from tests.helpers.child_modules import not_importable
from tests.helpers.video_kinds import Kind, write

SMALL = DataConfig(
    num_frames=4, sampling_rate=1, short_side=(16, 16), crop_size=16, frame_rate="video",
    val_fraction=0.5,
)  # fmt: skip


def images(folder: Path, numbers: range | list[int], seed: int = 0) -> None:
    folder.mkdir(parents=True)
    frames = np.random.default_rng(seed).integers(0, 256, (len(numbers), 20, 24, 3), dtype=np.uint8)
    for number, frame in zip(numbers, frames, strict=True):
        Image.fromarray(frame).save(folder / f"img_{number:05}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for place, name in enumerate(("run/a", "run/b", "sit/deep/c", "sit/d")):
        images(tmp_path / "data" / name, range(1, 9), place)
    (tmp_path / "data" / "sit" / "d" / "img_00004.png").unlink()
    return tmp_path / "data"


def test_class_folders_lists_and_inputs_find_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(SMALL, root=root)
    with pytest.raises(UserError, match="4 folders of images, as run/a, do not tell .* give"):
        find_videos(data, 0)
    data = replace(data, image_fps=10.0)
    found = find_videos(data, 0)
    names = sorted([*found.train.names, *found.val.names])
    assert names == ["run/a", "run/b", "sit/d", "sit/deep/c"]
    [gap] = [remark.what for remark in found.remarks if remark.kind == "image-gaps"]
    assert gap == "sit/d: 1 number is missing between its images"
    clips = EvaluationClips(found.val, data)
    frames = clips[ViewKey(0, 0)].frames
    assert frames is not None and frames.shape == (4, 3, 16, 16)
    # Known from the second time on, until an image or the rate changes.
    monkeypatch.setattr(probing, "probe_or_reason", not_importable)
    assert find_videos(data, 0).fingerprint() == found.fingerprint()
    monkeypatch.undo()
    assert find_videos(replace(data, image_fps=20.0), 0).train.rates().tolist() == [20.0] * 2
    os.utime(root / "run" / "a" / "img_00003.png", ns=(1, 1))
    (root / "run" / "b" / "fps.txt").write_text("5")
    rates = find_videos(data, 0)
    assert sorted({*rates.train.rates().tolist(), *rates.val.rates().tolist()})[0] == 5.0
    table = root.parent / "list.csv"
    rows = ["path,label,start,end", "data/run/a,run,0,0.4", "data/sit/d,sit,0.2,0.6"]
    table.write_text("\n".join([*rows, f"{root}/run/b,run,,", "data/sit/deep/c,sit,,"]) + "\n")
    listed = find_videos(replace(data, root=table), 0)
    spans = {
        side.sample(row): side.span(row)
        for side in (listed.train, listed.val) for row in range(len(side))
    }  # fmt: skip
    assert spans["data/run/a@0-0.4"] == (0, 4)
    assert spans["data/sit/d@0.2-0.6"] == (2, 5)  # number 4, of 0.3 s, is not there
    given = find_inputs([str(root), str(root / "run" / "a")]).files
    found_inputs = [str(one.path) for one in given]
    assert found_inputs == sorted(str(root / name) for name in names)


def test_what_changes_tells_and_a_video_beside_images_wins(root: Path) -> None:
    folder = root / "run" / "a"
    before = stamp_of(folder)
    (folder / "notes.txt").write_text("x")
    assert stamp_of(folder) == before
    (folder / "img_00001.png").rename(folder / "img_00020.png")
    assert stamp_of(folder) != before
    (folder / "clip.mp4").write_bytes(b"")
    (root / "sit" / "loose.jpg").touch()
    (root / "sit" / "e").mkdir()
    (root / "sit" / "e" / "cover_1.jpg").touch()
    (root / "sit" / "deep" / "c" / "flow_x_00001.jpg").touch()
    with pytest.raises(UserError, match="folders of images"):
        find_videos(replace(SMALL, root=root), 0)
    found = find_videos(replace(SMALL, root=root, image_fps=10.0), 0)
    assert [name for name, *_ in found.rejected] == ["run/a/clip.mp4"]
    [skipped] = [remark.what for remark in found.remarks if remark.kind == "skipped"]
    assert "12 files skipped: .png (8), .jpg (3), .txt (1)" in skipped
    for name in ("run", "sit"):
        for path in sorted((root / name).rglob("*.*")):
            path.rename(root / name / f"{path.parent.name}{path.name}")
        for path in sorted((root / name).rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
    (root / "run" / "aclip.mp4").unlink()
    with pytest.raises(UserError, match="a video in a folder of their own below the class's"):
        find_videos(replace(SMALL, root=root), 0)


def test_a_run_finds_those_of_another_tools_files_again_by_its_own_rate(
    root: Path, tmp_path: Path
) -> None:
    text = "video,behavior,start,end\ndata/run/a,run,0,0.4\ndata/sit/deep/c,sit,0,0.4\n"
    (root.parent / "acts.csv").write_text(text)
    (tmp_path / "run" / "models").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text(
        "data:\n" + "".join(f"  {side}: {root.parent / 'acts.csv'}\n"
                            for side in ("train_dir", "val_dir")) + "  image_fps: 10.0\n"
    )  # fmt: skip
    _, listing = own_validation(tmp_path / "run" / "models", ("run", "sit"))
    assert list(listing.videos.names) == ["data/run/a", "data/sit/deep/c"]
    assert trained_on(tmp_path / "run" / "models", listing.videos) == 2


def test_thumbnails_beside_videos_are_none_unless_their_rate_is_known(tmp_path: Path) -> None:
    for name in ("run/a.mp4", "run/b.mp4", "sit/c.mp4", "sit/d.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, Kind(".mp4", frames=8))
    images(tmp_path / "run" / "thumbs", range(1, 3))
    found = find_videos(replace(SMALL, root=tmp_path), 0)
    assert len(found.train) == len(found.val) == 2 and not found.rejected
    [skipped] = [remark.what for remark in found.remarks if remark.kind == "skipped"]
    assert "2 files skipped: .png (2); a folder of numbered images" in skipped
    inputs = find_inputs([str(tmp_path)])
    assert len(inputs.files) == 4 and "--image-fps" in str(inputs.skipped)
    assert len(find_inputs([str(tmp_path)], has_rate=True).files) == 5
    assert len(list_videos(tmp_path, "data.root", image_fps=10.0).videos) == 5
    (tmp_path / "run" / "thumbs" / "fps.txt").write_text("5")
    assert len(list_videos(tmp_path, "data.root").videos) == 5
    assert len(find_inputs([str(tmp_path)]).files) == 5


def test_prepare_makes_a_video_of_each(root: Path, tmp_path: Path) -> None:
    command = Prepare(short_side=16, num_workers=1, image_fps=10.0)
    run_prepare(root, tmp_path / "out", command)
    info = probe_file(tmp_path / "out" / "sit" / "d.mp4")
    times = info.times()
    assert times is not None
    assert times.tolist() == pytest.approx([0, 0.1, 0.2, 0.4, 0.5, 0.6, 0.7], abs=1e-4)
    assert info.frames == 7 and (info.width, info.height) == (20, 16)
