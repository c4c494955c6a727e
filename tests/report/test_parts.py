"""The parts of a page, each against a plain computation of the same."""

import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.cli.parser import read_command_line
from slowfast_dist.metrics.scores import confusion, per_class
from slowfast_dist.metrics.summary import class_scores
from slowfast_dist.report import curves as matrix
from slowfast_dist.report.cache import Kept, as_script, read_kept
from slowfast_dist.report.charts import Series, line_chart, thin, ticks
from slowfast_dist.report.comparison import paired_accuracy
from slowfast_dist.report.stills import Stills
from slowfast_dist.runs.history import read_history
from slowfast_dist.runs.predictions import judge, write_predictions
from slowfast_dist.runs.run import Split, command_words, default_settings
from slowfast_dist.system.text import clean, operand, option, shell


def test_names_steer_nothing_and_are_utf_8() -> None:
    assert clean("naïve שלום می\u200cخواهم") == "naïve שלום می\u200cخواهم"
    assert clean("👩\u200d🚒 手") == "👩\u200d🚒 手"
    assert clean("a\x1b[31m\u202eb\udcff\n") == r"a\x1b[31m\u202eb\udcff\n"


@pytest.mark.parametrize("word", ["plain", "a b", "it's $HOME `x`", "line\nbreak", "\udcff", "-ü"])
def test_a_shell_takes_the_command_back_as_it_was(word: str) -> None:
    line = shell(["printf", "%s", word])
    printed = subprocess.run(
        ["bash", "-c", line.encode("utf-8", "surrogateescape")], capture_output=True, check=True
    )
    assert printed.stdout.decode("utf-8", "surrogateescape") == word


@pytest.mark.parametrize("name", ["runs/a", "-v", "a b", "-a b", "it's"])
def test_a_path_in_a_hint_is_taken_back_as_it_was(name: str) -> None:
    words = shlex.split(option("--output-dir", Path(name)))
    line = read_command_line(words, {"output-dir": str}, 0)
    assert line.settings[0].values == (name,)
    (word,) = read_command_line(shlex.split(operand(Path(name))), {}, 1).words
    assert Path(word) == Path(name)


def test_scores_of_classes_are_kept_of_some_epochs_alone(tmp_path: Path) -> None:
    """And of them F1 alone, whatever a class is called."""
    names = ['a", "confusion": [', "b", "never validated"]
    lines = []
    for epoch in range(1, 1001):
        scores = [{"class": name, "f1": epoch / 1000, "support": 2} for name in names[:2]]
        scores.append({"class": names[2], "f1": 0.0, "support": 0})
        row = {"kind": "classes", "epoch": epoch, "global_step": epoch, "per_class": scores}
        lines.append(json.dumps(row | {"confusion": [[epoch]]}))
    lines[4] = lines[4].replace('"per_class": [', '"per_class": [7, null, {"f1": "x"}, ')
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = read_history(tmp_path / "metrics.jsonl").class_f1
    assert list(found) == names[:2]
    for points in found.values():
        epochs = [epoch for epoch, _ in points]
        assert epochs[0] == 1 and epochs[-1] == 1000 and 24 <= len(epochs) <= 50
        assert len(set(np.diff(epochs[:-1]))) == 1
        assert all(value == epoch / 1000 for epoch, value in points)


def test_the_command_is_what_a_user_types() -> None:
    assert command_words({"command": ["train.py", "demo"]}) == ["python", "train.py", "demo"]
    module = {"command": ["/x/slowfast_dist/__main__.py", "train"]}
    assert command_words(module) == ["python", "-m", "slowfast_dist", "train"]
    assert command_words({"command": ["/bin/slowfast-dist", "train"]})[0] == "/bin/slowfast-dist"
    assert command_words({"command": "train.py"}) == []


@pytest.mark.parametrize("low, high", [(0, 1), (0.5, 2.2), (-3, 8), (1e-6, 3e-3), (7, 7), (0, 9e8)])
def test_ticks_are_round_and_enclose_the_values(low: float, high: float) -> None:
    found = ticks(low, high, 4)
    assert found[0] <= low * (1 + 1e-6) + 1e-12 and found[-1] >= high * (1 - 1e-6)
    steps = np.diff(found)
    assert 1 <= len(steps) <= 9 and np.allclose(steps, steps[0])
    digits = f"{steps[0]:e}".partition("e")[0].rstrip("0").rstrip(".")
    assert digits in ("1", "2", "2.5", "5")


def test_a_thinned_curve_keeps_its_spikes_and_gaps() -> None:
    values: list[float | None] = [1.0] * 5000
    values[1234], values[4000], values[2500] = 9.0, -7.0, None
    kept = thin(list(enumerate(values)), 200)
    assert len(kept) <= 220 and (1234, 9.0) in kept and (4000, -7.0) in kept
    assert any(value is None for _, value in kept)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)


def test_a_chart_says_what_it_shows_and_escapes_names() -> None:
    svg = line_chart("Loss", [Series("<b>", "train", [(1, 2.0), (2, None), (3, 1.0)])])
    assert "&lt;b&gt;: from 2 to 1" in svg and "<b>" not in svg
    assert "not a number" in svg and svg.count('class="curve') == 1
    assert line_chart("Loss", [Series("a", "train", [(1, None)])]) == ""


def test_class_scores_of_cells_are_those_of_the_videos() -> None:
    rng = np.random.default_rng(0)
    labels, guesses = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    names = list("abcde")
    counts = confusion(labels, guesses, 5)
    cells = [(int(i), int(j), int(counts[i, j])) for i, j in np.argwhere(counts)]
    assert class_scores(cells, names) == per_class(labels, guesses, names)
    wrong = counts * (1 - np.eye(5, dtype=int))
    pairs = matrix.confused_pairs(cells, names, 3)
    assert [pair.count for pair in pairs] == sorted(wrong.ravel())[::-1][:3]
    first = pairs[0]
    assert wrong[names.index(first.label), names.index(first.prediction)] == first.count
    assert first.share == first.count / counts[names.index(first.label)].sum()


def test_the_hardest_videos_are_the_mistakes_of_the_highest_loss(tmp_path: Path) -> None:
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.999, 0.001]])
    labels = np.array([0, 1, 1, 0, 1])
    names = [f"{row}.mp4" for row in range(5)]
    write_predictions(tmp_path / "p.csv", names, labels, np.log(probabilities), ["x", "y"])
    judged = judge(tmp_path / "p.csv", 2)
    assert judged is not None and (judged.videos, judged.mistakes) == (5, 3)
    assert [one.path for one in judged.hardest] == ["4.mp4", "1.mp4"]
    assert judged.hardest[1].probability == pytest.approx(0.1)
    assert judged.metrics["accuracy"] == 0.4
    own = probabilities[np.arange(5), labels]
    assert judged.metrics["loss"] == pytest.approx(-np.log(own).mean())


def test_the_paired_interval_is_that_of_drawing_videos() -> None:
    """Against a loop that draws the videos themselves, and far narrower than unpaired."""
    rng = np.random.default_rng(1)
    first = rng.random(300) < 0.8
    second = np.where(rng.random(300) < 0.1, ~first, first)
    difference, (low, high) = paired_accuracy(first, second, resamples=20_000)
    drawn = []
    for _ in range(4000):
        rows = rng.integers(0, 300, 300)
        drawn.append(first[rows].mean() - second[rows].mean())
    assert difference == pytest.approx(first.mean() - second.mean())
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.008)
    assert paired_accuracy(first, first) == (0.0, (0.0, 0.0))


def test_what_a_page_keeps_comes_back(tmp_path: Path) -> None:
    names = ["</script>\udcff.mp4", "b.mp4"]
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 2))
    write_predictions(tmp_path / "p.csv", names, np.array([0, 1]), logits, ["x", "y"])
    judged = judge(tmp_path / "p.csv", 12)
    stills = {names[0]: Stills((b"\xff\xd8one", b"two"), "", (7, 123456789012345678)),
              names[1]: Stills((), "it hangs", (1, 2))}  # fmt: skip
    kept = Kept(judged, [1, 2], 12, Split({"x": 3}, {"x": 1}, True), [3, 4], stills)
    script = as_script(kept)
    assert "<" not in script and script.isascii()
    pictures = "".join(
        f'<img src="data:image/jpeg;base64,{text}">' for text in ("/9hvbmU=", "dHdv")
    )
    page = tmp_path / "page.html"
    page.write_text(f'{pictures}<script type="application/json" id="kept">{script}</script>')
    assert read_kept(page) == kept
    page.write_text(f'<script type="application/json" id="kept">{script}</script>')
    assert read_kept(page).stills == {}  # the pictures are gone: all are drawn again
    for damaged in ("", "{}", "[]", script[:-9], '{"format": 1, "judged": {"classes": 3}}'):
        page.write_text(f'<script type="application/json" id="kept">{damaged}</script>')
        assert read_kept(page).judged is None


def test_only_what_is_needed_of_the_metrics_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"

    def classes(epoch: int) -> str:
        return json.dumps({"kind": "classes", "epoch": epoch, "global_step": epoch,
                           "confusion": [[epoch]]})  # fmt: skip

    def epoch(number: int, **values: object) -> str:
        return json.dumps({"kind": "epoch", "epoch": number, "global_step": number} | values)

    lines = [
        epoch(1, best=True), classes(1), "no JSON", epoch(2, best=True), classes(2),
        '{"kind": "epoch", "epoch": "three"}', '{"format": 2}', "[1, 2]",
        epoch(3, best=False), classes(3), '{"kind": "step", "epoch": 4, "global_step": 4}',
        '{"kind": "something new", "x": 1}', "", epoch(4)[:20],
    ]  # fmt: skip
    path.write_text("\n".join(lines))
    found = read_history(path)
    assert [row["epoch"] for row in found.epochs] == [1, 2, 3]
    assert found.best is not None and found.best["epoch"] == 2
    assert (found.confusion, found.confusion_epoch) == ([[2]], 2)
    assert (found.damaged, found.last_step, found.steps) == (3, 4, [])


def test_the_defaults_are_spelled_as_in_a_config_file() -> None:
    defaults = default_settings()
    assert defaults["data.short-side"] == "256 320" and defaults["model.pretrained"] == "true"
    assert defaults["optimizer.clip-norm"] == "none" and defaults["epochs"] == "30"
    assert not any(shlex.quote(flag) != flag for flag in defaults)
