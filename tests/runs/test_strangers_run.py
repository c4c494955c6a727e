"""What a run of somebody else's, taken from a mail or the hub, can make its reader do: nothing."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.commands.hub import push_to_hub
from slowfast_dist.commands.prepare.folder import RECORD, open_folder
from slowfast_dist.config.commands.report import Report
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.probe_cache import DIGEST_SIZE, MAGIC, read_segment
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.report.card import render_card
from slowfast_dist.report.command import run_report
from slowfast_dist.runs.best_model import DESCRIPTION, read_best
from slowfast_dist.runs.reading import read_json
from slowfast_dist.runs.settings import read_settings
from slowfast_dist.runs.videos import NoVideosError, own_validation
from slowfast_dist.system import parsing
from tests.helpers.made_runs import made_run
from tests.helpers.model_folders import description, small_config

CLASSES = ("moves left", "moves right")


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos that are nobody's business."""
    folder = tmp_path_factory.mktemp("private") / "videos"
    make_videos(folder, 2, seed=0, size=48, frames=4, classes=CLASSES)
    return folder


@pytest.fixture
def shared(private: Path, tmp_path: Path) -> Path:
    """The data's root of the run, with one video in it, and others behind links."""
    root = tmp_path / "shared" / "data"
    root.mkdir(parents=True)
    video = sorted(private.rglob("*.mp4"))[0]
    shutil.copy(video, root / "own.mp4")
    shutil.copy(video, root.parent / "x.mp4")
    (root / "link.mp4").symlink_to(video)
    (root / "linked").symlink_to(video.parent)
    return root


def names_of(private: Path) -> list[str]:
    video = sorted(private.rglob("*.mp4"))[0]
    return ["own.mp4", "../x.mp4", str(video), "link.mp4", f"linked/{video.name}", "\0"]


def stills(run: Path, **more: Any) -> int:
    run_report([run], Report(**more))
    return (run / "report.html").read_text().count("data:image/jpeg")


def test_a_page_shows_stills_below_the_datas_root_alone(
    private: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = names_of(private)
    run = made_run(tmp_path / "run", list(CLASSES), videos=3, data=shared, names=names, skill=-9.0)
    own = stills(run)
    assert 0 < own <= 8  # of one video, among the hardest and among the labels in doubt
    said = capsys.readouterr().out
    assert f"it shows stills of 1 videos of {shared};" in said
    assert "of 5 videos it shows none" in said
    assert "is not below the folder of the data" in (run / "report.html").read_text()
    assert stills(run, videos=shared) == 3 * own  # links in a folder that the user names
    (run / "report_cache.json").unlink()
    assert stills(run, videos=private) == own  # the absolute path below it
    assert stills(run, hardest=0) == 0
    with pytest.raises(UserError, match="--videos .*: there is no such folder"):
        run_report([run], Report(videos=tmp_path / "none"))


def test_an_evaluation_scores_videos_below_the_datas_root_alone(
    private: Path, shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = made_run(tmp_path / "run", list(CLASSES), data=shared)
    names = ["own.mp4", "../x.mp4", str(sorted(private.rglob("*.mp4"))[0])]
    rows = "".join(f"{name},{CLASSES[0]},val,g\n" for name in names)
    (run / "split.csv").write_text(f"path,class,split,group\n{rows}")
    _, listing = own_validation(run / "models", CLASSES)
    assert list(listing.videos.names) == ["own.mp4"] and [*listing.videos.group_names()] == ["g"]
    assert "2 of 3 validation videos are not below" in caplog.text
    table = shared / "val.csv"  # and the same of a list that the run names
    table.write_text("path,label\n" + "".join(f"{name},{CLASSES[0]}\n" for name in names[::2]))
    config = (run / "config.yaml").read_text().replace(f"root: {shared}", "root: null")
    (run / "config.yaml").write_text(config.replace("val_dir: null", f"val_dir: {table}"))
    caplog.clear()
    _, listing = own_validation(run / "models", CLASSES)
    assert list(listing.videos.names) == ["own.mp4"]
    assert "1 of 2 validation videos are not below" in caplog.text
    (run / "config.yaml").write_text(config.replace("root: null", f"root: {shared}"))
    (run / "split.csv").write_text(f"path,class,split,group\n../x.mp4,{CLASSES[0]},val,g\n")
    with pytest.raises(NoVideosError):
        own_validation(run / "models", CLASSES)


@pytest.fixture
def best(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    models = tmp_path / "models"
    models.mkdir()
    return models, description(CLASSES, small_config(tmp_path))


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("clip", "temporal_views", 10**7, "temporal-views 10000000: give a.* 1000"),
        ("clip", "sampling_rate", 10**18, "is damaged"),
        ("clip", "sampling_rate", 10**7, "sampling-rate 10000000: give at most 1000000"),
        ("clip", "num_frames", 4 * 10**6, "num-frames 4000000: give"),
        ("clip", "num_frames", 9, "num_frames is 9, no multiple of alpha 4"),
        ("clip", "crop_size", 10**5, "crop-size 100000: give at most 4096"),
        ("clip", "short_side", 10**5, "give at most 8192"), ("clip", "short_side", 8, "crop-size"),
        ("clip", "spatial_crops", 2, "give 1 or 3"), ("clip", "frame_rate", 10**400, "frame_rate"),
        ("clip", "frame_rate", 2000, "frame-rate 2000"), ("clip", "num_frames", True, "True"),
        ("model", "num_classes", 10**400, "damaged"), ("model", "dropout", 10**400, "damaged"),
        ("model", "name", "x" * 10**5, "is damaged"),
        ("data", "median_seconds", 10**400, "damaged"),
    ],
)  # fmt: skip
def test_values_keep_the_bounds_of_the_flags(
    best: tuple[Path, dict[str, Any]], part: str, name: str, value: Any, said: str
) -> None:
    models, facts = best
    (models / DESCRIPTION).write_text(json.dumps(facts))
    read_best(models)
    facts[part][name] = value
    (models / DESCRIPTION).write_text(json.dumps(facts))
    with pytest.raises(UserError, match=said) as raised:
        found = read_best(models)
        found.load()
    assert len(str(raised.value)) < 600 + len(str(models))


def test_json_is_bounded_in_nesting_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = parsing.MOST_NESTING
    good, deep = "[" * most + "]" * most, '{"a":' * (most + 1) + "1" + "}" * (most + 1)
    assert json.dumps(parsing.parse_json(good)) == good
    for text in (deep, "[" * 10**6, "[" * (most + 1) + "]" * (most + 1), "[" * 500 + "]" * 500):
        with pytest.raises(ValueError):
            parsing.parse_json(text)
        with pytest.raises(ValueError):
            parsing.parse_json(text.encode())
    assert len(parsing.parse_json("[" + ",".join(["[]"] * 1000) + "]")) == 1000  # wide, not deep
    (tmp_path / DESCRIPTION).write_text('{"a": 1}')
    assert read_json(tmp_path / DESCRIPTION) == {"a": 1}
    for module in ("reading", "best_model"):
        monkeypatch.setattr(f"slowfast_dist.runs.{module}.MOST_BYTES", 7)
    if read_json.__defaults__ is None:
        monkeypatch.setattr("slowfast_dist.runs.reading.read_text.__defaults__", (7,))
    assert read_json(tmp_path / DESCRIPTION) is None
    with pytest.raises(UserError, match="it has more than 7 bytes"):
        read_best(tmp_path)


BOMBS = {
    "many copies of a long group": "a: &a\n" + "".join(f"  k{n}: 1\n" for n in range(5000))
    + "".join(f"b{n}: *a\n" for n in range(5000)),
    "copies of copies": "a: &a0 [1, 1]\n"
    + "".join(f"b{n}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(60)),
    "deep lists": "epochs: " + "[" * 20_000,
    "deep groups": "".join(f"{' ' * n}a:\n" for n in range(20)),
    "large": "# \n" * 40_000,
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_yaml_is_bounded_in_nesting_size_and_copies(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(BOMBS[kind])
    with pytest.raises(yaml.YAMLError):
        parsing.compose_yaml(BOMBS[kind])
    assert read_settings(path) == {}
    with pytest.raises(UserError) as raised:
        parse_training(["--config", str(path)])
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300 + len(str(path))


def test_a_file_may_still_repeat_a_value(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("epochs: &n 7\nseed: *n\ndata:\n  root: x\n")
    config = parse_training(["--config", str(path)])
    assert config is not None and (config.epochs, config.seed) == (7, 7)


def test_settings_that_are_none_are_not_shown(tmp_path: Path) -> None:
    """config.yaml may be a link to a file with passwords."""
    (tmp_path / "secrets").write_text("epochs: 3\npassword: hunter2\ngithub:\n  token: hunter2\n")
    os.symlink("secrets", tmp_path / "config.yaml")
    assert read_settings(tmp_path / "config.yaml") == {"epochs": "3"}


def test_what_a_link_leads_to_is_not_uploaded(tmp_path: Path) -> None:
    (tmp_path / "id_rsa").write_text("private")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "best_model.onnx").symlink_to(tmp_path / "id_rsa")
    with pytest.raises(UserError, match="best_model.onnx is a link"):
        push_to_hub(tmp_path / "models", "a/b", private=True)


MARKUP = "</p><script>x</script>[a](http://b) ![c](d) | `e` **f**"


@pytest.mark.parametrize(
    "place",
    [
        ("model", "name"), ("training", "pretrained_on"), ("training", "started_from"),
        ("training", "versions", "torch"), ("training", "git_commit"), ("training", "optimizer"),
        ("data", "name"), ("data", "group_pattern"), ("monitor",), ("classes", 0),
    ],
)  # fmt: skip
def test_words_of_a_description_are_shown_and_not_obeyed(
    best: tuple[Path, dict[str, Any]], place: tuple[Any, ...]
) -> None:
    facts = inner = best[1] | {"training": {**best[1]["training"], "started_from": "a.pyth"}}
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = MARKUP
    text = render_card(facts, [])
    body = text.split("---\n", 2)[2]
    shown = [part for n, part in enumerate(body.replace("\\`", "").split("`")) if n % 2 == 0]
    for mark in ("<script", "[a](", "**f"):  # outside code, each behind a backslash
        assert all(mark not in part.replace(f"\\{mark}", "") for part in shown), body


@pytest.mark.parametrize(
    "place",
    [("data", "train_videos"), ("data", "unreadable"), ("epoch",), ("metrics", "val/videos")],
)
def test_a_count_that_is_none_is_refused(
    best: tuple[Path, dict[str, Any]], place: tuple[str, ...]
) -> None:
    facts = inner = best[1]
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = "<script>"
    with pytest.raises(UserError, match="is no count"):
        render_card(facts, [])


def test_a_damaged_segment_of_the_probes_cache_is_dropped_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segment = tmp_path / "1.probe"
    older = MAGIC.replace(b"3", b"2") + bytes(DIGEST_SIZE)
    for content, lines in ((b"", 1), (MAGIC + b"x" * 99, 1), (older, 0)):
        segment.write_bytes(content)
        assert read_segment(segment) is None
        assert caplog.text.count("is damaged and dropped") == lines
        caplog.clear()


def test_a_record_of_prepared_videos_leads_nowhere_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    entry = {
        "path": "a.mp4", "source": "a.avi", "source_size": 1, "source_mtime_ns": 1,
        "source_sha256": "", "frames": 1, "short_side": 1, "key_interval": 1, "version": 1,
        "size": 1,
    }  # fmt: skip
    paths = ("a.mp4", "../b.mp4", "/b.mp4", "", ".", "a/../../b.mp4", "\0")
    lines = [json.dumps(entry | {"path": path}) for path in paths]
    (out / RECORD).write_text("\n".join([*lines, "[" * 10**5, '{"a":' * 50 + "1" + "}" * 50, ""]))
    with open_folder(out) as folder:
        assert list(folder.entries) == ["a.mp4"]
