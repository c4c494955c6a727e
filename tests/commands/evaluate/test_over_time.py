"""``evaluate --segments``: whole files, each scored once, against the segments of a list."""

import csv
import gc
import json
import shutil
import weakref
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from slowfast_dist.commands.evaluate import over_time
from slowfast_dist.commands.evaluate.backend import predictor_by
from slowfast_dist.commands.evaluate.command import run_evaluation
from slowfast_dist.commands.evaluate.over_time import share_out
from slowfast_dist.commands.evaluate.over_time_files import write_over_time
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import WandbConfig
from slowfast_dist.data.synthetic import MOTIONS as MADE
from slowfast_dist.data.synthetic import moving_disc
from slowfast_dist.inference.predictor import open_predictor
from slowfast_dist.inference.segments import find_segments
from slowfast_dist.inference.windows import score_windows
from slowfast_dist.runs.best_model import DESCRIPTION
from slowfast_dist.runs.videos import own_validation
from slowfast_dist.tracking.wandb_late import remember
from slowfast_dist.tracking.wandb_run import open_wandb
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.writer import write_video
from tests.helpers.predictors import MOTIONS
from tests.helpers.small_model import write_model
from tests.helpers.training_runs import launch
from tests.helpers.wandb_files import history, tables, without_account

FPS, FRAMES = 10, 40
WINDOW = {"window": 0.8, "stride": 0.4, "smoothing": 0.0}

LIST = """path,label,start,end,split,group
a.mp4,moves left,0.5,1.5,test,monday
a.mp4,moves right,2.0,3.5,test,monday
b.mp4,turns clockwise,1.0,9.0,test,monday
c.mp4,moves left,0,4,test,tuesday
mixed.mp4,moves left,0,1,test,tuesday
mixed.mp4,moves left,2,3,train,tuesday
broken.mp4,moves left,0,1,test,tuesday
"""
"""b.mp4 has a segment that ends behind it; mixed.mp4 has rows of two splits."""


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("long")
    for number, name in enumerate(("a", "b", "c", "mixed")):
        rng = np.random.default_rng(number)
        parts = (moving_disc(MADE[label], 40, FRAMES // 2, rng) for label in MOTIONS[:2])
        write_video(root / f"{name}.mp4", (one for part in parts for one in part), FPS)
    (root / "broken.mp4").write_bytes(b"no video")
    (root / "long.csv").write_text(LIST)
    return root / "long.csv"


@pytest.fixture(scope="module")
def model(on_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("run") / "models", MOTIONS)


def evaluate(run: Path, data: Path | None, output: Path | None, **options: Any) -> dict[str, Any]:
    given = {"resamples": 100} | WINDOW | options
    return run_evaluation(run, EvaluateCommand(data, output, "no", segments=True, **given))


@pytest.fixture(scope="module")
def scored(model: Path, listed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("scored") / "out"
    evaluate(model, listed, output)
    return output


def metrics_of(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "metrics.json").read_text(encoding="utf-8")))


def segments_of(output: Path, kind: str) -> list[tuple[str, str, float, float]]:
    with open(output / "segments.csv", newline="") as file:
        return [
            (row["path"], row["label"], float(row["start"]), float(row["end"]))
            for row in csv.DictReader(file)
            if row["kind"] == kind
        ]


def labels_of(rows: list[tuple[str, str, float, float]], none: str) -> list[str]:
    """Of each frame of the three files, by its own time."""
    labels = []
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        for time in np.arange(FRAMES) / FPS:
            here = [one for one in rows if one[0] == name and one[2] - 5e-4 <= time < one[3] - 5e-4]
            labels.append(here[-1][1] if here else none)
    return labels


def test_frames_are_scored_by_their_own_times(scored: Path) -> None:
    metrics = metrics_of(scored)
    truth = labels_of(segments_of(scored, "truth"), "")
    found = labels_of(segments_of(scored, "prediction"), "")
    assert "" not in found  # what a model finds covers the file
    pairs = [pair for pair in zip(truth, found, strict=True) if pair[0]]
    assert metrics["frame_accuracy"] == pytest.approx(accuracy_score(*zip(*pairs, strict=True)))
    assert metrics["frame_f1_macro"] == pytest.approx(
        f1_score(*zip(*pairs, strict=True), average="macro")
    )
    assert metrics["seconds"] == pytest.approx(12.0)
    assert metrics["labelled_seconds"] == pytest.approx(len(pairs) / FPS)
    assert metrics["unlabelled_seconds"] == pytest.approx(truth.count("") / FPS)
    assert np.sum(metrics["confusion_frames"]) == 120
    assert metrics["true_events"] == 4 and metrics["recordings"] == 2
    assert max(one[3] for one in segments_of(scored, "truth")) == 4.0  # cut at the file's end


def test_what_is_found_is_what_predict_finds(scored: Path, model: Path, listed: Path) -> None:
    predictor = open_predictor(model, "torch", "no")
    path = listed.parent / "a.mp4"
    scores = score_windows(predictor, path, probe_file(path), 0.8, 0.4, 8)
    expected = find_segments(scores, predictor.classes, 0.0)
    found = [one for one in segments_of(scored, "prediction") if one[0] == "a.mp4"]
    assert [one[1] for one in found] == [one.label for one in expected]
    np.testing.assert_allclose(
        [one[2:] for one in found], [(one.start, one.end) for one in expected], atol=6e-4
    )


def test_files_of_two_splits_and_broken_ones_are_left_out_with_a_word(
    model: Path, listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    metrics = evaluate(model, listed, tmp_path / "out", resamples=0)
    said = capsys.readouterr().out
    assert "1 of 5 files are left out, as they have rows of another split" in caplog.text
    assert metrics["files"] == 3 and metrics["unreadable"] == 1 and metrics["intervals"] == {}
    assert "no class for what lies between segments (--data.background)" in said
    assert "3 files, 12 s, scored by the model of epoch 1; 1 could not be read" in said
    assert "broken.mp4" in (tmp_path / "out" / "unreadable_videos.csv").read_text()
    with pytest.raises(UserError, match=r"each of the 1 files with such rows .* give --split all"):
        evaluate(model, listed, tmp_path / "train", split="train")


def test_a_background_is_a_class_of_frames_and_no_event(
    model: Path, listed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "models"
    shutil.copytree(model, run)
    facts = json.loads((run / DESCRIPTION).read_text())
    (run / DESCRIPTION).write_text(json.dumps(facts | {"background": "moves right"}))
    plain = "path,label,start,end\na.mp4,moves left,0.5,1.5\n"
    told = plain + "a.mp4,moves right,2,3\n"
    (listed.parent / "plain.csv").write_text(plain)
    (listed.parent / "told.csv").write_text(told)
    metrics = evaluate(run, listed.parent / "plain.csv", tmp_path / "plain")
    found = segments_of(tmp_path / "plain", "prediction")
    found = [one for one in found if one[1] != "moves right"]
    assert metrics["unlabelled_seconds"] == 0 and metrics["labelled_seconds"] == pytest.approx(4)
    assert metrics["true_events"] == 1 and metrics["found_events"] == len(found)
    assert metrics["background"] == "moves right"
    metrics = evaluate(run, listed.parent / "told.csv", tmp_path / "told")
    assert metrics["labelled_seconds"] == pytest.approx(2) and metrics["true_events"] == 1


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_the_network_is_gone_before_the_results_are_written(
    model: Path, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    predictors: list[weakref.ref[Any]] = []
    held: list[bool] = []
    make, write = predictor_by, write_over_time

    def noted(*arguments: Any) -> Any:
        predictor = make(*arguments)
        predictors.append(weakref.ref(predictor))
        return predictor

    def looked(output: Path, opened: Any, *rest: Any) -> Any:
        gc.collect()
        held.append(any(one() is not None for one in predictors))
        torchs = [] if opened.network is None else opened.network.parameters()
        held.append(any(one.device.type != "meta" for one in torchs))
        return write(output, opened, *rest)

    monkeypatch.setattr(over_time, "predictor_by", noted)
    monkeypatch.setattr(over_time, "write_over_time", looked)
    evaluate(model, listed, tmp_path / "out", resamples=0, backend=backend)
    assert len(predictors) == 1 and held == [False, False]


def test_two_processes_score_each_file_once(scored: Path, model: Path, listed: Path) -> None:
    output = scored.parent / "two"
    flags = [word for name, value in WINDOW.items() for word in (f"--{name}", str(value))]
    done = launch(
        "-m", "slowfast_dist", "evaluate", model, "--data", listed, "--segments", "--output",
        output, "--mixed-precision", "no", "--resamples", "100", *flags, processes=2,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("3 files, 12 s, scored") == 1
    assert (output / "segments.csv").read_bytes() == (scored / "segments.csv").read_bytes()
    assert metrics_of(output) == metrics_of(scored)


def test_files_are_shared_out_by_their_length() -> None:
    shares = share_out(np.array([5.0, 1.0, 2.0, 9.0, 0.0, 0.0]), 2)
    assert sorted(shares[0] + shares[1]) == list(range(6))
    assert shares[0] == [3] and shares[1][:3] == [0, 2, 1]
    assert share_out(np.zeros(0), 3) == [[], [], []]


@pytest.mark.parametrize(
    ("segments", "options", "said"),
    [
        (False, {"window": 1.0}, "--window 1.0: goes with --segments"),
        (True, {"temporal_views": 3}, "--temporal-views 3: is of clips"),
        (True, {"top_k": (2,)}, "--top-k 2: is of clips"),
    ],
)
def test_flags_of_the_other_kind_are_refused(
    tmp_path: Path, segments: bool, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        run_evaluation(tmp_path, EvaluateCommand(segments=segments, **options))


def test_an_evaluation_of_the_other_kind_is_kept(scored: Path, model: Path, listed: Path) -> None:
    with pytest.raises(UserError, match="holds an evaluation with --segments, which is kept"):
        run_evaluation(model, EvaluateCommand(listed, scored, "no", num_workers=0))


def test_the_runs_own_files_have_the_truth_of_its_list(
    model: Path, listed: Path, tmp_path: Path
) -> None:
    """Not of split.csv, which has the background's clips as they were drawn."""
    run = tmp_path / "run"
    shutil.copytree(model, run / "models")
    facts = json.loads((model / DESCRIPTION).read_text())
    (run / "models" / DESCRIPTION).write_text(json.dumps(facts | {"background": "moves right"}))
    (run / "config.yaml").write_text(f"data:\n  root: {listed.parent / 'own.csv'}\n")
    rows = "path,label,start,end\na.mp4,moves left,0.5,1.5\nb.mp4,moves left,1,2\n"
    (listed.parent / "own.csv").write_text(rows)
    (run / "split.csv").write_text(
        "path,class,split,group,start,end,subject\n"
        "a.mp4,moves left,val,a.mp4,0.5,1.5,\na.mp4,moves right,val,a.mp4,2.0,2.5,\n"
        "b.mp4,moves left,train,b.mp4,1,2,\n"
    )
    metrics = evaluate(run, None, tmp_path / "out", resamples=0)
    assert metrics["files"] == 1 and metrics["labelled_seconds"] == pytest.approx(4)
    assert [one[0] for one in segments_of(tmp_path / "out", "truth")] == ["a.mp4"]
    assert metrics["recordings"] == 1
    # The list has no column group: its recordings are those of the run's pattern.
    (run / "config.yaml").write_text(
        f"data:\n  root: {listed.parent / 'own.csv'}\n  group_pattern: '[abc]'\n"
    )
    [recording] = own_validation(run / "models", MOTIONS, whole_files=True)[1].videos.group_names()
    assert recording == "a"
    with pytest.raises(UserError, match=r"split\.csv of a run has clips of the background"):
        evaluate(run, run / "split.csv", tmp_path / "other")


def test_regions_of_interest_are_refused(model: Path, listed: Path, tmp_path: Path) -> None:
    """Two animals of one picture would be held against one prediction of all of it."""
    table = listed.parent / "boxes.csv"
    table.write_text(
        "path,label,start,end,x,y,w,h\n"
        "a.mp4,moves left,0.5,1.5,0,0,20,40\na.mp4,moves right,0.5,1.5,20,0,20,40\n"
    )
    with pytest.raises(UserError, match="^--segments: rows of .* have regions of interest"):
        evaluate(model, table, tmp_path / "out")
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_a_model_of_several_labels_is_refused_before_any_video_is_listed(
    model: Path, tmp_path: Path
) -> None:
    several = Path(shutil.copytree(model, tmp_path / "models"))
    facts = json.loads((model / DESCRIPTION).read_text())
    task = {"loss": "bce", "thresholds": [0.5] * len(MOTIONS)}
    (several / DESCRIPTION).write_text(json.dumps(facts | task))
    (tmp_path / "list.csv").write_text("path,label\nnone.mp4,moves left|moves right\n")
    with pytest.raises(UserError, match="^--segments: is for a model of one label a clip"):
        evaluate(several, tmp_path / "list.csv", tmp_path / "out")


@pytest.mark.slow
def test_timelines_go_into_the_runs_run_on_wandb(
    model: Path, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the names of files, but for those that the training was allowed."""
    run = Path(shutil.copytree(model.parent, tmp_path / "run"))
    evaluate(run, listed, tmp_path / "before")  # of a run that was not logged
    assert not (run / "wandb").exists()
    with pytest.raises(UserError, match="--wandb-mode offline: .* was not logged"):
        evaluate(run, listed, tmp_path / "before", wandb_mode="offline")
    account = without_account(monkeypatch, tmp_path / "home")
    next(account)
    try:
        config = WandbConfig("offline", hardest=1)
        first = open_wandb(config, run, {}, None)
        remember(run, config, first)
        first.finish()
        sleep(1.1)  # wandb names folders by the second
        content = evaluate(run, listed, tmp_path / "after")
        rows = tables(run)["timelines"]["data"]
        assert len(rows) == content["files"] and rows[0][0].endswith(".mp4")
        assert [row[0] for row in rows[1:]] == [f"file {n + 2}" for n in range(len(rows) - 1)]
        told = [row[1] for row in rows if row[1] is not None]
        assert told == sorted(told)  # the worst first
        numbers = [one for one in history(run) if "over_time/long/frame_accuracy" in one]
        assert numbers[0]["over_time/long/frame_accuracy"] == content["frame_accuracy"]
        evaluate(run, listed, tmp_path / "after", wandb_mode="disabled")
        assert len(list(run.glob("wandb/offline-run-*"))) == 2
    finally:
        next(account, None)
