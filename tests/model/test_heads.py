"""The rows of a trained head go to the classes of their names, whatever their number and order."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model.heads import NAMED
from slowfast_dist.model.slowfast import SlowFast, build_model
from slowfast_dist.model.weights import LoadReport, WeightsFile

KNOWN = ("clap", "jump", "run", "wave")
"""Classes of the file's rows; row r of its head is filled with r + 1."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "old.pth"
    torch.manual_seed(7)
    state = SlowFast("slowfast_tiny", len(KNOWN), 0.0).state_dict()
    for key in ("blocks.6.proj.weight", "blocks.6.proj.bias"):
        rows = torch.arange(1.0, 1 + len(KNOWN)).view(-1, *[1] * (state[key].ndim - 1))
        state[key] = rows.expand_as(state[key]).clone()
    torch.save(state, path)
    return path


def started(
    file: Path, classes: Any, known: tuple[str, ...] | None = KNOWN, head: Any = "auto"
) -> tuple[list[float | None], LoadReport]:
    """Of each of the new head's rows the number that fills it, None where it is a new row."""
    config = ModelConfig("slowfast_tiny", weights=file, dropout=0.0, head=head)
    torch.manual_seed(3)
    model, report = build_model(config, classes, WeightsFile(file, known))
    weight: Tensor = model.head.proj.weight
    bias: Tensor = model.head.proj.bias
    found: list[float | None] = []
    for row, value in zip(weight, bias, strict=True):
        filled = bool((row == value).all())
        found.append(value.item() if filled else None)
    return found, report


def test_the_same_classes_in_another_order_are_permuted(file: Path) -> None:
    rows, report = started(file, ("wave", "clap", "run", "jump"))
    assert rows == [4, 1, 3, 2]
    assert report.lines[1] == "head: kept, the same 4 classes in another order"
    rows, report = started(file, KNOWN)
    assert rows == [1, 2, 3, 4] and report.lines[1] == "head: kept, the same 4 classes"


def test_other_classes_of_the_same_number_get_a_new_head(file: Path) -> None:
    rows, report = started(file, ("a", "b", "c", "d"))
    assert rows == [None] * 4
    assert report.lines[1] == (
        "head: classes 4 new (a, b, c, d), 4 dropped (clap, jump, run, wave)"
    )


def test_new_classes_get_new_rows_and_absent_ones_are_dropped(file: Path) -> None:
    rows, report = started(file, ("bow", "jump", "nod", "wave", "yawn"))
    assert rows == [None, 2, None, 4, None]
    assert report.lines[1] == (
        "head: classes 2 kept by name (jump, wave), 3 new (bow, nod, yawn), 2 dropped (clap, run)"
    )
    assert report.head is not None
    assert report.head.facts() == {
        "kept": ["jump", "wave"], "new": ["bow", "nod", "yawn"], "dropped": ["clap", "run"],
    }  # fmt: skip
    fresh, _ = started(file, ("bow", "jump", "nod", "wave", "yawn"), head="new")
    assert fresh == [None] * 5


def test_long_lists_are_counted_and_their_first_names_given(file: Path) -> None:
    many = tuple(f"class {number:03}" for number in range(40))
    _, report = started(file, (*many, "wave"))
    assert f"40 new (class 000, {', '.join(many[1:NAMED])} and 35 more)" in report.lines[1]


def test_a_name_of_a_folder_on_macos_is_the_same_name(file: Path) -> None:
    """It parts accents from their letters; two names that differ in that alone stay apart."""
    known = ("andar", "b", "c", "cami\u00f3n")
    assert started(file, ("camio\u0301n", "x"), known)[0] == [4, None]
    both = ("cami\u00f3n", "camio\u0301n", "c", "d")
    assert started(file, ("camio\u0301n", "cami\u00f3n"), both)[0] == [2, 1]


@pytest.mark.parametrize("known", [None, ("a", "b")])
def test_without_names_a_head_is_new_unless_it_is_kept(file: Path, known: Any) -> None:
    """Two names beside a head of four rows are those of another file."""
    assert started(file, KNOWN, known)[0] == [None] * 4
    rows, report = started(file, KNOWN, known, head="keep")
    assert rows == [1, 2, 3, 4]
    assert "the file does not tell its classes' names" in report.lines[1]
    assert started(file, KNOWN, known, head="new")[1].lines[1] == (
        "head: new, for 4 classes (--model.head new)"
    )


def refusal(file: Path, classes: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        started(file, classes, head="keep", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_head_that_cannot_be_kept_is_one_line(file: Path, tmp_path: Path) -> None:
    line = refusal(file, ("a", "b", "c"), known=None)
    assert line.startswith(f"--model.head keep: the head of {file} has 4 classes, and here are 3")
    moved = refusal(file, ("clap", "hop", "jump", "wave"))
    assert moved.startswith(f"--model.head keep: row 3 of {file} is run, and here jump, which")
    state = torch.load(file)
    torch.save({k: v for k, v in state.items() if "proj" not in k}, tmp_path / "backbone.pth")
    assert "has no head to keep" in refusal(tmp_path / "backbone.pth", KNOWN, known=None)
    with pytest.raises(UserError, match="--model.head keep: slowfast_tiny starts from scratch"):
        build_model(ModelConfig("slowfast_tiny", head="keep"), 4)


def test_classes_that_were_renamed_keep_their_rows_with_keep(file: Path) -> None:
    rows, report = started(file, ("clap", "hop", "run", "wave"), head="keep")
    assert rows == [1, 2, 3, 4]
    assert report.lines[1].endswith("4 rows (--model.head keep); renamed: jump -> hop")
    assert started(file, ("wave", "clap", "run", "jump"), head="keep")[0] == [4, 1, 3, 2]


def test_the_model_name_of_a_run_is_named_where_it_does_not_fit(file: Path) -> None:
    config = ModelConfig("slowfast_r50", weights=file)
    with pytest.raises(
        UserError, match="is a slowfast_tiny and does not fit --model.name slowfast"
    ):
        build_model(config, 4, WeightsFile(file, KNOWN, "slowfast_tiny"))
