"""The parts of a page, each against a plain computation of the same."""

import json
import shlex
import subprocess
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.cli.parser import read_command_line
from slowfast_dist.metrics.scores import confusion, per_class
from slowfast_dist.metrics.summary import Predictions, class_scores, confused_pairs, summarise
from slowfast_dist.metrics.uncertainty import Bin
from slowfast_dist.metrics.wrong_labels import Doubt
from slowfast_dist.report.cache import CACHE, Cache, read_cache, write_cache
from slowfast_dist.report.charts import Series, line_chart, thin, ticks
from slowfast_dist.report.comparison import paired_accuracy
from slowfast_dist.report.sections.judged import Judged
from slowfast_dist.report.thumbnails import Thumbnails
from slowfast_dist.runs.history import read_history
from slowfast_dist.runs.run import Split, command_words
from slowfast_dist.runs.settings import default_settings
from slowfast_dist.system.text import clean, operand, option, shell
from tests.helpers.made_runs import made_run


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
    pairs = confused_pairs(cells, names)
    assert [pair.count for pair in pairs] == sorted(wrong[wrong > 0])[::-1]
    first = pairs[0]
    assert wrong[names.index(first.label), names.index(first.prediction)] == first.count
    assert first.share == first.count / counts[names.index(first.label)].sum()


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


def test_what_a_page_found_out_comes_back(tmp_path: Path) -> None:
    names = ["</script>\udcff.mp4", "b.mp4"]
    logits = np.random.default_rng(0).normal(size=(2, 2))
    summary = summarise(Predictions.from_logits(names, np.array([0, 1]), logits, ["x", "y"]), 12)
    thumbnails = {names[0]: Thumbnails((b"\xff\xd8one", b"two"), "", (7, 123456789012345678)),
                  names[1]: Thumbnails((), "it hangs", (1, 2))}  # fmt: skip
    split = Split({"x": 3}, {"x": 1}, True)
    rows = ({"kind": "epoch", "epoch": 1, "best": True, "val/loss": 0.1 + 0.2},
            {"kind": "classes", "epoch": 1, "confusion": [[1]],
             "per_class": [{"class": "x\udcff", "f1": 0.5, "support": 1}]})  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    history = read_history(tmp_path / "metrics.jsonl")
    doubts = [Doubt(names[0], "x", "y", 0.1, 0.9, 10, 8, 1)]
    judged = Judged(1.5, [Bin(0.5, 0.6, 2, 0.55, 0.5)], doubts, 7)
    cache = Cache(history, summary, (1, 2), 12, split, (3, 4), thumbnails, judged)
    write_cache(tmp_path, cache)
    assert read_cache(tmp_path) == cache
    path = tmp_path / CACHE
    content = path.read_bytes()
    assert content.isascii() and json.loads(content)["content"]["hardest"] == 12
    for place in range(0, len(content), 97):
        damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        for other in (damaged, content[:place]):
            path.write_bytes(other)
            assert read_cache(tmp_path) == Cache()
    write_cache(tmp_path, cache)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", ["{}", "[1]", '{"format":1}', '{"format":99}', "3", "{"])
def test_a_cache_of_another_make_counts_for_none(tmp_path: Path, content: str) -> None:
    digest = sha256(content.encode()).hexdigest()
    (tmp_path / CACHE).write_text(f'{{"sha256":"{digest}","content":{content}}}\n')
    assert read_cache(tmp_path) == Cache()


def test_only_new_lines_of_the_metrics_are_parsed(tmp_path: Path) -> None:
    """And all is found that reading the whole file finds, also after a resume took rows back."""
    path = made_run(tmp_path / "run", ["a", "b"], epochs=130) / "metrics.jsonl"
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    whole = read_history(path)
    for count in (0, 1, 7, 300, len(lines) - 1):
        path.write_bytes(b"".join(lines[:count]) + lines[count][:9])  # torn
        known = read_history(path)
        assert known.read_bytes == sum(map(len, lines[:count]))
        path.write_bytes(content)
        assert read_history(path, known) == whole
    known = read_history(path)
    known.epochs[0]["train/loss"] = "as it was found"  # not read again
    assert read_history(path, known).epochs[0]["train/loss"] == "as it was found"
    path.write_bytes(content.replace(b'"epoch": 2,', b'"epoch": 3,'))  # of the same length
    assert read_history(path, known).epochs[1]["epoch"] == 3
    path.write_bytes(b"".join(lines[:300]))
    assert read_history(path, read_history(path)).read_bytes == path.stat().st_size
    path.write_bytes(b"".join(lines[:200]))
    assert read_history(path, whole) == read_history(path)


def test_damaged_rows_are_counted_and_the_best_epoch_gives_the_confusion(tmp_path: Path) -> None:
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
    assert (found.damaged, found.steps) == (3, [])


def test_the_defaults_are_spelled_as_in_a_config_file() -> None:
    defaults = default_settings()
    assert defaults["data.short-side"] == "256 320"
    assert defaults["model.pretrained"] == "kinetics400"
    assert defaults["optimizer.clip-norm"] == "none" and defaults["epochs"] == "30"
    assert not any(shlex.quote(flag) != flag for flag in defaults)
