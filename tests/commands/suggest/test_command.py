"""What to label next: the list that ``review`` reads, of what has no label yet."""

import csv
import json
import shutil
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slowfast_dist
from slowfast_dist.commands.predict.videos import predict_video
from slowfast_dist.commands.review.samples import in_order
from slowfast_dist.commands.review.sources import find_source
from slowfast_dist.commands.suggest.command import run_suggest
from slowfast_dist.config.commands.browser import Review
from slowfast_dist.config.commands.suggest import Suggest
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.training import Config, WandbConfig
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.inference.predictor import open_predictor
from slowfast_dist.inference.windows import score_windows
from slowfast_dist.metrics.selection.badge import choose, gradient_factors
from slowfast_dist.runs.best_model import DESCRIPTION
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.tracking import wandb_media
from slowfast_dist.tracking.wandb_late import remember
from slowfast_dist.tracking.wandb_run import open_wandb
from slowfast_dist.video.probe import probe_file
from tests.helpers.made_runs import ENVIRONMENT
from tests.helpers.predictors import MOTIONS
from tests.helpers.small_model import write_model
from tests.helpers.wandb_files import records, tables, without_account

pytestmark = pytest.mark.usefixtures("on_cpu")

LABELLED = f"{MOTIONS[0]}/clip_000.mp4"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of each of three classes."""
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 3, seed=0, size=48, frames=24, classes=MOTIONS)
    return folder


@pytest.fixture(scope="module")
def run_folder(on_cpu: None, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained on one of the videos, with a temperature."""
    folder = tmp_path_factory.mktemp("run") / "run"
    described = Config(output_dir=folder, data=DataConfig(root=root))
    RunFolder(folder).describe(described, list(MOTIONS), ENVIRONMENT)
    (folder / "split.csv").write_text(
        f"path,class,split,group\n{LABELLED},{MOTIONS[0]},train,{LABELLED}\n"
    )
    write_model(folder / "models", MOTIONS, (2, 1))
    facts = json.loads((folder / "models" / DESCRIPTION).read_text())
    (folder / "models" / DESCRIPTION).write_text(json.dumps(facts | {"temperature": 2.0}))
    return folder


def run(folder: Path, words: list[Any], output: Path, **flags: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"num_workers": 0, "mixed_precision": "no"} | flags
    return run_suggest(folder, list(map(str, words)), Suggest(output=output, **given))


def listed(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_list_has_what_the_model_says_and_review_reads_it(
    run_folder: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "s.csv"
    content = run(run_folder, [root], output, count=4)
    out, err = capsys.readouterr()
    assert content["candidates"] == 8 and content["labelled"] == 1
    assert "1 of 9 videos have a label in the run already, and are left out" in err
    assert f"review {run_folder} --list {output} --videos {root}\n" in out
    rows = listed(output)
    assert (run_folder / "suggested.csv").read_bytes() == output.read_bytes()  # for its page
    assert len(rows) == 4 and list(rows[0]) == [
        "path", "label", "start", "end", "suggested", "probability", "reason",
    ]  # fmt: skip
    opened = open_predictor(run_folder, mixed_precision="no")
    assert opened.best.temperature == 2
    for row in rows:
        said = predict_video(opened, Path(row["path"]))
        assert row["suggested"] == MOTIONS[int(said.argmax())]
        assert float(row["probability"]) == pytest.approx(said.max(), abs=2e-4)
        assert not row["label"] and not row["start"] and not row["path"].endswith(LABELLED)
    source = find_source(run_folder, Review(list=output, videos=root))
    assert source.order == "suggested" and source.root == root
    shown = in_order(source, "suggested")
    assert [one.path for one in shown] == [row["path"] for row in rows]
    assert [one.predicted for one in shown] == [row["suggested"] for row in rows]
    assert all(one.labels is None and one.reason for one in shown)


def test_the_choice_is_by_features_and_calibrated_probabilities(
    run_folder: Path, root: Path, tmp_path: Path
) -> None:
    """Those of embed and predict, by `choose`; the seed alone tells it, not the processes."""
    paths = sorted(path for path in root.rglob("*.mp4") if not str(path).endswith(LABELLED))
    opened = open_predictor(run_folder, mixed_precision="no")
    features = slowfast_dist.load(run_folder).embed(paths)
    chances = np.stack([predict_video(opened, path) for path in paths])
    decided = np.eye(3, dtype=bool)[chances.argmax(axis=1)]
    factors = gradient_factors(chances, decided).astype(np.float32)
    orders = set()
    for seed in (0, 1, 2):
        run(run_folder, [root], tmp_path / f"{seed}.csv", count=5, seed=seed)
        found = [row["path"] for row in listed(tmp_path / f"{seed}.csv")]
        assert found == [str(paths[row]) for row in choose([features], [factors], 5, seed)]
        orders.add(tuple(found))
    assert len(orders) > 1
    run(run_folder, [root], tmp_path / "b.csv", count=5, batch_size=3, num_workers=1)
    assert [row["path"] for row in listed(tmp_path / "b.csv")] == [
        row["path"] for row in listed(tmp_path / "0.csv")
    ]


def test_windows_do_not_overlap_each_other_nor_what_has_a_label(
    run_folder: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / LABELLED
    make_videos(tmp_path, 1, seed=0, size=48, frames=60, classes=MOTIONS[:1])
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    (folder / "split.csv").write_text(
        f"path,class,split,group,start,end,subject\n{LABELLED},{MOTIONS[0]},train,a,0,0.4,\n"
    )
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace(str(root), str(tmp_path)))
    content = run(folder, [path], tmp_path / "s.csv", windows=True, stride=0.1, count=50)
    rows = listed(tmp_path / "s.csv")
    times = sorted((float(row["start"]), float(row["end"])) for row in rows)
    assert 2 <= len(times) < content["candidates"] and times[0][0] >= 0.4 - 1e-3
    assert all(end <= start + 1e-3 for (_, end), (start, _) in pairwise(times))
    said = capsys.readouterr().err
    assert f"{content['labelled_windows']} windows overlap what has a label already" in said
    assert f"no more than {len(rows)} to choose, of the 50 asked for" in said
    opened = open_predictor(folder, mixed_precision="no")
    scores = score_windows(opened, path, probe_file(path), None, 0.1, 8)
    assert len(scores.starts) == content["candidates"] + content["labelled_windows"]
    for row in rows:
        place = int(np.abs(scores.starts - float(row["start"])).argmin())
        assert float(row["probability"]) == pytest.approx(
            scores.probabilities[place].max(), abs=2e-4
        )
    shown = find_source(folder, Review(list=tmp_path / "s.csv")).samples
    assert (shown[0].start, shown[0].end) == (float(rows[0]["start"]), float(rows[0]["end"]))
    # The file as a whole has a part with a label.
    with pytest.raises(UserError, match="none of the 1 videos is left to choose from"):
        run(folder, [path], tmp_path / "t.csv")


def test_of_several_labels_all_that_are_predicted_are_suggested(
    run_folder: Path, root: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    facts = json.loads((folder / "models" / DESCRIPTION).read_text())
    task = {"loss": "bce", "thresholds": [0.4, 0.5, 0.6], "temperature": 1.0}
    (folder / "models" / DESCRIPTION).write_text(json.dumps(facts | task))
    run(folder, [root], tmp_path / "s.csv", count=8)
    opened = open_predictor(folder, mixed_precision="no")
    for row in listed(tmp_path / "s.csv"):
        said = predict_video(opened, Path(row["path"]))
        names = {MOTIONS[place] for place in np.flatnonzero(said >= [0.4, 0.5, 0.6])}
        assert set(filter(None, row["suggested"].split("|"))) == names
        least = min((said[MOTIONS.index(name)] for name in names), default=None)
        if least is None:
            assert row["probability"] == ""
        else:
            assert float(row["probability"]) == pytest.approx(least, abs=2e-4)


def test_what_cannot_be_read_is_named_and_costs_itself_alone(
    run_folder: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    words = [tmp_path / "a.mp4", root / MOTIONS[1]]
    for windows in (False, True):
        with pytest.raises(SystemExit) as ended:
            run(run_folder, words, tmp_path / "s.csv", count=2, overwrite=True, windows=windows)
        assert ended.value.code == 1 and len(listed(tmp_path / "s.csv")) == 2
        said = capsys.readouterr().err
        assert f"error: {tmp_path / 'a.mp4'}: empty file\n" in said
        assert "1 of 4 could not be read" in said
    with pytest.raises(RunError, match="none of 1 can be read: nothing is written"):
        run(run_folder, words[:1], tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()


def test_where_the_run_does_not_tell_its_videos_that_is_said(
    run_folder: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Path(shutil.copytree(run_folder / "models", tmp_path / "models"))
    assert run(alone, [root / LABELLED], tmp_path / "a.csv")["labelled"] == 0
    out, err = capsys.readouterr()
    assert "the run's files do not tell its videos" in err and "--videos" not in out
    moved = Path(shutil.copytree(run_folder, tmp_path / "run"))
    text = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(text.replace(str(root), str(tmp_path / "gone")))
    assert run(moved, [root / LABELLED], tmp_path / "b.csv")["labelled"] == 0
    out, err = capsys.readouterr()
    assert f"the run's videos are not at {tmp_path / 'gone'} any more" in err


@pytest.mark.parametrize(
    ("words", "flags", "message"),
    [
        (["{root}"], {"output": "s.txt"}, "--output .*s.txt: give a name that ends in .csv"),
        (["{root}"], {"output": "there.csv"}, "there.csv: is there already.*--overwrite"),
        (["{root}"], {"stride": 1.0}, "--stride 1.0: goes with --windows"),
        (["{root}"], {"temporal_views": 3, "windows": True}, "--temporal-views 3: is for whole"),
        (["0"], {}, "INPUT 0: a live source"),
        (["{root}/" + LABELLED], {}, "none of the 1 videos is left to choose from"),
        (["{root}/none"], {}, "none: no such file or folder"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_lost(
    run_folder: Path, root: Path, tmp_path: Path, words: list[str], flags: dict[str, Any],
    message: str,
) -> None:  # fmt: skip
    (tmp_path / "there.csv").write_text("mine")
    output = tmp_path / flags.pop("output", "s.csv")
    with pytest.raises(UserError, match=message):
        run(run_folder, [word.format(root=root) for word in words], output, **flags)
    assert (tmp_path / "there.csv").read_text() == "mine" and not (tmp_path / "s.csv").exists()


@pytest.mark.slow
def test_they_go_into_the_runs_run_on_wandb(
    run_folder: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without names, but for those that the training was allowed."""
    for name in ("VIDEO_SECONDS", "TABLE_SECONDS"):  # a busy machine is no failure
        monkeypatch.setattr(wandb_media, name, 300.0)
    account = without_account(monkeypatch, tmp_path / "home")
    next(account)
    try:
        for named in (0, 2):
            folder = Path(shutil.copytree(run_folder, tmp_path / f"run{named}"))
            config = WandbConfig("offline", hardest=named)
            first = open_wandb(config, folder, {}, None)
            remember(folder, config, first)
            first.finish()
            time.sleep(1.1)  # wandb names folders by the second
            content = run(folder, [root], tmp_path / f"{named}.csv", count=4)
            found = tables(folder)
            assert sum(row[1] for row in found["classes"]["data"]) == 4
            names = [Path(one["path"]).name for one in content["suggested"][:named]]
            rows = found["videos"]["data"] if named else []
            assert [row[0] for row in rows] == names
            assert all(row[1]["_type"] == "video-file" for row in rows)
            held = b"".join(one.SerializeToString() for one in records(folder))
            assert str(root).encode() not in held
    finally:
        next(account, None)
