"""The command ``report`` on runs as a training leaves them, and as accidents do."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from slowfast_dist.cli import main as cli
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.labelled import find_labelled_videos
from slowfast_dist.report.cache import CACHE
from slowfast_dist.report.command import write_report
from slowfast_dist.report.thumbnails import TimeLimit
from slowfast_dist.runs.predictions import read_predictions
from tests.helpers.made_runs import HOSTILE, made_run
from tests.helpers.training_runs import TINY, rows, trained
from tests.helpers.video_tables import table_of

VOID = {"meta", "img", "br"}
TWO = ("moves left", "moves right")


class Page(HTMLParser):
    """A page's elements and text; what is not nested well is found."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (self.open, tag)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report(*words: str | Path) -> None:
    cli.main(["report", *map(str, words)])


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The line of a mistake of the user's."""
    with pytest.raises(SystemExit) as caught:
        report(*words)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "Traceback" not in printed.err
    return printed.err


def hardest(page: Path) -> str:
    """The source of that section; labels in doubt have one of their own, with frames, too."""
    rest = page.read_text(encoding="utf-8").partition('<section id="hardest"')[2]
    return rest.partition("</section>")[0]


def thumbnails(page: Path) -> list[str]:
    return re.findall(r'src="data:image/jpeg;base64,([^"]+)"', hardest(page))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    make_videos(root, 4, 0, size=64, frames=24, classes=TWO)
    return root


@pytest.fixture
def run(tmp_path: Path, clips: Path) -> Path:
    """A run that was validated on real clips, of which the model got some wrong."""
    data = tmp_path / "data"
    shutil.copytree(clips, data)
    names = [f"{name}/clip_{number:03}.mp4" for name in TWO for number in range(4)]
    return made_run(tmp_path / "run", list(TWO), videos=4, data=data, names=names, skill=0.3)


def mistakes(run: Path) -> int:
    found = read_predictions(run / "predictions" / "val_best.csv")
    return int((found.probabilities.argmax(axis=1) != found.labels).sum())


def test_the_page_holds_the_numbers_and_needs_nothing_else(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(run)
    assert capsys.readouterr().out.startswith(f"report of {run}: {run}/report.html (")
    page = Page(run / "report.html")
    best = [row for row in rows(run, "epoch") if row["best"]][-1]
    assert f"Accuracy {100 * best['val/accuracy']:.1f} %" in page.text
    assert f"Macro F1 {best['val/f1_macro']:.3f}" in page.text
    assert f"epoch {best['epoch']}" in page.text
    wrong = mistakes(run)
    assert wrong and f"{wrong} of 8 validation videos are wrong" in page.text
    assert len(thumbnails(run / "report.html")) == 4 * wrong
    assert "python train.py --data.root 'my videos' --output-dir runs/made" in page.text
    assert f"--config {run}/config.yaml --output-dir NEW" in page.text
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[^\"]+", "", page.source))
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))
    targets = {attributes.get("id") for _, attributes in page.tags}
    links = {str(one["href"]).removeprefix("#") for one in page.of("a")}
    assert len(links) >= 8 and links <= targets


def test_hostile_names_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    names = [f"{name}/<i>{row}\udcff.mp4" for row, name in enumerate(HOSTILE * 3)]
    names.sort(key=lambda name: HOSTILE.index(name.rpartition("/")[0]))
    run = made_run(tmp_path / "<b>run", HOSTILE, videos=3, names=names, skill=0.1)
    report(run)
    page = Page(run / "report.html")
    assert [found.get("type") for found in page.of("script")] == [None]
    assert page.of("b") and not page.of("i")
    assert all(not name.startswith("on") for _, found in page.tags for name in found)
    assert all(str(one["src"]).startswith("data:image/") for one in page.of("img"))
    for name in HOSTILE:
        assert " ".join(name.replace("\u202e", r"\u202e").split()) in page.text
    assert r"\udcff.mp4" in page.text and "{{ 7 * 7 }}" in page.text
    assert "<title>&lt;b&gt;run: training report</title>" in page.source


def test_four_hundred_classes_stay_small_and_quick(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [f"class number {i}" for i in range(400)], epochs=1, videos=3)
    begin = time.process_time()
    page = write_report(run)
    first = time.process_time() - begin
    begin = time.process_time()
    write_report(run)  # of an epoch that is no new best
    again = time.process_time() - begin
    print(f"{page.stat().st_size / 1e3:.0f} kB, {first:.2f} s, {again:.2f} s of CPU time")
    assert page.stat().st_size < 1_000_000 and first < 6 and again < 1
    parsed = Page(page)
    assert str(parsed.of("img")[0]["src"]).startswith("data:image/png")
    assert "Most often mixed up" in parsed.text


def test_a_training_draws_no_thumbnail_twice(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only so much of their time: a video that hangs costs itself."""
    busy = TimeLimit(60.0, 5.0)  # in which the others are read on a busy machine too
    monkeypatch.setattr("slowfast_dist.report.command.TRAINING_LIMIT", busy)
    table = find_labelled_videos(run.parent / "data", "data", TWO).videos
    page = write_report(run, videos=table)
    first = thumbnails(page)
    assert len(first) == 4 * mistakes(run) > 4
    found = read_predictions(run / "predictions" / "val_best.csv")
    wrong = np.flatnonzero(found.probabilities.argmax(axis=1) != found.labels)
    worst = wrong[found.probabilities[wrong, found.labels[wrong]].argmin()]
    video = run.parent / "data" / found.names[worst]
    (run / CACHE).unlink()
    video.unlink()
    os.mkfifo(video)  # opening it waits for ever
    write_report(run, videos=table)
    assert thumbnails(page) == first[4:]
    assert "hangs the decoder: given up after 5 s" in Page(page).text
    shutil.rmtree(run.parent / "data")  # what was drawn stays
    write_report(run, videos=table)
    assert thumbnails(page) == first[4:]


def test_a_video_that_cannot_be_read_shows_why(run: Path) -> None:
    found = read_predictions(run / "predictions" / "val_best.csv")
    wrong = np.flatnonzero(found.probabilities.argmax(axis=1) != found.labels).tolist()
    (run.parent / "data" / found.names[wrong[0]]).write_bytes(b"no video")
    (run.parent / "data" / found.names[wrong[1]]).unlink()
    report(run)
    text = hardest(run / "report.html")
    assert text.count("No frames:") == 2 and "it is not there any more" in text
    assert len(thumbnails(run / "report.html")) == 4 * (len(wrong) - 2)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("running", "The training goes on, after 6 epochs of 6"),
        ("failed", "The training failed after 6 epochs"),
        ("preempted", "was asked to stop after 6 epochs"),
        ("", "The file status is missing"),
    ],
)
def test_how_a_run_stands_is_said(run: Path, status: str, said: str) -> None:
    (run / "status").write_text(status)
    report(run, "--hardest", "0")
    text = Page(run / "report.html").text
    assert said in text and "--hardest 0" in text


def test_a_run_that_has_only_begun(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([*lines[:2], lines[2][:30]]))
    for name in ("predictions", "models"):
        shutil.rmtree(run / name, ignore_errors=True)
    report(run)
    text = Page(run / "report.html").text
    assert "No epoch is complete yet" in text and "Loss by step" in text
    assert "Classes" not in text and "Calibration" not in text


def test_without_a_validation_and_with_numbers_that_are_none(run: Path) -> None:
    kept = []
    for row in rows(run, "epoch"):
        row = {name: value for name, value in row.items() if not name.startswith("val/")}
        kept.append(row | {"train/loss": None, "best": False})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    shutil.rmtree(run / "predictions")
    report(run)
    text = Page(run / "report.html").text
    assert "No validation has been done yet" in text
    assert "train/loss is not a number in epoch 1, 2, 3, 4, 5 and 1 more" in text
    assert "Training accuracy" in text


def test_a_run_whose_losses_are_no_numbers_has_no_best_model(run: Path) -> None:
    kept = [row | {"val/loss": None, "best": False} for row in rows(run, "epoch")]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    shutil.rmtree(run / "predictions")
    report(run)
    text = Page(run / "report.html").text
    assert "No epoch had a finite val/loss, so there is no best model" in text
    assert "val_best.csv is missing" not in text


def test_classes_have_curves_of_many_the_worst(tmp_path: Path) -> None:
    names = [f"class {letter}" for letter in "abcdefghijklmn"]
    run = made_run(tmp_path / "run", names, epochs=60, videos=4, steps=1)
    report(run)
    page = Page(run / "report.html")
    charts = re.findall(r'aria-label="(class \w)\. F1: from', page.source)
    assert "F1 by epoch of the 12 worst of 14 classes" in page.text
    last = rows(run, "classes")[-1]["per_class"]
    left_out = [row["f1"] for row in last if row["class"] not in charts]
    assert len(charts) == 12 and charts == sorted(charts)
    assert min(left_out) >= max(row["f1"] for row in last if row["class"] in charts)
    sizes = [len(svg) for svg in re.findall("<svg class=.chart.*?</svg>", page.source, re.DOTALL)
             if "class " in svg]  # fmt: skip
    assert len(sizes) == 12 and sum(sizes) < 60_000
    few = made_run(tmp_path / "few", names[:2], epochs=1)
    report(few)
    assert "by epoch" not in Page(few / "report.html").text  # one epoch makes no curve


@pytest.mark.parametrize(
    ("short_side", "warmup", "shown"),
    [("[56, 72]", "2.0", ("short side 56 to 72 px", "warm-up 2 epochs")),
     ("[72, 72]", "1.0", ("short side 72 px", "warm-up 1 epoch ")),
     ("x", "0.5", ("short side x px", "warm-up 0.5 epochs"))],
)  # fmt: skip
def test_settings_read_as_words(
    run: Path, short_side: str, warmup: str, shown: tuple[str, ...]
) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["data"]["short_side"] = yaml.safe_load(short_side)
    settings["schedule"]["warmup_epochs"] = float(warmup)
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    report(run, "--hardest", "0")
    text = Page(run / "report.html").text
    assert all(words in text for words in shown)


def test_an_evaluation_in_the_folder_is_shown(run: Path) -> None:
    folder = run / "evaluation-test"
    folder.mkdir()
    content = {"accuracy": 0.75, "f1_macro": 0.5, "videos": 40, "unreadable": 2, "epoch": 4,
               "temporal_views": 10, "spatial_crops": 3, "ece": 0.1,
               "intervals": {"accuracy": [0.6, 0.875]}}  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(content))
    (run / "evaluation-bad").mkdir()
    (run / "evaluation-bad" / "metrics.json").write_text("{")
    report(run)
    text = Page(run / "report.html").text
    assert "test 40 (+2 unreadable) 10 × 3 75.0 % 60.0 to 87.5 %" in text


def test_seconds_of_segments_are_shown_class_by_class(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [*TWO, "rests"], videos=2)
    report(run)
    assert "Videos of each class Class Training Validation moves" in Page(run / "report.html").text
    segments = [
        ("moves left", "train", "0", "1.5"), ("moves left", "train", "2", "6"),
        ("moves left", "train", "0:10", "1200:10.5"), ("moves left", "val", "3", "5"),
        ("moves right", "train", "1", "3.25"), ("rests", "train", "", ""),
        ("rests", "train", "5", "4"),
    ]  # fmt: skip
    (run / "split.csv").write_text("\n".join([
        "path,class,split,group,start,end,subject",
        *(f"a.mp4,{name},{side},a.mp4,{start},{end}," for name, side, start, end in segments),
    ]))  # fmt: skip
    for _ in range(2):  # found out anew, and as it is kept
        report(run)
        text = Page(run / "report.html").text
        assert "Segments of each class, and their seconds" in text
        heads = "Class Training Validation Training, s Median, s Validation, s Median, s"
        assert (
            f"{heads} moves left 3 1 72,006.0 4.0 2.0 2.0 moves right 1 0 2.2 2.2 – – "
            "rests 2 0 – – – –" in text
        )


def test_unreadable_videos_are_counted_and_listed(run: Path) -> None:
    lines = "".join(f"bad/{row:02}.mp4,no frame can be decoded,probe\r\n" for row in range(25))
    (run / "unreadable_videos.csv").write_text("path,reason,where\r\n" + lines)
    report(run)
    text = Page(run / "report.html").text
    assert "25 videos could not be read; the first 10:" in text and "The other 15" in text
    assert "bad/00.mp4" in text and "bad/24.mp4" in text


def test_what_is_no_run_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    assert "holds no run" in refused(capsys, alone)
    (alone / "best_model.json").write_text("{}")
    assert "models folder alone" in refused(capsys, alone)
    assert "there is no such folder" in refused(capsys, tmp_path / "nowhere")
    assert "is a file" in refused(capsys, run / "status")
    assert "is given twice" in refused(capsys, run, f"{run}/.")
    assert "is a folder" in refused(capsys, run, "--output", tmp_path)
    below = run / "status" / "new" / "page.html"
    assert f"{run / 'status'} is a file" in refused(capsys, run, "--output", below)


def test_another_s_file_is_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = run / "report.html"
    page.write_text("<h1>mine</h1>")
    assert "no report wrote" in refused(capsys, run)
    assert "--output" in refused(capsys, run, "--output", run / "metrics.jsonl")
    with pytest.raises(FileExistsError):
        write_report(run)
    assert page.read_text() == "<h1>mine</h1>"
    report(run, "--output", run.parent / "new" / "page.html")
    report(run, "--output", run.parent / "new" / "page.html")  # its own is written anew
    assert Page(run.parent / "new" / "page.html").of("h1")


def test_runs_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = ["a", "b", "c"]
    good = made_run(tmp_path / "x" / "same", classes, videos=40, skill=4)
    poor = made_run(tmp_path / "y" / "same", classes, videos=40, skill=0.2, seed=1)
    other = made_run(tmp_path / "other", ["a", "b", "d"], videos=10)
    monkeypatch.chdir(tmp_path)
    report(good, poor)
    assert capsys.readouterr().out.startswith("2 runs compared: comparison.html (")
    text = Page(tmp_path / "comparison.html").text
    assert "2 runs · slowfast_r50 · on none " in text
    assert "x/same is better" in text and "--output-dir" not in text
    assert "seed 0 1" in text  # the one setting that differs
    shares = [1 - mistakes(run) / 120 for run in (good, poor)]
    assert f"{100 * (shares[0] - shares[1]):+.1f}" in text
    report(good, other)
    text = Page(tmp_path / "comparison.html").text
    assert "The runs have different classes" in text
    assert "The runs were validated on different videos" in text and "is better" not in text
    with open(good / "split.csv", "a") as split:
        names = read_predictions(other / "predictions" / "val_best.csv").names
        split.writelines(f"{name},a,train,{name}\n" for name in names[:7])
    report(good, other)
    text = Page(tmp_path / "comparison.html").text
    assert "7 validation videos of other were among the training videos of same" in text
    (tmp_path / "comparison.html").write_text("mine")
    assert "comparison.html: holds something" in refused(capsys, good, poor)


@pytest.mark.slow
def test_the_report_does_without_torch(run: Path) -> None:
    """Which would double the time it takes."""
    code = f"""
import sys
from slowfast_dist.cli.main import main
main(["report", {str(run)!r}])
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow
def test_a_real_training_has_a_page(clips: Path, tmp_path: Path) -> None:
    flags = ("--data.val-fraction", "0.5", "--epochs", "2", "--global-batch-size", "2")
    run = trained(
        tmp_path / "run", *TINY, "--data.root", clips, *flags, "--micro-batch-size", "2"
    )
    report(run)
    page = Page(run / "report.html")
    last = rows(run, "epoch")[-1]
    assert "Time an epoch" in page.text and "4 training and 4 validation videos" in page.text
    assert f"{100 * last['val/accuracy']:.1f} %" in page.text
    assert len(thumbnails(run / "report.html")) == 4 * mistakes(run)
    assert "--data.val-fraction 0.5" in page.text


def test_a_wheel_carries_the_templates() -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    builder = wheel.WheelBuilder(str(Path(__file__).parents[2]))
    carried = {file.distribution_path for file in builder.recurse_included_files()}
    folder = Path(__file__).parents[2] / "slowfast_dist" / "report" / "templates"
    names = {f"slowfast_dist/report/templates/{path.name}" for path in folder.iterdir()}
    assert len(names) >= 6 and names <= carried


def test_a_table_of_no_videos_at_all_is_no_obstacle(run: Path) -> None:
    """As the validation videos of a resumed run may be others than those of its predictions."""
    write_report(run, videos=table_of([], []))
    assert "it is none of the validation videos any more" in Page(run / "report.html").text
