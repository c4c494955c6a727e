"""benchmark train: real trainings on real small videos, ours and the plain loop."""

import json
from pathlib import Path

import pytest

from slowfast_dist.cli.main import main
from slowfast_dist.commands.benchmark.train import cores_row
from slowfast_dist.data.synthetic import make_videos
from tests.helpers.training_runs import launch

SMALL = (
    "--model", "slowfast_tiny", "--num-frames", "8", "--crop-size", "32", "--short-side", "32",
    "40", "--num-workers", "1",
)  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 10, seed=0, size=32, frames=12, classes=("moves left", "turns clockwise"))
    return root


@pytest.mark.slow
def test_both_loops_train_on_the_same_videos_and_are_compared(videos: Path) -> None:
    done = launch(
        "-m", "slowfast_dist", "benchmark", "train", videos, *SMALL, "--batch-size", "3",
        "--steps", "6", "--against", "plain", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *text, last = done.stdout.splitlines()
    result = json.loads(last)
    ours, plain = result["rows"]
    assert (ours["way"], plain["way"]) == ("ours", "plain")
    assert result["ratio"] == pytest.approx(plain["clips_per_second"] / ours["clips_per_second"])
    for row in (ours, plain):
        assert 0 <= row["data_wait_fraction"] < 1
        assert row["cpu_seconds_per_clip"] > result["read_cpu_seconds_per_clip"] / 2 > 0
    first, *others = result["cores"]
    assert first["clips_per_second"] == ours["clips_per_second"]
    read = result["read_cpu_seconds_per_clip"]
    assert [row["reading_cores"] for row in others] == pytest.approx(
        [row["clips_per_second"] * read for row in others]
    )
    assert "training, end to end" in "\n".join(text)


def test_cores_are_counted_with_room_to_spare() -> None:
    row = cores_row(200.0, 0.02)
    assert row["reading_cores"] == pytest.approx(4) and row["cores"] == 6
    assert cores_row(1.0, 0.001)["cores"] == 2


def test_mistakes_are_one_line(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, words in (
        ((tmp_path / "none",), f"error: DIR {tmp_path / 'none'}: there is no such"),
        ((videos, *SMALL, "--batch-size", "1000"), "--batch-size 1000"),
        ((videos, "--short-side", "10", "20"), "--short-side 10 20"),
        ((), "DIR is missing"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["benchmark", "train", *map(str, arguments)])
        assert ended.value.code == 2
        assert words in capsys.readouterr().err.splitlines()[-1]
