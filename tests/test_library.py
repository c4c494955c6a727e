"""``import slowfast_dist`` as a program uses it: frames, a training and its model, and no torch
before it is needed."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slowfast_dist
from slowfast_dist.cli.parser import parse_training
from slowfast_dist.cli.presets import preset_names
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.distributed.accelerator import make_accelerator
from slowfast_dist.library import _as_parsed
from tests.helpers.training_runs import ROOT, TINY, command_of, launch, rows, trained
from tests.helpers.video_kinds import Videos

MOTIONS = ("moves left", "moves right")

FLAGS = (
    *TINY, "--data.root", "videos", "--data.val-fraction", "0.4", "--epochs", "2",
    "--global-batch-size", "4", "--micro-batch-size", "2",
)  # fmt: skip
"""A training of 2 epochs with 2 steps each, in a folder with ``videos``."""

CLOCK = {"epoch_seconds", "clips_per_second", "data_wait_fraction"}
"""What no two runs have alike in metrics.jsonl."""


pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs of these tests start: 6 small videos lie in it, and one of 3 s."""
    folder = tmp_path_factory.mktemp("library")
    make_videos(folder / "videos", 5, seed=0, size=32, frames=12, classes=MOTIONS)
    make_videos(folder / "other", 1, seed=1, size=48, frames=45, classes=MOTIONS[1:])
    (folder / "other" / "moves right" / "clip_000.mp4").rename(folder / "video.mp4")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """The run that the command line makes of FLAGS."""
    videos = folder / "videos"
    flags = [str(videos) if flag == "videos" else flag for flag in FLAGS]
    return trained(folder / "by_command", *flags)


def program(text: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in ``folder``, where ``words`` are its arguments, as `command_of` runs ours."""
    _, environment = command_of("-")
    return subprocess.run(
        [sys.executable, "-c", text, *words], cwd=folder, capture_output=True, text=True,
        env=environment | {"PYTHONPATH": str(ROOT)}, timeout=600,
    )  # fmt: skip


def timeless(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, without times."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in CLOCK}
        for line in lines
    ]


# --- what is imported ----------------------------------------------------------------------------


def test_an_import_brings_nothing_slow_and_frames_need_no_torch(folder: Path) -> None:
    done = program(
        "import sys, slowfast_dist\n"
        "slow = {'torch', 'torchvision', 'accelerate', 'av', 'cv2', 'decord', 'numpy', 'tyro',"
        " 'yaml', 'wandb', 'sklearn', 'typing'}\n"
        "print(slow & set(sys.modules))\n"
        "assert set(slowfast_dist.__all__) <= set(dir(slowfast_dist))\n"
        "found = slowfast_dist.probe('video.mp4')\n"
        "print(found.frames, found.fps, found.width, found.height, found.light)\n"
        "print(slowfast_dist.read_frames('video.mp4', [3]).shape)\n"
        "slowfast_dist.load_config('demo')\n"
        "print({'torch', 'accelerate', 'wandb', 'sklearn'} & set(sys.modules))\n",
        folder,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "set()", "45 15.0 48 48 sdr", "(1, 48, 48, 3)", "set()",
    ]  # fmt: skip


def test_every_name_is_there_and_documented_and_no_other() -> None:
    for name in slowfast_dist.__all__:
        assert getattr(slowfast_dist, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        slowfast_dist.trian  # type: ignore[attr-defined]  # noqa: B018


# --- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["H.264", "H.264 variable frame rate", "H.264 open GOP, cut", "H.264 AVI", "VP9"]
)
def test_frames_are_those_of_a_full_decode(videos: Videos, kind: str) -> None:
    path = videos.path(kind)
    whole = videos.whole(path)
    found = slowfast_dist.probe(path)
    assert found.frames == len(whole)
    assert (found.height, found.width, 3) == whole[0].shape
    for indices in ([5], [found.frames - 1, 0, 7, 7], np.arange(found.frames)[::-1], range(2)):
        frames = slowfast_dist.read_frames(str(path), indices)
        assert frames.dtype == np.uint8
        np.testing.assert_array_equal(frames, np.stack([whole[index] for index in indices]))
    assert slowfast_dist.read_frames(path, []).shape == (0, found.height, found.width, 3)


@pytest.mark.parametrize("rotation", [90, 180])
def test_a_rotated_video_is_upright(videos: Videos, tmp_path: Path, rotation: int) -> None:
    path = videos.write(tmp_path / "a.mp4", replace(videos.kinds["H.264"], rotation=rotation))
    found = slowfast_dist.probe(path)
    assert (found.height, found.width) == ((128, 64) if rotation == 90 else (64, 128))
    frames = slowfast_dist.read_frames(path, [0, 20])
    whole = videos.whole(path)
    np.testing.assert_array_equal(frames, np.stack([whole[0], whole[20]]))


def test_paths_are_relative_and_a_file_that_changed_is_probed_anew(
    videos: Videos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, frames in (("one", 20), ("two", 30)):
        (tmp_path / name).mkdir()
        videos.write(tmp_path / name / "a.mp4", replace(videos.kinds["H.264"], frames=frames))
        monkeypatch.chdir(tmp_path / name)
        assert slowfast_dist.probe("a.mp4").frames == frames
        assert videos.number(slowfast_dist.read_frames("a.mp4", [frames - 1])[0]) == frames - 1
    shutil.copy(tmp_path / "one" / "a.mp4", "a.mp4")
    assert slowfast_dist.probe("a.mp4").frames == 20


def test_what_cannot_be_read_is_one_line(videos: Videos, tmp_path: Path) -> None:
    path = videos.path("H.264")
    (tmp_path / "text.mp4").write_text("no video")
    os.mkfifo(tmp_path / "pipe.mp4")
    half = tmp_path / "half.mp4"
    half.write_bytes(path.read_bytes()[:2000])
    for bad, words in (
        ("nothing.mp4", "No such file"), ("text.mp4", "text file, not a video"),
        (".", "is no video"), ("pipe.mp4", "is no file"), ("half.mp4", "cut off"),
        ("nu\0ll", "null"),
    ):  # fmt: skip
        for read in (slowfast_dist.probe, lambda path: slowfast_dist.read_frames(path, [0])):
            with pytest.raises(slowfast_dist.UserError, match=words):
                read(tmp_path / bad)
    for indices, words in (
        ([0, 40], "index 40: give numbers from 0 to 39"), ([-1], "index -1"),
        ([0.5], "a list of whole numbers"), ([[1]], "a list of whole numbers"),
        (3, "a list of whole numbers"), (["1"], "a list of whole numbers"),
    ):  # fmt: skip
        with pytest.raises(slowfast_dist.UserError, match=words):
            slowfast_dist.read_frames(path, indices)  # type: ignore[arg-type]


# --- settings ------------------------------------------------------------------------------------


def test_settings_are_those_of_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 3\nseed: 4\n")
    flags: list[str | Path] = ["--config", file, "--seed", "5", "--data.root", tmp_path]
    config = slowfast_dist.load_config(flags=flags)
    assert (config.epochs, config.seed, config.data.root) == (3, 5, tmp_path)
    assert config == parse_training(["finetune", *map(str, flags)])
    for preset in preset_names():
        found = slowfast_dist.load_config(preset, ["--data.root", "videos"])
        assert found == parse_training([preset, "--data.root", "videos"])
        assert _as_parsed(found) == found


@pytest.mark.parametrize(
    ("preset", "flags", "words"),
    [
        ("finetuned", (), "no such preset .* did you mean finetune"),
        ("--epochs", ("3",), "no such preset"),
        ("demo", ("--epochs", "many"), "--epochs many: give a whole number"),
        ("demo", ("--help",), "--help: is for the command line"),
        ("demo", "--epochs 3", "give a list with one word each"),
        ("demo", ("finetune",), "a second preset"),
    ],
)
def test_settings_that_the_command_line_refuses_are_refused(
    preset: str, flags: Any, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(slowfast_dist.UserError, match=words):
        slowfast_dist.load_config(preset, flags)
    assert capfd.readouterr() == ("", "")


# --- training ------------------------------------------------------------------------------------

TRAIN = """
import json, signal, sys
from dataclasses import replace
import slowfast_dist

handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
config = slowfast_dist.load_config(flags=sys.argv[1:])
# As a caller may write it: the paths as strings, here relative ones.
config = replace(config, output_dir="by_library", data=replace(config.data, root="videos"))
result = slowfast_dist.train(config)
assert handlers == [
    signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
]
again = slowfast_dist.train(replace(config, resume="auto"))
model = slowfast_dist.load(result["output_dir"] + "/models")
one = model.predict("video.mp4")
segments = model.predict_segments("video.mp4")
with open("answers.json", "w") as file:
    json.dump([result, again, model.classes, vars(one), [vars(s) for s in segments]], file)
"""


def test_a_program_trains_and_predicts_as_the_command_line_does(folder: Path, run: Path) -> None:
    done = program(TRAIN, folder, *FLAGS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    result, again, classes, one, segments = json.loads((folder / "answers.json").read_text())
    library = folder / "by_library"
    assert timeless(library) == timeless(run)
    last = rows(library, "epoch")[-1]
    best = [row for row in rows(library, "epoch") if row["best"]][-1]
    assert last["epoch"] == 2 and again == result
    assert result.pop("best") == {
        "monitor": "val/loss", "mode": "min", "value": best["val/loss"], "epoch": best["epoch"],
        "global_step": best["global_step"],
    }  # fmt: skip
    assert result.pop("output_dir") == str(library) and result.pop("status") == "finished"
    assert result == {name: last[name] for name in last if name not in ("kind", "best")}

    assert tuple(classes) == MOTIONS
    command = launch(
        "-m", "slowfast_dist", "predict", run, folder / "video.mp4", "--json", "--segments",
        "--output", folder / "predictions", "--backend", "torch",
    )  # fmt: skip
    assert command.returncode == 0, command.stderr
    said = json.loads(command.stdout.splitlines()[-1])
    assert (one["label"], one["probability"]) == (said["prediction"], said["confidence"])
    assert list(one["probabilities"].items()) == [
        (entry["class"], entry["probability"]) for entry in said["top"]
    ]
    assert sum(one["probabilities"].values()) == pytest.approx(1)
    assert [
        (row["start"], row["end"], row["class"], row["confidence"]) for row in said["segments"]
    ] == [
        (round(s["start"], 3), round(s["end"], 3), s["label"], round(s["probability"], 4))
        for s in segments
    ]
    assert (segments[0]["start"], segments[-1]["end"]) == (0, pytest.approx(3))


INTERRUPTED = """
import json, os, signal, sys, threading, time
from dataclasses import replace
from pathlib import Path
import slowfast_dist

def interrupt():
    while not Path("stopped/metrics.jsonl").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=interrupt).start()
flags = [*sys.argv[1:], "--output-dir", "stopped", "--epochs", "40"]
config = slowfast_dist.load_config(flags=flags)
first = slowfast_dist.train(config)
more = first.get("epoch", 0) + 1
second = slowfast_dist.train(
    replace(config, epochs=more, resume="auto", resume_changed=True)
)
print(json.dumps([first, second]))
"""


@pytest.mark.slow
def test_ctrl_c_stops_a_training_which_the_same_program_can_continue(folder: Path) -> None:
    done = program(INTERRUPTED, folder, *FLAGS)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert first["status"] == "preempted" and second["status"] == "finished"
    assert first.get("epoch", 0) < 39 and second["epoch"] == first.get("epoch", 0) + 1


def test_mistakes_reach_the_caller(folder: Path, run: Path, tmp_path: Path) -> None:
    config = slowfast_dist.load_config(flags=[*FLAGS, "--output-dir", str(tmp_path / "run")])
    name: Any = "rmsprop"
    optimizer = replace(config.optimizer, name=name)
    there = replace(config.data, root=folder / "videos")
    for wrong, words in (
        (replace(config, data=replace(config.data, root=Path("nowhere"))), "nowhere"),
        (replace(config, optimizer=optimizer), "optimizer.name rmsprop: give adam, adamw or sgd"),
        (replace(config, epochs=0), "--epochs 0"),
        (replace(config, data=there, output_dir=run), "holds a run already .*--resume auto"),
    ):
        with pytest.raises(slowfast_dist.UserError, match=words):
            slowfast_dist.train(wrong)
    assert not (tmp_path / "run").exists()
    with pytest.raises(slowfast_dist.UserError, match="there is no such folder"):
        slowfast_dist.load("nowhere")
    (tmp_path / "text.mp4").write_text("no video")
    model = slowfast_dist.load(run)
    for read in (model.predict, model.predict_segments):
        with pytest.raises(slowfast_dist.UserError, match="text.mp4: text file, not a video"):
            read(tmp_path / "text.mp4")


def test_a_model_answers_alike_whatever_is_computed_in_between(folder: Path, run: Path) -> None:
    video = folder / "video.mp4"
    model = slowfast_dist.load(run)
    before = model.predict(video)
    # As a training in another precision makes one.
    assert make_accelerator("bf16", 120.0).mixed_precision == "bf16"
    assert model.predict(video) == before
    assert slowfast_dist.load(str(run)).predict(str(video)) == before
