"""The files about a video: an annotated copy that plays as the source does, and their names."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from slowfast_dist.commands.predict.annotate import CaptionOverlay
from slowfast_dist.commands.predict.segment_files import write_segment_files
from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.inference.drawing.names import claim_name
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from tests.helpers.predictors import predictor
from tests.helpers.video_kinds import KINDS, Kind, write
from tests.video.test_writer import packets_of, with_sound

BOTH = Predict(segments=True, annotate=True, window=0.4, stride=0.2)


def shown(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    return [time - times[0] for time in times]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        KINDS["H.264 variable frame rate"],
        Kind(".mov", rotation=90, size=(200, 120)),
        Kind(".mp4", size=(241, 321), pix_fmt="yuv444p", frames=10),
    ],
    ids=["VFR", "rotated", "odd size"],
)
def test_the_copy_shows_the_same_at_the_same_times(kind, tmp_path):
    source = write(tmp_path / f"video{kind.suffix}", kind)
    info = probe_file(source)
    command = replace(BOTH, segments=False, output=tmp_path / "out")
    done = write_segment_files(predictor(), source, info, command)
    (name,) = done["files"]
    copy = probe_file(Path(name))
    factor = max(1, -(-160 // info.width), -(-96 // info.height))
    height, width = info.height * factor, info.width * factor
    assert (copy.frames, copy.rotation, copy.codec) == (info.frames, 0, "h264")
    assert (copy.height, copy.width) == (height + height % 2, width + width % 2)
    np.testing.assert_allclose(shown(Path(name)), shown(source), atol=1e-4)
    numbers = np.array([0, info.frames - 1])
    before = read_frames(source, numbers, info, "pyav", None).repeat(factor, 1).repeat(factor, 2)
    after = read_frames(Path(name), numbers, copy, "pyav", None)[:, :height, :width]
    upper = slice(0, height // 2)
    assert np.abs(before[:, upper].astype(int) - after[:, upper]).mean() < 6
    assert after[:, -4:].mean() < 0.6 * before[:, -4:].mean()  # the dark edge


@pytest.mark.parametrize("size", [(96, 160), (480, 640), (2160, 3840), (720, 300)])
def test_the_bar_is_as_long_as_the_probability(size):
    height, width = size
    overlay = CaptionOverlay(height, width)
    lengths = []
    for probability in (0.0, 0.5, 1.0):
        picture = np.full((height, width, 3), 200, np.uint8)
        overlay.draw(picture, 5.0, "a name that is longer than most", "#0000ff", probability)
        lengths.append(int((picture == (0, 0, 255)).all(axis=2).any(axis=0).sum()))
        assert (picture[: height // 3] == 200).all()
    assert lengths[0] == 0 and lengths[1] == pytest.approx(lengths[2] / 2, abs=2)
    assert lengths[2] > width / 2


def test_the_files_say_the_same_and_sound_is_copied(tmp_path):
    source = with_sound(tmp_path / "tone.mp4", "aac")
    command = replace(BOTH, smoothing=0.0, output=tmp_path / "out")
    done = write_segment_files(predictor(), source, probe_file(source), command)
    names = ["segments.json", "segments.csv", "timeline.png", "annotated.mp4"]
    assert done["files"] == [str(tmp_path / "out" / f"tone.{name}") for name in names]
    content = json.loads((tmp_path / "out" / "tone.segments.json").read_text())
    assert content["segments"] == done["segments"] and content["duration"] == 2.0
    with open(tmp_path / "out" / "tone.segments.csv", newline="") as file:
        rows = [{**row} for row in csv.DictReader(file)]
    assert rows == [{key: str(value) for key, value in row.items()} for row in done["segments"]]
    assert [data for _, data in packets_of(Path(done["files"][3]))] == [
        data for _, data in packets_of(source)
    ]


@pytest.mark.slow
def test_a_sound_that_does_not_fit_is_left_out_with_a_word(tmp_path, capfd):
    source = with_sound(tmp_path / "tone.mkv", "pcm_s16le")
    command = replace(BOTH, segments=False, output=tmp_path / "out")
    done = write_segment_files(predictor(), source, probe_file(source), command)
    assert "its sound (pcm_s16le) does not go into an mp4" in capfd.readouterr().err
    with av.open(done["files"][0]) as container:
        assert not container.streams.audio


@pytest.mark.slow
def test_a_copy_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path):
    source = write(tmp_path / "video.mp4", KINDS["H.264"])
    (tmp_path / "out").mkdir()
    claim_name(tmp_path / "out", source)
    (tmp_path / "out" / "video.annotated.mp4").mkdir()  # it cannot be replaced
    command = replace(BOTH, segments=False, output=tmp_path / "out")
    with pytest.raises(RunError, match="video.annotated.mp4: cannot be written"):
        write_segment_files(predictor(), source, probe_file(source), command)
    assert sorted(os.listdir(tmp_path / "out")) == [".video.source", "video.annotated.mp4"]


def test_names_are_kept_apart_and_found_again(tmp_path):
    out = tmp_path / "out"
    first, second = tmp_path / "a" / "clip.mp4", tmp_path / "b" / "clip.mp4"
    assert [claim_name(out, path) for path in (first, second, tmp_path / "clip.avi")] == [
        "clip", "clip-2", "clip-3",
    ]  # fmt: skip
    assert claim_name(out, second) == "clip-2" and claim_name(out, first) == "clip"
    (out / "mine.timeline.png").write_text("somebody's")
    assert claim_name(out, tmp_path / "mine.mp4") == "mine-2"
    long = claim_name(out, tmp_path / ("é" * 120 + ".mp4"))
    assert len(f".{long}.annotated.mp4.1234567.tmp".encode()) < 255
    claim_name(out, Path(os.fsdecode(b"/x/caf\xe9.mp4")))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output"):
        claim_name(tmp_path / "file" / "out", first)
