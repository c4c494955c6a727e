"""wandb for real: offline runs read back from disk, and every way in which a run can be refused.

What involves a key, a terminal or a broken wandb runs in a process of its own.
"""

import json
import os
import pty
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from slowfast_dist.config.checks import validate
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config, WandbConfig
from slowfast_dist.data.listing.video_table import VideoRecord, VideoTable
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.metrics.summary import HardVideo, Predictions, hardest_videos
from slowfast_dist.runs.metrics_file import MetricsFile, read_metrics
from slowfast_dist.tracking import wandb_media
from slowfast_dist.tracking.wandb_media import confusion_image, hardest_table, per_class_table
from slowfast_dist.tracking.wandb_run import NullRun, WandbRun, open_wandb
from slowfast_dist.tracking.wandb_upload import contents
from slowfast_dist.video.probe import probe_file
from tests.helpers.video_tables import table_of
from tests.helpers.wandb_files import history, records, without_account

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    yield from without_account(monkeypatch, tmp_path / "home")


def opened(run_dir: Path, run_id: str | None = None, **config: Any) -> WandbRun:
    run = open_wandb(WandbConfig(**config), run_dir, {"data": {"root": "videos"}}, run_id)
    assert isinstance(run, WandbRun)
    return run


def in_a_process(
    script: str, folder: Path, terminal: bool = False, **environment: str
) -> tuple[int, str]:
    """Exit code and output of a script, which has `open_wandb` and `run_dir`; at most 300 s.

    On a terminal nobody answers a prompt, so that one would show as a timeout.
    """
    head = f"""
        from pathlib import Path
        from slowfast_dist.config.errors import UserError
        from slowfast_dist.config.training import WandbConfig
        from slowfast_dist.tracking.wandb_run import open_wandb
        run_dir = Path({str(folder / "run")!r})
    """
    program = textwrap.dedent(head) + textwrap.dedent(script)
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=os.environ | environment,
        stdin=theirs if terminal else subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        code = process.wait(300)
    finally:
        process.kill()
    output = b""
    try:
        while part := os.read(ours, 65536):
            output += part
    except OSError:  # how a terminal says that its other end is closed
        pass
    os.close(ours)
    return code, output.decode().replace("\r\n", "\n")


def test_offline_run_holds_the_numbers_of_metrics_jsonl(tmp_path: Path) -> None:
    run_dir = tmp_path / "my run"
    metrics = MetricsFile(run_dir / "metrics.jsonl")
    run = opened(run_dir, tags=("a",))
    rng = np.random.default_rng(0)
    for step in range(1, 13):
        numbers = {"loss": rng.exponential(), "lr": 1e-4 / step, "grad_norm": rng.exponential()}
        run.log_step(metrics.write("step", epoch=(step + 3) // 4, global_step=step, **numbers))
        if step % 4 == 0:
            row = {
                f"{side}/{name}": float(rng.random())
                for side in ("train", "val")
                for name in ("loss", "accuracy", "f1_macro")
            }
            row |= {"lr": 1e-4 / step, "grad_norm": 1 / 3, "best": step == 4}
            row["val/loss"] = float("nan") if step == 8 else row["val/loss"]
            run.log_epoch(metrics.write("epoch", epoch=step // 4, global_step=step, **row))
    run.finish()

    written = [
        {key: value for key, value in row.items() if key != "kind" and value is not None}
        for row in read_metrics(metrics.path)
    ]
    assert len(written) == 15
    assert history(run_dir) == written

    found = records(run_dir)
    axes = {r.metric.name: r.metric.step_metric for r in found if r.HasField("metric")}
    assert axes == {
        "epoch": "",
        "global_step": "",
        "loss": "global_step",
        "lr": "global_step",
        "grad_norm": "global_step",
        "best": "epoch",
        **{name: "epoch" for name in row if "/" in name},
    }
    (info,) = [record.run for record in found if record.HasField("run")]
    assert (info.run_id, info.display_name, info.project) == (run.id, "my run", "slowfast_dist")
    config = {item.key: json.loads(item.value_json) for item in info.config.update}
    assert config["data"] == {"root": "videos"} and list(info.tags) == ["a"]
    assert {name for name in os.environ if name.startswith("WANDB_")} <= {"WANDB_SERVICE"}
    assert list((tmp_path / "home").rglob("*")) == []


def test_a_resumed_run_keeps_its_id_and_may_go_back_in_steps(tmp_path: Path) -> None:
    first = opened(tmp_path)
    for step in range(1, 9):
        first.log_step({"epoch": 1, "global_step": step, "loss": float(step)})
    first.finish(exit_code=1)
    time.sleep(1.1)  # wandb names folders by the second
    second = opened(tmp_path, first.id)
    second.log_step({"epoch": 1, "global_step": 5, "loss": 0.5})
    second.finish()
    assert second.id == first.id
    assert history(tmp_path) == [{"epoch": 1, "global_step": 5, "loss": 0.5}]
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 2


def test_the_line_on_how_to_sync_names_every_segment_of_a_resumed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(run_id: str | None) -> tuple[str, str]:
        run = opened(tmp_path / "my runs", run_id)
        run.log_step({"epoch": 1, "global_step": 1, "loss": 1.0})
        run.finish()
        time.sleep(1.1)  # wandb names folders by the second
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "wandb sync" in line]
        return str(run.id), line.partition("wandb sync ")[2]

    run_id, first = start(None)
    other, _ = start(None)  # of another run in the same place
    _, second = start(run_id)
    places = tmp_path / "my runs" / "wandb"
    segments = sorted(map(str, places.glob(f"offline-run-*-{run_id}")))
    assert shlex.split(first) == segments[:1] and other != run_id
    assert shlex.split(second) == segments and len(segments) == 2
    (places / segments[0] / f"run-{run_id}.wandb.synced").touch()  # as wandb sync leaves it
    _, third = start(run_id)
    newest = sorted(map(str, places.glob(f"offline-run-*-{run_id}")))[-1]
    assert shlex.split(third) == [segments[1], newest]


def test_confusion_matrix_as_chart_and_as_image(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.log_confusion(np.array([[3, 1], [0, 2]]), ("walk", "été, run"))
    run.log_confusion(np.eye(51, dtype=np.int64), [str(index) for index in range(51)])
    run.finish()
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/**/*.json")
    assert json.loads(table.read_text(encoding="utf-8"))["data"] == [
        ["walk", "walk", 3],
        ["walk", "été, run", 1],
        ["été, run", "walk", 0],
        ["été, run", "été, run", 2],
    ]
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/**/*.png"))) == 1
    assert not run._warned


def test_confusion_image_shows_each_row_as_shares() -> None:
    matrix = np.zeros((60, 60), np.int64)
    matrix[3, 5], matrix[7, 7], matrix[7, 8] = 10, 1, 3
    pixels = np.asarray(confusion_image(matrix))
    side = len(pixels) // 60
    assert len(pixels) >= 800 and pixels.shape == (60 * side, 60 * side, 3)
    cells = pixels[::side, ::side].astype(int).sum(axis=2)
    assert cells[3, 5] == 8 + 48 + 107 and cells[0, 0] == 3 * 255
    assert cells[3, 5] < cells[7, 8] < cells[7, 7] < cells[5, 3]


@pytest.mark.parametrize("wanted", [False, True])
def test_the_model_is_an_artifact_only_where_asked_for(tmp_path: Path, wanted: bool) -> None:
    models = tmp_path / "models"
    models.mkdir()
    facts = {"epoch": 3, "metrics": {"val/loss": 0.5}, "classes": ["a", "b"], "per_class": []}
    (models / "best_model.json").write_text(json.dumps(facts))
    run = opened(tmp_path, log_model=wanted)
    run.log_model(models, "# It tells a from b")
    run.finish()
    found = [record.artifact for record in records(tmp_path) if record.HasField("artifact")]
    assert [[entry.path for entry in one.manifest.contents] for one in found] == (
        [["best_model.json"]] if wanted else []
    )
    for artifact in found:
        assert artifact.type == "model" and artifact.name == f"model-{run.id}"
        assert artifact.description == "# It tells a from b"
        assert set(artifact.aliases) == {"best", "epoch-3", "latest"}
        assert json.loads(artifact.metadata) == {
            "epoch": 3, "metrics": {"val/loss": 0.5}, "classes": ["a", "b"],
        }  # fmt: skip
    assert not run._warned


def test_the_best_epoch_is_in_the_summary(tmp_path: Path) -> None:
    run = opened(tmp_path)
    for epoch, loss in enumerate((0.9, 0.4, 0.7), 1):
        row = {"epoch": epoch, "global_step": 4 * epoch, "val/loss": loss, "lr": 0.1}
        run.log_epoch(row)
        if loss == 0.4:
            run.summarise_best(row | {"train/loss": None})
    run.finish()
    summary: dict[str, Any] = {}
    for record in records(tmp_path):
        for item in record.summary.update:
            summary["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    assert {name: value for name, value in summary.items() if name.startswith("best/")} == {
        "best/epoch": 2, "best/global_step": 8, "best/val/loss": 0.4,
    }  # fmt: skip
    assert not run._warned


CLASSES = ("moves down", "moves up")


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> VideoTable:
    """Four good videos, then one that is gone and one that hangs its decoder: a pipe."""
    root = tmp_path_factory.mktemp("validation")
    make_videos(root, 2, 0, size=64, frames=40, classes=CLASSES)
    good = [f"{name}/clip_00{index}.mp4" for name in CLASSES for index in range(2)]
    os.mkfifo(root / "pipe.mp4")
    names = [*good, "gone.mp4", "pipe.mp4"]
    found = [probe_file(root / name) for name in good]
    videos = [VideoRecord(root / name, name, 0, name) for name in names]
    return table_of(videos, [*found, found[0], found[0]])


LOGITS = np.array([[2.0, 0], [0, 3.0], [0, 1.0], [0, 2.0], [0, 0.5], [0, 4.0]])
"""Of `validation`, where every label is 0."""


def hardest(videos: VideoTable) -> list[HardVideo]:
    """The five hardest of `validation`, as its LOGITS have them."""
    labels = np.zeros(6, np.int64)
    return hardest_videos(Predictions.from_logits(videos.names, labels, LOGITS, CLASSES), 5)


def test_the_hardest_videos_play(
    tmp_path: Path, validation: VideoTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_media, "TABLE_SECONDS", 300.0)
    videos, run = hardest(validation), opened(tmp_path)
    assert run.log_hardest(2, lambda: hardest_table(videos, validation, DataConfig()))
    rows = [{"class": "moves up", "precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 4}]
    run.log_per_class(2, rows)
    run.finish()
    assert not run._warned

    stored = {
        entry.path: Path(entry.local_path)
        for record in records(tmp_path)
        if record.HasField("artifact")
        for entry in record.artifact.manifest.contents
    }
    (file,) = [path for name, path in stored.items() if name.endswith("hardest.table.json")]
    table = json.loads(file.read_text(encoding="utf-8"))
    assert table["columns"] == [
        "video", "clip", "class", "prediction", "confidence", "probability", "loss",
    ]  # fmt: skip
    order = ["pipe.mp4", "moves down/clip_001.mp4", "moves up/clip_001.mp4",
             "moves up/clip_000.mp4", "gone.mp4"]  # fmt: skip
    assert [row[0] for row in table["data"]] == order
    assert [row[2:4] for row in table["data"]] == [["moves down", "moves up"]] * 5
    assert [row[6] for row in table["data"]] == [hard.loss for hard in videos]
    assert [row[1] is None for row in table["data"]] == [True, False, False, False, True]
    for row in table["data"][1:4]:
        assert row[1]["caption"] == "moves down, taken for moves up"
        with av.open(stored[row[1]["path"]]) as container:
            frames = list(container.decode(video=0))
        assert len(frames) == round(40 / 15 * 10) and frames[0].format.name == "yuv420p"
        assert (frames[0].width, frames[0].height) == (64, 64)
    (file,) = tmp_path.glob("wandb/offline-run-*/files/media/table/best/per_class_*.json")
    assert json.loads(file.read_text())["data"] == [["moves up", 1.0, 0.5, 2 / 3, 4]]
    logged = [row["epoch"] for row in history(tmp_path)]
    assert logged == [2, 2]


def test_a_table_ends_in_time(
    tmp_path: Path, validation: VideoTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_media, "TABLE_SECONDS", 0.0)
    run = opened(tmp_path)
    table = hardest_table(hardest(validation), validation, DataConfig())
    run.finish()
    assert [row[1] for row in table.data] == [None] * 5


def test_hardest_videos_wait_while_they_took_too_much_of_the_run(tmp_path: Path) -> None:
    run, drawn = opened(tmp_path), [0]

    def draw() -> Any:
        time.sleep(0.1)
        drawn[0] += 1
        return per_class_table([])

    assert run.log_hardest(1, draw)
    run._begun = time.monotonic() - run._spent  # as if it had done nothing else
    assert not run.log_hardest(2, draw) and drawn == [1]
    assert run.log_hardest(2, draw, at_end=True) and drawn == [2]
    run._begun -= 100 * run._spent  # as if it had trained for so long
    assert run.log_hardest(3, draw) and drawn == [3]
    run.finish()
    assert [row["epoch"] for row in history(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("hardest", [-1, 101])
def test_a_number_of_hardest_videos_that_cannot_be(hardest: int) -> None:
    data = DataConfig(root=Path("videos"))
    with pytest.raises(UserError, match=f"--wandb.hardest {hardest}: give a number from 0 to 100"):
        validate(Config(data=data, wandb=WandbConfig(hardest=hardest)))


def test_disabled_makes_nothing_and_keeps_the_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_wandb(WandbConfig(mode="disabled"), tmp_path / "run", {}, "abc")
    assert isinstance(run, NullRun) and run.id == "abc"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert isinstance(open_wandb(WandbConfig(), tmp_path / "run", {}, None), NullRun)
    assert not (tmp_path / "run").exists()


def test_online_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--wandb.mode online: no API key.*--wandb.mode offline"):
        open_wandb(WandbConfig(mode="online"), tmp_path, {}, None)


def test_auto_on_a_terminal_without_a_key_asks_nothing_and_prints_one_line(tmp_path: Path) -> None:
    script = """
        run = open_wandb(WandbConfig(), run_dir, {}, None)
        run.log_step({"epoch": 1, "global_step": 1, "loss": 1.0})
        run.finish()
    """
    code, output = in_a_process(script, tmp_path, terminal=True)
    (folder,) = tmp_path.glob("run/wandb/offline-run-*")
    assert code == 0
    assert output.splitlines() == [
        "wandb: offline (no API key: run 'wandb login' or set WANDB_API_KEY); "
        f"project slowfast_dist, run run; holds {contents(WandbConfig())}; "
        f"to upload it: wandb sync {folder}"
    ]


def test_a_key_but_no_network(tmp_path: Path) -> None:
    """Nothing listens on the port: auto goes offline, online says what to do."""
    script = """
        try:
            open_wandb(WandbConfig(mode="online"), run_dir, {}, None)
        except UserError as error:
            print("refused:", error, flush=True)
        run = open_wandb(WandbConfig(), run_dir, {}, None)
        run.log_step({"epoch": 1, "global_step": 1, "loss": 1.0})
        run.finish()
    """
    code, output = in_a_process(
        script,
        tmp_path,
        WANDB_API_KEY="a" * 40,
        WANDB_BASE_URL="http://127.0.0.1:1",
        WANDB_INIT_TIMEOUT="2",
    )
    first, refused, second, offline = output.splitlines()
    assert code == 0
    assert first == second == (
        "wandb: sends to http://127.0.0.1:1, project slowfast_dist, run run: "
        f"{contents(WandbConfig())} (--wandb.mode disabled: nothing)"
    )
    assert refused.startswith("refused: --wandb.mode online: ")
    assert refused.endswith("or use --wandb.mode offline")
    assert offline.startswith("wandb: offline (") and "wandb sync" in offline
    assert history(tmp_path / "run") == [{"epoch": 1, "global_step": 1, "loss": 1.0}]


def test_training_outlives_wandb(tmp_path: Path) -> None:
    script = """
        import os, psutil
        import numpy as np
        run = open_wandb(WandbConfig(mode="offline", log_model=True), run_dir, {}, None)
        for child in psutil.Process().children(recursive=True):
            child.kill()
        for step in range(100):
            run.log_step({"epoch": 1, "global_step": step, "loss": 1.0})
        run.log_confusion(np.eye(2), ["a", "b"])
        run.summarise_best({"epoch": 1, "global_step": 9, "val/loss": 1.0})
        run.log_hardest(1, lambda: 1 / 0)
        run.log_model(run_dir / "no such folder", "")
        run.finish()
        print("trained on", flush=True)
        os._exit(0)  # wandb complains at the interpreter's end, harmlessly
    """
    code, output = in_a_process(script, tmp_path)
    assert code == 0 and output.splitlines()[-1] == "trained on"
    assert len([line for line in output.splitlines() if "could not log" in line]) == 1
    assert "Traceback" not in output
