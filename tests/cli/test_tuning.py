"""--search: what becomes of its words, and the one line for each mistake in them."""

from pathlib import Path

import pytest

from slowfast_dist.cli.commands import COMMANDS
from slowfast_dist.cli.parser import parse_command
from slowfast_dist.cli.tuning import parse_search
from slowfast_dist.config.commands.tune import Choices, Range, Tune
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config


def parsed(*words: str) -> Tune:
    found = parse_command(COMMANDS["tune"], ["--data.root", "videos", *words])
    assert found is not None
    return found[0]


def test_the_usual_flags_are_around_the_settings_as_given() -> None:
    found = {one.flag: one for one in parse_search(parsed())}
    assert list(found) == [
        "optimizer.lr", "optimizer.backbone-lr-scale", "loss.label-smoothing",
        "augment.crop-scale", "augment.rand-augment", "optimizer.ema",
    ]  # fmt: skip
    assert found["optimizer.lr"] == Range("optimizer.lr", 1e-4, 1e-2, True, False)
    crop = found["augment.crop-scale"]
    assert isinstance(crop, Choices) and crop.values == (None, (0.3, 1.0))
    # From scratch there is no backbone to spare; an average of epochs excludes one of steps.
    words = ("--model.pretrained", "false", "--optimizer.average-last", "3", "--optimizer.lr", ".1")
    found = {one.flag: one for one in parse_search(parsed(*words))}
    assert list(found) == [
        "optimizer.lr", "loss.label-smoothing", "augment.crop-scale", "augment.rand-augment"
    ]  # fmt: skip
    assert found["optimizer.lr"] == Range("optimizer.lr", 0.01, 1, True, False)


def test_own_flags_take_their_place_and_may_be_given_several_times() -> None:
    words = ("--search", "epochs=10:40", "data.short_side=224 256,256 320")
    config = parsed(*words, "--search", "optimizer.clip-norm=none,1")
    epochs, side, clip = parse_search(config)
    assert epochs == Range("epochs", 10, 40, False, True)
    assert isinstance(side, Choices) and side.values == ((224, 256), (256, 320))
    assert isinstance(clip, Choices) and clip.values == (None, 1.0)
    both = parse_search(parsed("--search", "default", "epochs=10,30"))
    assert [one.flag for one in both][-1] == "epochs" and len(both) == 7


def test_the_settings_as_given_are_always_among_what_is_searched() -> None:
    lr, smoothing = parse_search(
        parsed("--optimizer.lr", "0.5", "--search", "optimizer.lr=1e-4:1e-2:log",
               "loss.label-smoothing=0,0.2")
    )  # fmt: skip
    assert lr == Range("optimizer.lr", 1e-4, 0.5, True, False)
    assert isinstance(smoothing, Choices) and smoothing.values == (0.1, 0.0, 0.2)


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("optimizer.lr", "write FLAG=LOW:HIGH"),
        ("optimizr.lr=1,2", "unknown flag: did you mean optimizer.lr?"),
        ("optimizer.lr=1:abc:log", "abc: give a number"),
        ("optimizer.lr=1e-2:1e-4", "1e-2 is not below 1e-4"),
        ("optimizer.weight-decay=0:1:log", "a logarithm has no 0"),
        ("optimizer.lr=1:2:lin", "a range is LOW:HIGH or LOW:HIGH:log"),
        ("optimizer.lr=1", "one value is no search: write --optimizer.lr 1.0"),
        ("optimizer.lr=0.1,1e-1", "1e-1 is there twice"),
        ("optimizer.ema=0.1:0.9:log", "the first trial has the setting as given, 0.0"),
        ("epochs=10,,20", "a value is missing"),
        ("data.num-frames=8:16", "takes no range: give its values, as data.num-frames=A,B"),
        ("augment.rand-augment=0,50", "--augment.rand-augment 50.0: give a number from 0 to 30"),
        ("optimizer.average-last=0,99", "--optimizer.average-last 99: give at most --epochs 30"),
        ("seed=1,2", "to choose by it is to choose luck"),
        ("data.root=a,b", "says which videos are scored"),
        ("model.name=slowfast_tiny,x", "x: give slowfast_r50, slowfast_r50_4x16"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_word(word: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        parse_search(parsed("--search", word))
    assert str(error.value).startswith(f"--search {word}: ") and line in str(error.value)


def test_a_flag_is_searched_once() -> None:
    with pytest.raises(UserError, match="epochs is there already"):
        parse_search(parsed("--search", "epochs=10,20", "--search", "epochs=10:20"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--fold", "1"), "--fold 1: each trial trains all its folds"),
        (("--seeds", "2"), "--seeds 2: trials are compared on one seed"),
        (("--learning-curve",), "--learning-curve true: it is for cross-validate"),
        (("--resume", "a/b"), "--resume a/b: goes on with one training"),
        (("--patience", "2"), "--patience 2: chooses an epoch"),
        (("--trials", "0"), "--trials 0: give 1 or a number above it"),
    ],
)
def test_what_means_nothing_in_a_search_is_refused(words: tuple[str, ...], line: str) -> None:
    with pytest.raises(UserError) as error:
        parsed(*words)
    assert str(error.value).startswith(line)


def test_a_trial_is_an_ordinary_training() -> None:
    config = parsed("--trials", "7", "--hours", "2", "--epochs", "9").of_training()
    assert (type(config), config.epochs, config.hours, config.folds) == (Config, 9, None, 3)
    assert config.output_dir == Path("runs/finetune-{timestamp}")
