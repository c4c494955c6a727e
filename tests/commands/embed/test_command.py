"""Features of videos, windows and segments, as a plain forward pass gives them, in each file."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch

import slowfast_dist
from slowfast_dist.commands.embed import command as embed
from slowfast_dist.commands.embed.command import run_embed
from slowfast_dist.commands.predict.videos import predict_video
from slowfast_dist.config.commands.embed import Embed
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.clips import dense_indices
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.inference.predictor import Predictor, open_predictor
from slowfast_dist.inference.windows import compute_windows
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from slowfast_dist.video.views import evaluation_view
from tests.helpers.predictors import MOTIONS, predictor
from tests.helpers.small_model import CLIP, write_model

pytestmark = pytest.mark.usefixtures("on_cpu")

WIDTH = 640
"""Features of slowfast_tiny: 512 of its slow pathway and 128 of its fast one."""


@pytest.fixture(scope="module")
def model(on_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "models", MOTIONS, (2, 1))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of two videos each."""
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 2, seed=0, size=48, frames=20, classes=MOTIONS)
    return folder


def run(model: Path, words: list[Any], output: Path, **flags: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"num_workers": 0, "mixed_precision": "no"} | flags
    return run_embed(model, list(map(str, words)), Embed(output, **given))


def listed(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def plain(model: Path, path: Path, indices: list[np.ndarray]) -> np.ndarray:
    """What the last linear layer of the saved model is given, the mean over clips."""
    network = torch.load(model / "best_model_architecture.pth", weights_only=False).eval()
    given: list[torch.Tensor] = []
    network.blocks[6].proj.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    info = probe_file(path)
    view = evaluation_view(info.height, info.width, CLIP, 0, 1)
    for clip in indices:
        frames = torch.from_numpy(read_frames(path, clip, info, "pyav", view))
        with torch.inference_mode():
            network(frames.permute(0, 3, 1, 2)[None])
    return torch.stack(given).mean(dim=(0, 1, 2, 3, 4)).numpy()


def two_views(path: Path) -> list[np.ndarray]:
    frames = probe_file(path).frames
    return [dense_indices(frames, CLIP.num_frames, CLIP.sampling_rate, at) for at in (0.0, 1.0)]


def test_a_row_is_what_goes_into_the_last_layer(model: Path, root: Path, tmp_path: Path) -> None:
    content = run(model, [root], tmp_path / "f.npy")
    features, rows = np.load(tmp_path / "f.npy"), listed(tmp_path / "f.csv")
    assert features.shape == (6, WIDTH) and features.dtype == np.float32
    assert content["rows"] == 6 and content["features"] == WIDTH and not content["unreadable"]
    paths = sorted(root.rglob("*.mp4"))
    assert [row["path"] for row in rows] == list(map(str, paths))
    assert [row["label"] for row in rows] == [path.parent.name for path in paths]
    for path, row, found in zip(paths, rows, features, strict=True):
        np.testing.assert_allclose(found, plain(model, path, two_views(path)), rtol=1e-4, atol=1e-5)
        assert float(row["end"]) == pytest.approx(probe_file(path).duration(), abs=1e-3)
    assert np.abs(features[0] - features[-1]).max() > 0.01  # not all alike, so this test can fail


def test_the_head_makes_the_probabilities_of_predict(model: Path, root: Path) -> None:
    """Of one view; of several these are means after the softmax."""
    opened = open_predictor(model, mixed_precision="no")
    path = min(root.rglob("*.mp4"))
    features = plain(model, path, [dense_indices(20, CLIP.num_frames, CLIP.sampling_rate, 0.5)])
    weight, bias = opened.head
    logits = weight @ features + bias
    chances = np.exp(logits - logits.max())
    expected = predict_video(opened, path, temporal_views=1)
    np.testing.assert_allclose(chances / chances.sum(), expected, atol=1e-5)


def test_all_files_hold_the_same(model: Path, root: Path, tmp_path: Path) -> None:
    for ending in ("npy", "csv", "parquet"):
        run(model, [root / MOTIONS[0]], tmp_path / f"f{ending}.{ending}")
    expected, rows = np.load(tmp_path / "fnpy.npy"), listed(tmp_path / "fnpy.csv")
    names = [f"feature_{place:03}" for place in range(WIDTH)]
    with_features = listed(tmp_path / "fcsv.csv")
    of_csv = [[float(row.pop(name)) for name in names] for row in with_features]
    assert with_features == rows and (np.array(of_csv, np.float32) == expected).all()
    table = pyarrow.parquet.read_table(tmp_path / "fparquet.parquet")
    assert table.schema.names == ["path", "start", "end", "label", "group", *names]
    assert (np.stack([table[name].to_numpy() for name in names], axis=1) == expected).all()
    for one, row in zip(table.to_pylist(), rows, strict=True):
        assert one["path"] == row["path"] and one["end"] == pytest.approx(float(row["end"]))
        assert one["label"] is None and not row["label"]  # videos of one folder have none
    facts = json.loads(table.schema.metadata[b"slowfast_dist"])
    assert facts["model"] == "slowfast_tiny" and len(facts["weights_sha256"]) == 64


def test_a_list_has_a_row_for_each_of_its_segments(
    model: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of classes that the model does not know; those of one file follow each other in time."""
    first, second = (next((root / name).glob("*.mp4")) for name in MOTIONS[:2])
    path = tmp_path / "list.csv"
    lines = [f"{first},late,0.4,0.8", f"{second},late,,", f"{first},early,0,0.4",
             f"{tmp_path / 'bad.mp4'},early,0,1"]  # fmt: skip
    (tmp_path / "bad.mp4").write_bytes(b"")
    path.write_text("path,label,start,end\n" + "\n".join(lines) + "\n")
    with pytest.raises(SystemExit) as ended:
        run(model, [path], tmp_path / "f.npy", temporal_views=1)
    assert ended.value.code == 1
    assert "bad.mp4@0-1: empty file\n1 of 4 could not be read" in capsys.readouterr().err
    rows, features = listed(tmp_path / "f.csv"), np.load(tmp_path / "f.npy")
    times = {(row["path"], row["start"], row["label"]) for row in rows}
    assert times == {(str(first), "0", "early"), (str(first), "0.4", "late"),
                     (str(second), "0", "late")}  # fmt: skip
    of_first = [row["start"] for row in rows if row["path"] == str(first)]
    assert of_first == ["0", "0.4"]
    info = probe_file(first)
    place = next(at for at, row in enumerate(rows) if row["start"] == "0.4")
    begin, end = round(0.4 * info.fps), round(0.8 * info.fps)
    clip = begin + dense_indices(end - begin, CLIP.num_frames, CLIP.sampling_rate, 0.5)
    np.testing.assert_allclose(features[place], plain(model, first, [clip]), rtol=1e-4, atol=1e-5)


def test_windows_are_rows_in_their_order(model: Path, root: Path, tmp_path: Path) -> None:
    path = min(root.rglob("*.mp4"))
    run(model, [path], tmp_path / "f.npy", windows=True, stride=0.1)
    rows, features = listed(tmp_path / "f.csv"), np.load(tmp_path / "f.npy")
    opened = open_predictor(model, mixed_precision="no")
    info = probe_file(path)
    expected = list(compute_windows(opened.best, opened.features, path, info, None, 0.1, 3))
    assert len(rows) == len(expected) > 3
    for row, found, one in zip(rows, features, expected, strict=True):
        assert float(row["start"]) == pytest.approx(one.start, abs=1e-3)
        assert float(row["end"]) == pytest.approx(one.end, abs=1e-3)
        np.testing.assert_allclose(found, one.row, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_read_is_named_and_costs_itself_alone(
    model: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    words = [tmp_path / "a.mp4", min(root.rglob("*.mp4"))]
    for windows in (False, True):
        with pytest.raises(SystemExit) as ended:
            run(model, words, tmp_path / "f.npy", windows=windows, overwrite=True)
        assert ended.value.code == 1
        said = capsys.readouterr().err
        assert f"error: {tmp_path / 'a.mp4'}: empty file\n" in said
        assert "1 of 2 could not be read" in said
        assert len(np.load(tmp_path / "f.npy")) == (1 if not windows else len(listed(
            tmp_path / "f.csv")))  # fmt: skip
    (tmp_path / "f.npy").unlink()
    with pytest.raises(RunError, match="none of 1 can be read: nothing is written"):
        run(model, words[:1], tmp_path / "f.npy", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "f.csv"]


@pytest.mark.parametrize(
    ("words", "flags", "message"),
    [
        (["{root}"], {"output": "f.txt"}, "--output .*f.txt: give a name that ends in .npy"),
        (["{root}"], {"output": "there.csv"}, "there.csv: is there already.*--overwrite"),
        (["{root}"], {"output": "there.npy"}, "there.csv is there already.*--overwrite"),
        (["{list}", "{root}"], {}, "INPUT .*list.csv: is an annotation file: give it alone"),
        (["{list}"], {"windows": True}, "--windows: is for videos"),
        (["{list}"], {"group_pattern": "("}, "--group-pattern '\\(': no valid"),
        (["{root}"], {"stride": 1.0}, "--stride 1.0: goes with --windows"),
        (["{root}"], {"group_pattern": "zzz"}, "--group-pattern 'zzz': matches none of the 6"),
        (["0"], {}, "INPUT 0: a live source"),
        (["{root}"], {"temporal_views": 3, "windows": True}, "--temporal-views 3: is for whole"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_lost(
    model: Path, root: Path, tmp_path: Path, words: list[str], flags: dict[str, Any], message: str
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "list.csv").write_text(f"path,label\n{min(root.rglob('*.mp4'))},a\n")
    given = [word.format(root=root, list=tmp_path / "list.csv") for word in words]
    output = tmp_path / flags.pop("output", "f.npy")
    with pytest.raises(UserError, match=message):
        run(model, given, output, **flags)
    assert (tmp_path / "there.csv").read_text() == "mine" and not (tmp_path / "f.npy").exists()


def test_a_mistyped_run_is_said_before_all_else(root: Path, tmp_path: Path) -> None:
    (tmp_path / "f.npy").write_text("mine")
    with pytest.raises(UserError, match=f"^RUN {tmp_path}/rnu: there is no such folder"):
        run(tmp_path / "rnu", [root], tmp_path / "f.npy")


def test_classes_are_checked_by_groups(
    model: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of a part of them; one recording says nothing of another."""
    checks = run(model, [root], tmp_path / "a.npy", group_pattern=r"\d+\.mp4")["checks"]
    assert checks.keys() == {"neighbours", "linear"}
    groups = {row["group"] for row in listed(tmp_path / "a.csv")}
    assert len(groups) == 2 and f"told apart, each from rows of other groups ({len(groups)}" in (
        capsys.readouterr().err
    )
    assert not run(model, [root], tmp_path / "b.npy", group_pattern="mp4")["checks"]
    assert "not checked: all rows are of one recording" in capsys.readouterr().err
    monkeypatch.setattr(embed, "MOST_CHECKED", 5)
    run(model, [root], tmp_path / "c.npy")
    assert "how well 5 of 6 rows of" in capsys.readouterr().err
    assert not run(model, [root], tmp_path / "d.npy", score=False)["checks"]


def test_a_program_gets_the_same(model: Path, root: Path, tmp_path: Path) -> None:
    run(model, [root], tmp_path / "f.npy", mixed_precision="auto")
    loaded = slowfast_dist.load(model)
    found = loaded.embed(sorted(root.rglob("*.mp4")))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.load(tmp_path / "f.npy"), rtol=1e-4, atol=1e-5)
    assert loaded.embed([]).shape == (0, WIDTH)
    with pytest.raises(UserError, match=r"b\.mp4"):
        loaded.embed([tmp_path / "b.mp4"])


def test_an_exported_file_says_that_it_has_none() -> None:
    without: Predictor = replace(predictor())
    with pytest.raises(UserError, match="--backend: OpenVINO and exported files give no features"):
        without.features(np.zeros((1, 8, 32, 32, 3), np.uint8))
