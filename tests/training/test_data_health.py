"""What a user hears when training waits for its data."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator

from slowfast_dist.config.training import Config
from slowfast_dist.data.cache.frames import FrameCache
from slowfast_dist.data.cache.plan import file_frames
from slowfast_dist.data.loaders import Loaders, make_loaders
from slowfast_dist.data.samples.batch import Batch
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.system.log import log_to_console
from slowfast_dist.system.progress import Progress
from slowfast_dist.training.data_health import DataWait, frame_rate_notes
from slowfast_dist.video.cache.store import FrameStore
from tests.helpers.small_model import write_model
from tests.helpers.training_runs import ROOT, TINY, launch, rows


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 4, seed=0, size=416, frames=12, classes=("moves left", "turns clockwise"))
    return root


@pytest.fixture(scope="module")
def loaded(root: Path) -> tuple[Config, VideoSet, Loaders]:
    data = replace(
        Config().data, root=root, num_frames=8, short_side=(64, 64), crop_size=64, num_workers=0
    )
    config = replace(Config(), data=data, global_batch_size=2, micro_batch_size=2)
    videos = find_videos(data, 0)
    return config, videos, make_loaders(config, videos, 0, 1, 1, pin=False)


def epoch(wait: DataWait, loaders: Loaders, pauses: list[float]) -> float:
    """One epoch of three steps, which wait for their batches as long as ``pauses`` say."""
    read = list(loaders.train)  # before: on a busy machine that takes long

    def slow() -> Iterator[Batch]:
        for pause, batch in zip(pauses, read, strict=True):
            time.sleep(pause)
            yield batch

    batches = wait.watch(slow())
    with Progress("epoch", 3, silent=True) as progress:
        for _ in pauses:
            with progress.waiting():
                batch = next(batches)
            time.sleep(0.3)
            progress.update(len(batch))
    return wait.end_epoch(1, progress)


def test_nothing_is_said_of_the_epoch_in_which_frames_are_first_kept(
    loaded: tuple[Config, VideoSet, Loaders], capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_console()
    config, videos, loaders = loaded
    store = FrameStore.create(file_frames(videos.train), 10**8)
    loaders.train.dataset.keep_frames(FrameCache(store, 0, 9))  # type: ignore[attr-defined]
    try:
        wait = DataWait(config, Accelerator(cpu=True), videos, loaders)
    finally:
        loaders.let_go_of_frames()
    assert epoch(wait, loaders, [0.0, 0.6, 0.6]) > 0.3 and capsys.readouterr().out == ""
    epoch(wait, loaders, [0.0, 0.6, 0.6])
    assert "went into waiting for data" in capsys.readouterr().out


def test_it_is_said_once_and_not_for_the_start_of_the_loaders(
    loaded: tuple[Config, VideoSet, Loaders], capsys: pytest.CaptureFixture[str]
) -> None:
    config, videos, loaders = loaded
    log_to_console()
    wait = DataWait(config, Accelerator(cpu=True), videos, loaders)
    assert epoch(wait, loaders, [1.0, 0.0, 0.0]) > 0.1
    assert "waiting for data" not in capsys.readouterr().out
    assert epoch(wait, loaders, [0.0, 1.0, 0.0]) > 0.1
    said = capsys.readouterr().out
    assert "of the time went into waiting for data" in said
    assert "--data.num-workers" in said and "/clip_00" in said
    assert f"python -m slowfast_dist prepare {config.data.root} OUT" in said  # 416 px are many
    epoch(wait, loaders, [0.0, 1.0, 0.0])
    assert "waiting for data" not in capsys.readouterr().out


def test_the_advice_for_a_list_says_where_its_paths_start(
    loaded: tuple[Config, VideoSet, Loaders], capsys: pytest.CaptureFixture[str]
) -> None:
    config, videos, loaders = loaded
    log_to_console()
    data = replace(config.data, root=Path("list.csv"), videos=Path("clips"))
    wait = DataWait(replace(config, data=data), Accelerator(cpu=True), videos, loaders)
    epoch(wait, loaders, [0.0, 1.0, 0.0])
    said = capsys.readouterr().out
    assert "slowfast_dist prepare list.csv --videos clips OUT" in said


SLOW = f"""
import runpy, time
from slowfast_dist.data.samples.training import TrainingClips
read = TrainingClips._read
def slowly(self, video, *rest):
    time.sleep(self.videos.path(video).parent.name == "moves left")
    return read(self, video, *rest)
TrainingClips._read = slowly
runpy.run_path({str(ROOT / "train.py")!r}, run_name="__main__")
"""
"""train.py, but each video of one class takes a second more to read, as from a slow disk."""


@pytest.mark.slow
def test_a_training_that_waits_names_its_slowest_videos(root: Path, tmp_path: Path) -> None:
    run, script = tmp_path / "run", tmp_path / "slow.py"
    script.write_text(SLOW)
    done = launch(
        script, *TINY, "--data.root", root, "--output-dir", run, "--epochs", "2",
        "--global-batch-size", "1", "--micro-batch-size", "1", "--model.norm", "frozen",
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(row["data_wait_fraction"] > 0.1 for row in rows(run, "epoch"))
    (line,) = [line for line in done.stdout.splitlines() if "slowest to read: " in line]
    known = {f"moves left/{path.name}" for path in root.glob("moves left/*.mp4")}
    named = [part.rsplit(" (", 1)[0] for part in line.split(": ", 1)[1].split(", ")]
    assert len(named) == 3 and set(named) <= known


def test_frame_rates_are_compared_with_those_that_the_weights_saw(
    loaded: tuple[Config, VideoSet, Loaders], tmp_path: Path
) -> None:
    """All alike here, and yet others than there."""
    config, videos, _ = loaded
    own = float(videos.train.rates()[0])
    best = write_model(tmp_path / "run" / "models", ("a", "b"), (1, 1), 40)
    content = json.loads((best / "best_model.json").read_text())
    for rate, said in ((own, False), (4 * own, True)):
        content["data"] = {"frame_rates": [{"rate": rate, "videos": 9}]}
        (best / "best_model.json").write_text(json.dumps(content))
        start = replace(config, model=replace(config.model, weights=best.parent))
        lines = frame_rate_notes(videos, start)
        assert len(lines) == said
        if said:
            assert f"than the {rate:g} a second that the weights saw: " in lines[0]
