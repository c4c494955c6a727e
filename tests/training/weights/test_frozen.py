"""--model.freeze auto follows from the number of training clips, and says why."""

from pathlib import Path

import pytest

from slowfast_dist.config.model import ModelConfig
from slowfast_dist.data.listing.video_table import VideoRecord
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.runs.checkpoint import Checkpoint
from slowfast_dist.training.weights.frozen import with_freeze
from tests.helpers.video_tables import table_of

LOADED = ModelConfig(weights=Path("weights.pth"), freeze="auto")


def videos(clips: int, classes: int) -> VideoSet:
    names = [f"{label % classes}/{label}.mp4" for label in range(clips)]
    table = table_of([
        VideoRecord(Path("/root") / name, name, row % classes, name)
        for row, name in enumerate(names)
    ])  # fmt: skip
    return VideoSet(tuple(map(str, range(classes))), table, table, (), True, ())


@pytest.mark.parametrize(
    ("clips", "classes", "config", "expected", "said"),
    [
        (18, 2, LOADED, "backbone", "backbone, as 18 training clips of 2 classes are 9 a class"),
        (90, 2, LOADED, 4, "4 of 5 stages, as 90 training clips of 2 classes are 45 a class"),
        (150, 3, LOADED, 2, "150 training clips of 3 classes are 50 a class, below 200"),
        (400, 2, LOADED, "none", "none, as 400 training clips of 2 classes are 200 a class, at"),
        (
            18, 2, ModelConfig(name="slowfast_tiny", freeze="auto"), "none",
            "none, as the network starts from scratch",
        ),
    ],
)  # fmt: skip
def test_it_follows_from_the_clips(
    clips: int, classes: int, config: ModelConfig, expected: object, said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level("INFO", "slowfast_dist")
    assert with_freeze(config, videos(clips, classes), None).freeze == expected
    assert said in caplog.text


def test_a_run_that_goes_on_keeps_what_it_had() -> None:
    checkpoint = Checkpoint({}, {}, {}, {"config": {"model": {"freeze": 3}}})
    assert with_freeze(LOADED, videos(400, 2), checkpoint).freeze == 3
    given = ModelConfig(freeze=1)
    assert with_freeze(given, videos(4, 2), None) is given
