"""The segments of a video in the formats of other tools; importing them gives the same again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.annotations.importing.writing import seconds
from slowfast_dist.commands.import_.command import run_import
from slowfast_dist.commands.predict.segment_files import write_segment_files
from slowfast_dist.config.commands.dataset import Import
from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.drawing.names import SUFFIXES
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.writer import write_video
from tests.helpers.predictors import predictor

FORMATS = ("boris", "elan", "label-studio", "via", "csv")
RATE = 15


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Any]]:
    """A video that is dark, light and dark, the folder of what predict wrote, and its segments."""
    folder = tmp_path_factory.mktemp("written")
    source = folder / "videos" / "a b.mp4"
    source.parent.mkdir()
    shades = np.repeat([0, 255, 0], [40, 50, 45])
    write_video(source, (np.full((48, 64, 3), shade, np.uint8) for shade in shades), RATE)
    command = Predict(segments=True, format=FORMATS, window=0.8, stride=0.2,  # type: ignore[arg-type]
                      output=folder / "out")  # fmt: skip
    done = write_segment_files(predictor(), source, probe_file(source), command)
    assert {Path(name).name.removeprefix("a b") for name in done["files"]} == {
        suffix for suffix in SUFFIXES if suffix != ".annotated.mp4"
    }
    rows = [(row["class"], row["start"], row["end"]) for row in done["segments"]]
    assert [label for label, *_ in rows] == ["dark", "light", "dark"]
    return source.parent, folder / "out", rows


@pytest.mark.parametrize(("format", "suffix"), [*zip(FORMATS, SUFFIXES[4:], strict=True)])
def test_what_is_written_for_a_tool_imports_as_the_same_segments(
    format: str, suffix: str, written: tuple[Path, Path, list[Any]],
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    videos, out, rows = written
    target = tmp_path / "annotations.csv"
    run_import([out / f"a b{suffix}"], Import(videos=videos, output=target))
    header, *lines = target.read_text().splitlines()
    assert header == "path,label,start,end" and not (tmp_path / "annotations.dropped.csv").exists()
    found = [line.split(",") for line in lines]
    assert "3 rows of 1 video and 2 classes" in capsys.readouterr().out
    assert {path for path, *_ in found} == {"a b.mp4"}
    for (label, start, end), (_, other, first, last) in zip(rows, sorted(
        found, key=lambda row: float(row[2])), strict=True):  # fmt: skip
        assert label == other
        if format == "label-studio":  # whole frames
            assert float(first) == pytest.approx(start, abs=0.51 / RATE)
            assert float(last) == pytest.approx(end, abs=0.51 / RATE)
        else:
            assert (first, last) == (seconds(start), seconds(end))


def test_an_output_that_exists_is_kept(written: tuple[Path, Path, object], tmp_path: Path) -> None:
    videos, out, _ = written
    target = tmp_path / "annotations.jsonl"
    target.write_text("mine")
    with pytest.raises(UserError, match="--output .*is there already.*--overwrite"):
        run_import([out / "a b.eaf"], Import(videos=videos, output=target))
    assert target.read_text() == "mine"
    run_import([out / "a b.eaf"], Import(videos=videos, output=target, overwrite=True))
    first = json.loads(target.read_text().splitlines()[0])
    assert first["path"] == "a b.mp4" and (first["label"], first["start"]) == ("dark", 0.0)
