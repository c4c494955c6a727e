"""A run may change its number of processes in the middle of an epoch: the same samples a step."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest

from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.folder import RunFolder
from tests.helpers.training_runs import TINY, rows, trained


def samples(run: Path) -> list[tuple[int, str, str]]:
    """The rows of a run's logs/samples.csv."""
    with open(run / "logs" / "samples.csv", encoding="utf-8", newline="") as file:
        return [(int(step), sample, video) for step, sample, video in list(csv.reader(file))[1:]]


def cut_back(run: Path, step: int) -> None:
    """Leave the run as if it had been killed after it had saved ``step``."""
    later = [path for path in (run / "checkpoints").iterdir() if int(path.name[5:]) > step]
    assert later
    for path in later:
        shutil.rmtree(path)
    RunFolder(run).set_status("running")


@pytest.mark.slow
def test_one_two_and_three_processes_take_the_same_samples_a_step(tmp_path: Path) -> None:
    """From 1 to 2 in the middle of the first epoch, from 2 to 3 in that of the second.

    10 training videos in global batches of 6: the second step of an epoch is short. The two are
    started as a user would: strings then have other hashes in each, and so sets another order,
    than in the other one and in the run that they go on with.
    """
    videos = tmp_path / "videos"
    make_videos(videos, 6, seed=0, size=32, frames=12, classes=("moves left", "moves right"))
    arguments = (
        *TINY, "--data.root", videos, "--data.val-fraction", "0.17", "--epochs", "3", "--resume",
        "auto", "--global-batch-size", "6", "--micro-batch-size", "2", "--model.norm", "local",
        "--checkpoint.every-steps", "1", "--checkpoint.keep", "99", "--log-samples",
    )  # fmt: skip
    undisturbed = trained(tmp_path / "undisturbed", *arguments)
    changing = tmp_path / "changing"
    shutil.copytree(undisturbed, changing)
    cut_back(changing, 1)
    trained(changing, *arguments, processes=2, fork=False)
    cut_back(changing, 3)
    trained(changing, *arguments, processes=3)

    log = (undisturbed / "logs" / "samples.csv").read_bytes()
    assert (changing / "logs" / "samples.csv").read_bytes() == log
    used = samples(changing)
    assert Counter(step for step, _, _ in used) == {s: 4 if s % 2 == 0 else 6 for s in range(1, 7)}
    for epoch in range(3):
        seen = [sample for step, sample, _ in used if (step - 1) // 2 == epoch]
        assert len(seen) == len(set(seen)) == 10
    assert all(sample == video for _, sample, video in used)
    assert len({tuple(s for step, s, _ in used if step == first) for first in (1, 3, 5)}) == 3

    assert RunFolder(changing).status() == "finished"
    for first, second in zip(rows(undisturbed, "step"), rows(changing, "step"), strict=True):
        assert second["step/loss"] == pytest.approx(first["step/loss"], abs=1e-3)
    assert '"processes": 3' in (changing / "environment.json").read_text()
