"""What is found to be reviewed in a run, a list or a folder, and in which order."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.commands.review.answers import Answer, Answers
from slowfast_dist.commands.review.command import run_review
from slowfast_dist.commands.review.samples import Sample, Source, in_order
from slowfast_dist.commands.review.sources import find_source, settings_words, training_words
from slowfast_dist.config.commands.browser import Review
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config
from slowfast_dist.metrics.task import task_of
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.predictions import (
    read_predictions,
    write_neighbours,
    write_predictions,
)
from tests.commands.review.conftest import CLASSES, write_run
from tests.helpers.made_runs import ENVIRONMENT


def paths(samples: list[Sample]) -> list[str]:
    return [one.path for one in samples]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Videos, of which only the names count here."""
    for name in ("a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.avi", "notes.txt"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    return tmp_path / "videos"


def test_a_list_tells_why_and_in_which_order(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "suggested.csv"
    table.write_text(
        "path,label,start,end,suggested,probability,reason\n"
        "b/1.mp4,,1.5,2,b,.7,near b/2.avi\na/1.mp4,a,,,b,.9,\na/2.mp4,a,,,a,.6,\n"
    )
    source = find_source(table, Review(videos=folder))
    first = source.samples[0]
    assert (first.labels, first.start, first.end) == (None, 1.5, 2.0)
    assert (first.predicted, first.probability, first.reason) == ("b", 0.7, "near b/2.avi")
    assert source.classes == ["a", "b"] and source.order == "suggested"
    assert paths(in_order(source, "suggested")) == ["b/1.mp4", "a/1.mp4", "a/2.mp4"]
    assert paths(in_order(source, "wrong")) == ["a/1.mp4"], "the one whose label is another"
    assert paths(in_order(source, "path")) == ["a/1.mp4", "a/2.mp4", "b/1.mp4"]


def test_why_is_how_the_nearest_are_labelled_where_a_run_knows(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    [bare] = in_order(find_source(copy, Review()), "wrong")
    path = copy / "predictions" / "val_best.csv"
    nearest = np.full((6, 3), -1)
    row = read_predictions(path).names.index(bare.path)
    nearest[row] = 0, 1, 3
    write_neighbours(path, read_predictions(path).probabilities, nearest)
    source = find_source(copy, Review())
    [one] = in_order(source, "wrong")
    said = "2 of its 3 nearest clips are labelled moves left, 1 moves right"
    assert bare.reason == "" and one == replace(bare, reason=said)
    assert [other.reason for other in source.samples if other.path != one.path] == [""] * 11


def test_a_list_with_probabilities_of_its_labels_has_the_hardest_first(
    folder: Path, tmp_path: Path
) -> None:
    table = folder / "list.jsonl"
    table.write_text("".join(
        json.dumps({"path": path, "label": "a", "probability": value}) + "\n"
        for path, value in (("a/1.mp4", 0.9), ("a/2.mp4", 0.1), ("b/1.mp4", 0))
    ))  # fmt: skip
    source = find_source(table, Review())
    assert source.order == "hardest"
    assert paths(in_order(source, "hardest")) == ["b/1.mp4", "a/2.mp4", "a/1.mp4"]


def test_what_predict_printed_is_a_list(folder: Path, tmp_path: Path) -> None:
    lines = [
        {"path": str(folder / "a/1.mp4"), "prediction": "a", "confidence": 0.6, "top": []},
        {"path": str(folder / "b/1.mp4"), "prediction": "b", "confidence": 0.9, "segments": [
            {"start": 0.0, "end": 1.5, "class": "b", "confidence": 0.8},
            {"start": 1.5, "end": 4.0, "class": "a", "confidence": 0.5},
        ]},
        {"path": str(folder / "b/2.avi"), "error": "no frame can be decoded"},
    ]  # fmt: skip
    said = tmp_path / "said.jsonl"
    said.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = find_source(said, Review())
    assert source.root == folder
    found = [(one.path, one.start, one.predicted) for one in in_order(source, "hardest")]
    assert found == [("b/1.mp4", 1.5, "a"), ("a/1.mp4", None, "a"), ("b/1.mp4", 0.0, "b")]
    assert all(one.labels is None for one in source.samples), "what a model says is no label"


def test_a_folder_has_no_labels_unless_its_folders_are_classes(folder: Path) -> None:
    source = find_source(folder, Review())
    assert paths(in_order(source, "path")) == ["a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.avi"]
    assert source.classes == [] and all(one.labels is None for one in source.samples)
    labelled = find_source(folder, Review(class_folders=True))
    assert [one.labels for one in labelled.samples] == [("a",), ("a",), ("b",), ("b",)]


def test_a_list_beside_a_run_has_the_classes_of_the_run_and_what_it_says(
    run: Path, clips: Path, tmp_path: Path
) -> None:
    table = tmp_path / "list.csv"
    table.write_text("path,label\nmoves right/clip_000.mp4,\nmoves right/clip_001.mp4,\n")
    source = find_source(run, Review(list=table, videos=clips))
    assert source.classes == list(CLASSES)
    assert [one.predicted for one in source.samples] == ["moves left", ""]


def test_a_cross_validation_is_its_folds(clips: Path, tmp_path: Path) -> None:
    names = [f"{name}/clip_{number:03}.mp4" for name in CLASSES for number in range(4)]
    labels = [name for name in CLASSES for _ in range(4)]
    logits = np.full((12, 3), -2.0)
    logits[np.arange(12), np.repeat(np.arange(3), 4)] = 2.0
    logits[5] = [3.0, -1.0, -2.0]
    turned = [*range(1, 12), 0]  # the second fold validates on the others
    for fold, order in ((1, list(range(12))), (2, turned)):
        some = [names[place] for place in order], [labels[place] for place in order]
        write_run(tmp_path / "cv" / f"fold_{fold}", clips, *some, list(CLASSES), logits[order])
    source = find_source(tmp_path / "cv", Review())
    assert all(one.hardness is not None for one in source.samples)
    assert not any("split" in one.more for one in source.samples), "each fold has another one"
    assert paths(in_order(source, "wrong")) == ["moves right/clip_001.mp4"]


def test_a_run_of_two_folders_keeps_its_sides(folder: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    for side in ("train", "val"):
        for name in ("a", "b"):
            (folder / side / name).mkdir(parents=True)
            (folder / side / name / "1.mp4").touch()
    data = DataConfig(train_dir=folder / "train", val_dir=folder / "val")
    run.describe(Config(output_dir=tmp_path / "run", data=data), ["a", "b"], ENVIRONMENT)
    logits = np.array([[2.0, -2.0], [3.0, -2.0]])
    write_predictions(
        run.predictions, ["a/1.mp4", "b/1.mp4"], np.array([0, 1]), logits, ["a", "b"]
    )
    source = find_source(tmp_path / "run", Review())
    assert source.root == folder
    sides = {one.path: one.more["split"] for one in source.samples}
    assert sides == {f"{side}/{name}/1.mp4": side for side in ("train", "val") for name in "ab"}
    assert in_order(source, "hardest")[0].path == "val/b/1.mp4"
    # The line that is printed is one that a training takes.
    output = tmp_path / "list.csv"
    words = training_words(output, folder)
    words = [*words, *settings_words(tmp_path / "run" / "config.yaml", own_folder=len(words) == 1)]
    config = parse_training(shlex.split(" ".join([*words, "--output-dir", str(tmp_path / "new")])))
    assert config is not None and config.data.train_dir is None is config.data.val_dir
    assert (config.data.root, config.data.videos) == (output, folder)


def test_several_labels_are_kept_and_doubted_where_they_differ(
    folder: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    config = Config(output_dir=tmp_path / "run", data=DataConfig(root=folder))
    run.describe(config, ["a", "b"], ENVIRONMENT)
    (tmp_path / "run" / "split.csv").write_text(
        "path,classes,split,group\na/1.mp4,a|b,val,a/1.mp4\na/2.mp4,,val,a/2.mp4\n"
    )
    flags = np.array([[1, 1], [0, 0]], np.bool_)
    logits = np.array([[3.0, -3.0], [-3.0, -3.0]])
    task = task_of("bce", (0.5, 0.5))
    write_predictions(
        run.predictions, ["a/1.mp4", "a/2.mp4"], flags, logits, ["a", "b"], task=task
    )
    source = find_source(tmp_path / "run", Review())
    assert source.several and source.names_all
    assert [one.labels for one in source.samples] == [("a", "b"), ()]
    assert paths(in_order(source, "wrong")) == ["a/1.mp4"]
    answers = Answers(tmp_path / "new.csv", source)
    answers.give(source.samples)
    assert (tmp_path / "new.csv").read_text().splitlines() == [
        "path,labels,start,end,split", "a/1.mp4,a|b,,,val", "a/2.mp4,,,,val"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "order", "said"),
    [
        ("path,label\na/1.mp4,a\n", "hardest", "--order hardest: nothing tells how hard"),
        ("path,label\na/1.mp4,a\n", "wrong", "--order wrong: no label is probably wrong"),
        ("path,label,probability\na/1.mp4,a,7\n", None, "line 2: probability '7': give a number"),
        ("path,label\nnone.mp4,a\n", None, "none of the 1 videos is there: none.mp4; relative"),
        ("name,what\n1,2\n", None, "no list with columns path,label and no output of predict"),
        ("path,label\n", None, "nothing to review"),
        ("path,label\n../a.mp4,a\n", None, "../a.mp4 is not below .*: write it as an absolute"),
    ],
)
def test_a_mistake_is_named(
    folder: Path, text: str, order: str | None, said: str, tmp_path: Path
) -> None:
    (folder / "list.csv").write_text(text)
    command = Review(order=order, output=tmp_path / "new.csv", port=0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        run_review(folder / "list.csv", command)
    assert not (tmp_path / "new.csv").exists()


def test_a_list_that_is_not_a_reviews_is_never_replaced(folder: Path, tmp_path: Path) -> None:
    table = folder / "list.csv"
    table.write_text("path,label\na/1.mp4,a\n")
    for output in (table, folder / "list.txt"):
        with pytest.raises(UserError, match="--output"):
            run_review(table, Review(output=output, port=0))
    assert table.read_text() == "path,label\na/1.mp4,a\n"
    source = find_source(table, Review())
    Answers(tmp_path / "new.csv", source)
    source.root = tmp_path
    with pytest.raises(UserError, match="its paths start from"):
        Answers(tmp_path / "new.csv", source)
    source.root, source.several = folder, True
    with pytest.raises(UserError, match="several labels"):
        Answers(tmp_path / "new.csv", source)


def test_a_second_list_joins_the_first_in_one_output(folder: Path, tmp_path: Path) -> None:
    """As of two rounds of suggestions; in a list with a split what is new is trained on."""
    first = Source(folder, [Sample("a/1.mp4", ("a",), more={"split": "val"})], ["a"])
    second = Source(folder, [Sample("b/1.mp4", None, 1.0, 2.5)], ["a"])
    output = tmp_path / "new.csv"
    Answers(output, first).give(first.samples)
    answers = Answers(output, second)
    [identity] = answers.give(second.samples)
    assert identity == "b/1.mp4@1-2.5"
    answers.answer(identity, Answer(("b, or c",), 1.0, 2.0, "done"))
    assert output.read_text().splitlines() == [
        "path,label,start,end,split", "a/1.mp4,a,,,val", 'b/1.mp4,"b, or c",1.000,2.000,train'
    ]  # fmt: skip
