"""Maps of the hardest videos for a run's page: which are drawn, and what is said of the others."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from slowfast_dist.cli.main import main
from slowfast_dist.commands.report import run_report
from slowfast_dist.config.commands.report import Report
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError
from slowfast_dist.config.training import Config
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.report.sections.explained import EXPLAINED, KEPT
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.predictions import write_predictions
from slowfast_dist.system import signals
from slowfast_dist.training.at_end import maps
from slowfast_dist.training.at_end.maps import explain_hardest
from tests.helpers.made_runs import ENVIRONMENT
from tests.helpers.predictors import MOTIONS
from tests.helpers.small_model import write_model
from tests.helpers.training_runs import ROOT, TINY, command_of, train

pytestmark = pytest.mark.usefixtures("on_cpu")

NAMES = [f"{MOTIONS[0]}/clip_000.mp4", f"{MOTIONS[1]}/clip_000.mp4", f"{MOTIONS[2]}/clip_000.mp4"]


@pytest.fixture(scope="module")
def made(on_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three validation videos: two are wrong, the second one most."""
    root = tmp_path_factory.mktemp("maps")
    make_videos(root / "clips", 1, seed=0, size=48, frames=24, classes=MOTIONS)
    run = RunFolder(root / "run")
    config = Config(output_dir=run.root, data=DataConfig(root=root / "clips"))
    run.describe(config, list(MOTIONS), ENVIRONMENT)
    write_model(run.models, MOTIONS)
    logits = np.array([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    write_predictions(run.predictions, NAMES, np.arange(3), logits, list(MOTIONS))
    run.set_status("finished")
    return run.root


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def strips(run: Path) -> list[str]:
    return sorted(path.name for path in (run / EXPLAINED).glob("*.png"))


def test_the_hardest_get_maps_once_and_the_page_shows_them(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["report", str(run), "--explain-seconds", "9999", "--explain", "1"])
    told = capsys.readouterr()
    assert "where and when the model saw its class, in 1 of the 1 hardest videos" in told.err
    assert strips(run) == ["clip_000.explained.png"]
    page = (run / "report.html").read_text()
    assert 'id="explained"' in page and "Strip of clip_000" in page
    main(["report", str(run), "--explain-seconds", "9999"])  # the other one alone
    assert "in 2 of the 2 hardest videos" in capsys.readouterr().err
    assert strips(run) == ["clip_000-2.explained.png", "clip_000.explained.png"]
    times = [path.stat().st_mtime_ns for path in sorted((run / EXPLAINED).glob("*.png"))]
    main(["report", str(run)])
    assert "explained" not in capsys.readouterr().err
    assert times == [path.stat().st_mtime_ns for path in sorted((run / EXPLAINED).glob("*.png"))]
    # Where no still is wanted a strip is none either.
    main(["report", str(run), "--hardest", "0", "--output", str(run / "without.html")])
    assert "data:image" not in (run / "without.html").read_text()


def test_maps_of_an_older_best_model_are_drawn_anew_and_those_of_predict_stay(run: Path) -> None:
    assert explain_hardest(run, 2, 1000.0, "cpu").made == 2
    folder = run / EXPLAINED
    kept = json.loads((folder / KEPT).read_text())
    assert set(kept) == {"clip_000", "clip_000-2"} and len(set(kept.values())) == 1
    secret = run.parent / "mine.explained.png"
    secret.write_text("not of this folder")
    (folder / KEPT).write_text(json.dumps({"clip_000": "older", "../../mine": "older"}))
    for name in ("clip_000", "clip_000-2"):
        (folder / f"{name}.explained.png").write_text("as it was")
    told = explain_hardest(run, 2, 1000.0, "cpu")
    assert (told.made, told.there, told.removed) == (1, 1, 1) and told.changed
    assert (folder / "clip_000.explained.png").read_bytes()[:4] == b"\x89PNG"
    assert (folder / "clip_000-2.explained.png").read_text() == "as it was"
    assert secret.exists()
    # Of what is not among the hardest any more the older one goes.
    (folder / KEPT).write_text(json.dumps({"clip_000": kept["clip_000"], "clip_000-2": "older"}))
    told = explain_hardest(run, 1, 1000.0, "cpu")
    assert (told.made, told.there, told.removed) == (0, 1, 1)
    assert strips(run) == ["clip_000.explained.png"]


def test_what_there_is_no_time_for_is_said_with_the_command(run: Path) -> None:
    told = explain_hardest(run, 6, 0.0, "cpu")
    assert (told.made, told.late, told.changed) == (0, 2, False)
    line = told.line(run)
    assert line is not None and "in 0 of the 2 hardest videos" in line
    assert f"no time was left for 2: python -m slowfast_dist report {run} --explain 2" in line
    assert not (run / EXPLAINED).exists()


def test_a_map_that_would_end_too_late_is_not_finished(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time of its beginning, long before the limit."""
    clock = iter(np.arange(0.0, 1e4, 10.0))  # each look at it is 10 s later
    monkeypatch.setattr(maps, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    told = explain_hardest(run, 1, 60.0, "cpu")
    assert (told.made, told.late) == (0, 1) and told.seconds <= 100


@pytest.fixture
def asked_to_stop() -> Iterator[None]:
    signals.request("SIGTERM")
    yield
    signals.forget()


def test_a_signal_ends_it(run: Path, asked_to_stop: None) -> None:
    told = explain_hardest(run, 2, 1000.0, "cpu")
    assert told.made == 0 and told.stopped
    assert str(told.line(run)).endswith("it was asked to stop")


def test_without_the_videos_the_page_is_drawn_all_the_same(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run / "config.yaml"
    lines = config.read_text().splitlines()
    lines = [f"  root: {tmp_path}/gone" if one.startswith("  root:") else one for one in lines]
    config.write_text("\n".join(lines) + "\n")
    run_report([run], Report())
    err = capsys.readouterr().err
    assert "in 0 of the 2 hardest videos" in err
    assert "2 cannot be drawn: it is not there any more" in err
    assert (run / "report.html").exists()
    (run / "models" / "best_model_weights.pth").unlink()
    run_report([run], Report(videos=run.parents[1]))
    assert (run / "report.html").exists()


def test_a_part_of_a_video_is_explained_for_itself(run: Path) -> None:
    name = f"{NAMES[0]}@0.2-1.2"
    logits = np.array([[0.0, 2.0, 0.0]])
    write_predictions(
        run / "predictions" / "val_best.csv", [NAMES[0]], np.zeros(1, int), logits, list(MOTIONS),
        [("0.2", "1.2", "")],
    )  # fmt: skip
    assert explain_hardest(run, 2, 1000.0, "cpu").made == 1
    assert strips(run) == ["clip_000@0.2-1.2.explained.png"], name


def test_nothing_is_drawn_through_a_link(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.parent / "elsewhere").mkdir()
    (run / EXPLAINED).symlink_to(run.parent / "elsewhere")
    with pytest.raises(RunError, match="is a link"):
        explain_hardest(run, 2, 1000.0, "cpu")
    run_report([run], Report())
    assert "no maps of the hardest videos" in capsys.readouterr().err
    assert not list((run.parent / "elsewhere").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_ends_with_them_and_says_so(tmp_path: Path, processes: int) -> None:
    make_videos(tmp_path / "clips", 4, seed=0, size=32, frames=12, classes=MOTIONS)
    words = [*TINY[:-2], "--report.explain", "2", "--data.root", str(tmp_path / "clips")]
    words += ["--epochs", "1", "--global-batch-size", "4", "--output-dir", str(tmp_path / "run")]
    done = train(*words, "--optimizer.lr", "1e-9", processes=processes)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{EXPLAINED}/: where and when the model saw its class") == 1
    assert (tmp_path / "run" / "status").read_text() == "finished\n"


@pytest.mark.slow
def test_a_signal_among_the_maps_leaves_a_training_that_finished(tmp_path: Path) -> None:
    make_videos(tmp_path / "clips", 6, seed=0, size=32, frames=12, classes=MOTIONS)
    words = [*TINY[:-2], "--report.explain", "12", "--data.root", str(tmp_path / "clips")]
    words += ["--epochs", "1", "--global-batch-size", "4", "--output-dir", str(tmp_path / "run")]
    command, environment = command_of("train.py", *words, "--optimizer.lr", "1e-9")
    status = tmp_path / "run" / "status"
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        while not status.exists() or status.read_text() != "finished\n":
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=600)
    assert process.returncode == 0 and b"finished in" in out, out
    assert status.read_text() == "finished\n"
    assert (tmp_path / "run" / "report.html").exists()
