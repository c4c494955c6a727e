"""``predict`` as a user runs it: what it prints, how it ends, and that it leaves nothing behind."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import slowfast_dist
from slowfast_dist.cli.main import main
from slowfast_dist.commands.predict.output import Table, percent, top, width, wrapped
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.writer import write_video
from tests.helpers.predictors import MOTIONS as CLASSES
from tests.helpers.shapes import disc, write_disc
from tests.helpers.small_model import CLIP, write_model
from tests.helpers.training_runs import ROOT, command_of, hear_ctrl_c
from tests.helpers.video_kinds import picture

DATA = os.environ.get("SLOWFAST_DIST_TEST_DATA")

pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 2, seed=0, size=32, frames=15, classes=CLASSES[:2])
    return folder


def predict(*words: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error, of the command line run in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["predict", *map(str, words), "--mixed-precision", "no", "--num-workers", "0"])
        except SystemExit as end:
            assert isinstance(end.code, int)
            code = end.code
    return code, out.getvalue(), err.getvalue()


# What it prints


PART = (
    "{path}: 0.5 of 1.0 s, from 0.3 to 0.8 s; --segments tells what happens when in all of it\n"
)
"""What a clip of 8 frames in the middle of 15, 15 a second, shows."""


def part_of(path: Path) -> str:
    return PART.format(path=path)


def test_json_is_one_object_a_video_and_the_table_says_the_same(model: Path, root: Path) -> None:
    code, out, err = predict(model, root, "--json", "--top-k", "2")
    assert code == 0 and err == (
        "4 of 4 videos are longer than what was looked at, as "
        + part_of(min(root.rglob("*.mp4")))
    )
    found = [json.loads(line) for line in out.splitlines()]
    assert [one["path"] for one in found] == sorted(map(str, root.rglob("*.mp4")))
    for one in found:
        assert one.keys() == {"path", "prediction", "confidence", "top", "seconds"}
        assert one["seconds"] == 1.0  # 15 frames at 15 a second
        assert one["top"][0] == {"class": one["prediction"], "probability": one["confidence"]}
        assert len(one["top"]) == 2 and one["top"][1]["probability"] <= one["confidence"] < 1
        assert {entry["class"] for entry in one["top"]} < set(CLASSES)
    code, out, again = predict(model, root, "--top-k", "2")
    assert (code, again) == (0, err) and len(out.splitlines()) == len(found) == 4
    for line, one in zip(out.splitlines(), found, strict=True):
        others = [f"{entry['class']} {100 * entry['probability']:.1f}" for entry in one["top"][1:]]
        words = f"{one['path']} {one['prediction']} {percent(one['confidence'])} "
        assert " ".join(line.split()) == " ".join((words + ", ".join(others)).split())


def test_what_is_not_sure_is_unknown_everywhere(model: Path, root: Path, tmp_path: Path) -> None:
    video = min(root.rglob("*.mp4"))
    _, out, _ = predict(model, video, "--json")
    [sure] = [json.loads(line) for line in out.splitlines()]
    assert sure["confidence"] < 1
    _, out, _ = predict(model, video, "--json", "--min-confidence", "1")
    assert json.loads(out) == sure | {"prediction": "unknown"}
    _, out, _ = predict(model, video, "--min-confidence", "1")
    shown = f"unknown {percent(sure['confidence']).strip()} {sure['prediction']} "
    assert shown in " ".join(out.split())
    _, out, _ = predict(model, video, "--json", "--min-confidence", f"{sure['confidence'] - 1e-6}")
    assert json.loads(out) == sure

    kept = tmp_path / "models"
    shutil.copytree(model, kept)
    path = next(kept.rglob("best_model.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"min_confidence": 1.0}))
    words = (
        "--json", "--segments", "--annotate", "--format", "via", "csv", "boris",
        "--backend", "torch",  # else OpenVINO is chosen, whose last digits are others
    )  # fmt: skip
    code, out, _ = predict(kept, video, *words, "--output", tmp_path / "out")
    found = json.loads(out)
    assert code == 0 and found["prediction"] == "unknown"
    [segment] = found["segments"]
    assert segment["class"] == "unknown" and 0 < segment["confidence"] < 1
    written = [file for file in map(Path, found["files"]) if file.suffix in (".csv", ".json")]
    assert len(written) > 2 and all("unknown" in file.read_text() for file in written)
    _, out, _ = predict(kept, video, "--json", "--min-confidence", "0")
    assert json.loads(out) == sure
    loaded = slowfast_dist.load(kept)
    assert loaded.predict(video).label == "unknown"
    assert {one.label for one in loaded.predict_segments(video)} == {"unknown"}


def test_a_class_of_that_name_is_refused(root: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path, ("unknown", "b"))
    code, _, err = predict(folder, root, "--min-confidence", "0.5")
    assert code == 2 and "--min-confidence 0.5: the model has a class 'unknown'" in err


def test_each_unreadable_input_has_its_line_and_the_others_are_predicted(
    model: Path, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad\nname.mp4").write_bytes(b"")
    good = next(iter(sorted(root.rglob("*.mp4"))))
    (tmp_path / "good.mp4").write_bytes(good.read_bytes())
    os.symlink("good.mp4", tmp_path / "same.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    bad = f"{tmp_path}/bad\\nname.mp4: empty file"
    code, out, err = predict(model, tmp_path)
    assert code == 1 and len(out.splitlines()) == 1 and f"{tmp_path}/good.mp4  " in out
    assert err.splitlines() == [
        "1 of the inputs are files that were given already", f"error: {bad}",
        f"error: {tmp_path}/pipe.mp4: a named pipe, no file",
        "looked at of " + part_of(tmp_path / "good.mp4").strip(), "2 of 3 could not be read",
    ]  # fmt: skip
    code, out, err = predict(model, tmp_path, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and lines[0] == {"path": f"{tmp_path}/bad\nname.mp4", "error": "empty file"}
    assert lines[1]["prediction"] in CLASSES and "error" in lines[2] and len(lines) == 3
    code, out, err = predict(model, tmp_path / "bad\nname.mp4")
    assert (code, out, err) == (1, "", f"error: {bad}\n")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same second at 15 and at 60 frames a second."""
    folder = tmp_path_factory.mktemp("twins")
    images = [picture(number, 32, 32) for number in range(15)]
    for rate in (15, 60):
        shown = (images[number * 15 // rate] for number in range(rate))
        write_video(folder / f"{rate}.mp4", shown, rate, {"qp": "0"})  # without a loss
    return folder


def model_of(folder: Path, frame_rate: float | str, rates: list[float]) -> Path:
    """As a training leaves it on videos of these frame rates."""
    data = replace(CLIP, frame_rate=frame_rate)  # type: ignore[arg-type]
    write_model(folder, CLASSES, data=data)
    path = folder / "best_model.json"
    facts = json.loads(path.read_text())
    facts["data"] = {"frame_rates": [{"rate": rate, "videos": 5} for rate in rates]}
    path.write_text(json.dumps(facts))
    return folder


def test_a_model_with_a_frame_rate_sees_twins_of_other_rates_alike(
    tmp_path: Path, twins: Path
) -> None:
    model = model_of(tmp_path / "models", 15.0, [15.0])
    code, out, err = predict(model, twins, "--json")
    slow, fast = (json.loads(line) for line in out.splitlines())
    assert code == 0 and "another frame rate" not in err
    assert slow["top"] == fast["top"]
    library = slowfast_dist.load(model)
    assert library.predict(twins / "15.mp4") == library.predict(twins / "60.mp4")


@pytest.mark.parametrize("rates", [[], [15.0], [30.0, 15.0]])
def test_where_frames_are_counted_other_rates_are_said(
    tmp_path: Path, twins: Path, rates: list[float]
) -> None:
    """Not where the training had them, or does not say what it had, as of older versions."""
    model = model_of(tmp_path / "models", "video", rates)
    lines = [line for line in predict(model, twins)[2].splitlines() if "frame rate" in line]
    whose = {1: "15", 2: "30 and 15"}.get(len(rates))
    spans = f"at 60 a second a clip spans 0.1 s in place of {8 / rates[0]:.1f}" if rates else ""
    expected = (
        f"1 of 2 videos have another frame rate than the training videos' {whose} a second: 1 have "
        f"60; {spans}: a training with --data.frame-rate 30 takes frames by their times"
    )
    assert lines == ([expected] if rates else [])


def test_the_part_that_several_clips_see_is_said(model: Path, root: Path, tmp_path: Path) -> None:
    path = min(root.rglob("*.mp4"))
    code, _, err = predict(model, path, "--temporal-views", "2")
    assert (code, err) == (0, "")  # 8 and 8 of 15 frames: all of it
    make_videos(tmp_path, 1, seed=0, size=32, frames=60, classes=CLASSES[:1])
    err = predict(model, tmp_path, "--temporal-views", "2")[2]
    assert "1.1 of 4.0 s, in 2 clips from 0.0 to 4.0 s; --segments" in err
    words = (tmp_path, "--segments", "--output", tmp_path / "out")
    assert "looked at" not in predict(model, *words)[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.mp4"], "INPUT gone.mp4: no such file or folder: give"),
        ([ROOT / "tests", "gone"], f"INPUT {ROOT / 'tests'}: no video below this folder ("),
        (["gone*"], "INPUT gone*: this glob matches nothing: "),
        ([], "predict: INPUT is missing: "),
    ],
)
def test_a_mistake_is_one_line(model: Path, words: list[Any], message: str) -> None:
    code, out, err = predict(model, *words)
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith(f"error: {message}")


def test_mistakes_do_not_wait_for_torch() -> None:
    code = (
        "import sys\nfrom slowfast_dist.cli.main import main\n"
        "try: main(['predict', 'run', 'gone.mp4'])\n"
        "finally: print(*{name.partition('.')[0] for name in sys.modules})"
    )
    command, environment = command_of("-c", code)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "gone.mp4: no such file" in done.stderr
    assert "numpy" in done.stdout.split()
    assert not {"torch", "sklearn", "accelerate"} & set(done.stdout.split())


def test_a_launcher_is_refused(
    model: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, out, err = predict(model, root)
    assert (code, out) == (2, "") and "the launcher started 2 (WORLD_SIZE)" in err


def test_a_place_for_results_that_cannot_be(model: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = predict(model, root, "--segments", "--output", tmp_path / "file")
    assert code == 2 and err.startswith(f"error: --output {tmp_path}/file: cannot create it (")


@pytest.mark.parametrize(
    "words",
    [("--window", "3"), ("--stride", "1"), ("--smoothing", "0"), ("--output", "x"),
     ("--seconds", "5"), ("--segments", "--seconds", "5"), ("--annotate", "--format", "boris")],
)  # fmt: skip
def test_a_flag_without_effect_is_refused(model: Path, root: Path, words: tuple[str, ...]) -> None:
    code, out, err = predict(model, root, *words)
    assert (code, out) == (2, "") and err.startswith(f"error: {words[-2]} {words[-1]}")
    assert "leave it out" in err and err.count("\n") == 1


@pytest.mark.parametrize("words", [("--segments",), ("--annotate",), ("--smoothing", "1")])
def test_a_flag_of_files_is_refused_for_a_live_source(model: Path, words: tuple[str, ...]) -> None:
    code, out, err = predict(model, "0", *words)
    assert (code, out) == (2, "") and err.startswith(f"error: {words[0]}")
    assert "not for a live source" in err


# The table


def test_top_is_sorted_and_as_long_as_there_are_classes() -> None:
    found = top(np.array([0.2, 0.3, 0.2, 0.3]), ("a", "b", "c", "d"), 3)
    assert found == [("b", 0.3), ("d", 0.3), ("a", 0.2)]
    assert [name for name, _ in top(np.array([0.2, 0.8]), ("a", "b"), 9)] == ["b", "a"]


NAMES = (
    "握手", "дать руку", "πάλη", "רוץ", "नमस्ते", "jumping into pool", "👩\u200d🚒 climbs", "x" * 70,
)  # fmt: skip


@pytest.mark.parametrize("columns", [80, 132, 40])
@pytest.mark.parametrize("count", [2, 8, 400])
@pytest.mark.parametrize("path", ["a.mp4", "v/映像" * 9 + ".mp4", "clips/" * 40 + "b.mp4"])
def test_every_line_fits_the_terminal_and_nothing_is_lost(
    columns: int, count: int, path: str
) -> None:
    """But for names that alone are longer than the terminal is wide."""
    classes = [NAMES[number % 8] + "!" * (number // 8) for number in range(count)]
    table = Table([Path("a.mp4"), Path(path)], classes, columns)
    values = np.random.default_rng(0).dirichlet(np.ones(count))
    ranked = top(values, classes, 8)
    lines = table.lines(Path(path), ranked)
    longest = max(map(width, (path, *(name for name, _ in ranked))))
    assert all(width(line) <= max(columns, longest + 20) for line in lines)
    text = " ".join(" ".join(lines).split())
    for name, value in ranked[1:]:
        assert f"{name} {100 * value:.1f}" in text
    assert text.startswith(path) and percent(ranked[0][1]).strip() in text


def test_columns_are_aligned_whatever_the_script() -> None:
    table = Table([Path("a.mp4"), Path("映像.mp4")], ("run", "握手"), 80)
    rows = [
        table.lines(Path(path), [(name, 0.75), ("run", 0.25)])[0]
        for path, name in (("a.mp4", "握手"), ("映像.mp4", "run"))
    ]
    assert [width(row[: row.index("75.0")]) for row in rows] == [17, 17]


def test_a_line_without_a_terminal_is_never_broken() -> None:
    ranked = [(f"class {number}", 0.01) for number in range(40)]
    paths = [Path("x"), Path("y" * 300)]
    [short], [long] = (Table(paths, ["class 10"], None).lines(path, ranked) for path in paths)
    assert short.startswith("x  ") and long.startswith("y" * 300 + "  class 0")
    assert short[302:] == long[302:]


def test_words_are_wrapped_with_commas() -> None:
    assert wrapped(["aa 1", "bb 2", "cc 3"], 11) == ["aa 1, bb 2,", "cc 3"]


# How it ends


def start(*words: str | Path, **options: Any) -> subprocess.Popen[str]:
    command, environment = command_of(
        "-m", "slowfast_dist", "predict", *words, "--mixed-precision", "no"
    )
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True, preexec_fn=hear_ctrl_c, **options,
    )  # fmt: skip


def many_links(folder: Path, root: Path, count: int = 1000) -> Path:
    """Copies of a video under many names: hard links would be cheaper, but not everywhere.

    What is printed about so many does not fit into a pipe: it goes on until that is read.
    """
    content = next(iter(sorted(root.rglob("*.mp4")))).read_bytes()
    for number in range(count):
        (folder / f"{number:04d}.mp4").write_bytes(content)
    return folder


def nobody_left(group: int) -> bool:
    """Whether no process of a session is left soon."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                alive = process.status() != psutil.STATUS_ZOMBIE
                left += [process.pid] if alive and os.getsid(process.pid) == group else []
        if not left:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_head_ends_it_without_a_word(model: Path, root: Path, tmp_path: Path) -> None:
    process = start(
        model, many_links(tmp_path, root), "--json", "--num-workers", "1", "--backend", "torch"
    )
    assert process.stdout is not None and process.stderr is not None
    assert "prediction" in json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(120) == 141 and nobody_left(process.pid)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "whole_group"), [(signal.SIGINT, 130, True), (signal.SIGTERM, 143, False)]
)
def test_a_signal_ends_it_without_a_word(
    model: Path, root: Path, tmp_path: Path, number: int, code: int, whole_group: bool
) -> None:
    """Ctrl-C in a terminal, which goes to all its processes, or `kill`, to it alone."""
    process = start(
        model, many_links(tmp_path, root), "--num-workers", "2", "--batch-size", "1", "--backend",
        "torch",
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    assert str(tmp_path) in process.stdout.readline()  # it is at work
    (os.killpg if whole_group else os.kill)(process.pid, number)
    assert process.wait(120) == code and nobody_left(process.pid)
    assert process.stderr.read() == ""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(model: Path, root: Path) -> None:
    command, environment = command_of("-m", "slowfast_dist", "predict", model, root)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


# Real files that break pipelines


@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="needs the folder of SLOWFAST_DIST_TEST_DATA")
def test_every_odd_file_gives_a_prediction_or_one_line(model: Path) -> None:
    """All at once, and some by themselves: the same prediction, or the same line."""
    folder = Path(DATA or "") / "odd"
    files = sorted(path for path in folder.iterdir() if path.is_file())
    code, out, err = predict(model, folder, "--json")
    together = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and [one["path"] for one in together] == list(map(str, files))
    unread = sum("error" in one for one in together)
    *notes, longer, last = err.splitlines()
    assert [line.split(":")[0].split(", the")[0] for line in notes] == [
        "2 of 34 videos are HDR (HLG 1, PQ 1)", "1 of 34 videos is partly transparent"
    ]  # fmt: skip
    assert last == f"{unread} of {len(files)} could not be read"
    assert longer.startswith("28 of 34 videos are longer than what was looked at, as ")
    assert 20 <= sum("prediction" in one for one in together) < len(files)
    assert all("\n" not in one.get("error", "") for one in together)
    for path, one in list(zip(files, together, strict=True))[::5]:
        code, out, err = predict(model, path, "--json")
        assert code == (1 if "error" in one else 0)
        assert not err or (err.startswith("looked at of ") and err.count("\n") == 1)
        [alone] = [json.loads(line) for line in out.splitlines()]
        if "error" in one:
            assert alone == one and "\n" not in one["error"] and len(one["error"]) > 9
            continue
        assert alone["seconds"] == one["seconds"] and alone["prediction"] == one["prediction"]
        assert alone["confidence"] == pytest.approx(one["confidence"], abs=1e-6)
        if one["seconds"] is not None:
            info = probe_file(path)
            assert one["seconds"] == pytest.approx(info.frames / info.fps)


# Pictures that are not as usual

WIDE = Fraction(16, 11)


def _aged(model: Path, folder: Path) -> Path:
    """The model as a version wrote it that knew nothing of the shape of pixels."""
    copy = Path(shutil.copytree(model, folder / "old"))
    [file] = copy.rglob("best_model.json")
    content = json.loads(file.read_text())
    del content["clip"]["pixel_aspect"]
    content.get("data", {}).pop("pictures", None)
    file.write_text(json.dumps(content))
    return copy


def test_an_old_model_sees_stored_pixels_and_says_so(model: Path, tmp_path: Path) -> None:
    square = write_disc(tmp_path / "a.mp4", 48, 64, None)
    wide = write_disc(tmp_path / "b.mp4", 48, 64, WIDE)
    bare = tmp_path / "c.mp4"  # the same pictures, which do not say of what shape they are
    write_disc(bare, 48, 64, None, draw=lambda n: disc(48, 64, float(WIDE), n))
    code, out, err = predict(model, square, wide, "--json")
    assert code == 0 and "pixels" not in err
    new = [json.loads(line)["top"] for line in out.splitlines()]
    code, out, err = predict(_aged(model, tmp_path), square, wide, bare, "--json")
    old = [json.loads(line)["top"] for line in out.splitlines()]
    assert code == 0 and [line for line in err.splitlines() if "pixels" in line] == [
        "1 of 3 videos has pixels that are not square (16:11), read as they are stored, up to 1.45 "
        "times too narrow: as the model was trained (pixel-aspect stored)"
    ]
    assert old[0] == new[0] and old[1] != new[1] and old[1] == old[2]


def test_whole_pictures_are_said_where_rows_had_regions(
    model: Path, root: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(model, tmp_path / "own"))
    facts = json.loads((own / "best_model.json").read_text())
    facts["data"] = facts.get("data", {}) | {"regions": 7}
    (own / "best_model.json").write_text(json.dumps(facts))
    code, _, err = predict(own, root)
    [line] = [line for line in err.splitlines() if "region" in line]
    assert code == 0 and "7 training rows" in line and "--crop-box X Y W H" in line
    assert "region" not in predict(own, root, "--crop-box", "0", "0", "0.5", "0.5")[2]
    assert "region" not in predict(model, root)[2]


def test_hdr_is_said_once_with_its_count(model: Path, tmp_path: Path) -> None:
    for number in range(3):
        write_disc(
            tmp_path / f"{number}.mp4", 48, 64, None, codec="libx265", pix_fmt="yuv420p10le",
            frames=8, color_trc=16 if number else 1,
        )  # fmt: skip
    code, _, err = predict(model, tmp_path)
    [line] = err.splitlines()
    assert code == 0 and line.startswith("2 of 3 videos are HDR (PQ 2), the others not")
