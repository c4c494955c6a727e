"""The model card: what it says is what best_model.json says, and the hub's own parser takes it."""

import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import EvalResult, ModelCard
from sklearn.metrics import accuracy_score, f1_score

from slowfast_dist.commands.hub import run_model_card
from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.commands.model_card import ModelCard as Command
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import Config
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.metrics.scores import softmax
from slowfast_dist.renamed import RENAMED
from slowfast_dist.report.card import CARD, card_body, render_card, write_card
from tests.helpers.model_folders import description, labels_and_logits, save_models, small_config
from tests.helpers.training_runs import ROOT, TINY, launch, trained

CLASSES = ("moves down", "moves | up", "turns_*")


def front(text: str) -> Any:
    """What the hub's own parser makes of a card's front matter."""
    return ModelCard(text).data


def classes_section(text: str) -> str:
    return "## Classes" + text.partition("## Classes")[2].partition("\n\n## ")[0]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "models"
    save_models(folder, CLASSES, small_config(tmp_path / "my clips"))
    return folder


def test_the_hub_reads_the_card_and_its_results(models: Path) -> None:
    assert write_card(models)
    text = (models / CARD).read_text()
    card = front(text)
    assert card.pipeline_tag == "video-classification"
    assert card.library_name == "slowfast_dist"
    assert {"slowfast", "slowfast_tiny"} <= set(card.tags)
    assert card.license is None and card.base_model is None
    assert card.model_name == "slowfast_tiny-my-clips"
    labels, logits = labels_and_logits(3, 40)
    predictions = np.argmax(logits, axis=1)
    expected = {
        "Accuracy": ("accuracy", accuracy_score(labels, predictions)),
        "F1 (macro)": ("f1", f1_score(labels, predictions, average="macro")),
        "F1 (weighted)": ("f1", f1_score(labels, predictions, average="weighted")),
    }
    results = {result.metric_name: result for result in card.eval_results}
    for name, (kind, value) in expected.items():
        assert results[name] == EvalResult(
            task_type="video-classification", task_name="Action recognition",
            dataset_type="my-clips", dataset_name="my clips", dataset_split="validation",
            metric_type=kind, metric_name=name, metric_value=pytest.approx(value, abs=1e-6),
        )  # fmt: skip
    # The parser's own copy says the same: nothing is lost on the way.
    assert front(str(ModelCard(text))).to_dict() == card.to_dict()


def test_the_text_tells_counts_scores_and_intervals(models: Path) -> None:
    write_card(models)
    text = card_body(models)
    labels, logits = labels_and_logits(3, 40)
    predictions = np.argmax(logits, axis=1)
    counts = np.bincount(labels)
    assert r"moves down, moves \| up, turns\_\*" in text
    assert rf"| moves \| up | {counts[1]} | {counts[1]} |" in text
    right = np.mean(predictions == labels)
    shown = re.search(r"\| Accuracy \| (\S+) \| (\S+) to (\S+) \|", text)
    assert shown is not None
    value, low, high = map(float, shown.groups())
    assert value == pytest.approx(right, abs=5e-4)
    # Against the binomial's own spread, which the bootstrap's percentiles follow.
    spread = 1.96 * np.sqrt(right * (1 - right) / 40)
    assert low == pytest.approx(right - spread, abs=0.04)
    assert high == pytest.approx(right + spread, abs=0.04)
    confidence = softmax(logits).max(axis=1)
    place = np.ceil(confidence * 15)
    gaps = [
        abs(np.sum(confidence[place == p]) - np.sum((predictions == labels)[place == p]))
        for p in np.unique(place)
    ]
    assert f"differ by {sum(gaps) / 40:.3f} on average" in text
    assert "chosen on the same validation videos" in text and "Each video was split" in text
    assert "somebody" not in text and str(models.parent.parent) not in text


def test_what_is_unlike_the_published_network_and_its_clips_is_told(models: Path) -> None:
    write_card(models)
    assert "| Network |" not in card_body(models) and "| Short videos |" not in card_body(models)
    content = json.loads((models / "best_model.json").read_text())
    content["model"] |= {"slow_frames": "stride", "lateral_norm": False}
    content["clip"]["short_videos"] = "loop"
    (models / "best_model.json").write_text(json.dumps(content))
    write_card(models)
    assert "| Network | slow frames stride, lateral norm false |" in card_body(models)
    assert "| Short videos | shown again from their first frame |" in card_body(models)


def test_a_card_changed_by_hand_is_kept(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_model_card(models.parent, Command())
    first = (models / CARD).read_bytes()
    assert not list(models.glob(".*"))
    run_model_card(models, Command())  # models/ alone gives the same card, and rewrites its own
    assert (models / CARD).read_bytes() == first
    for changed in (b"mine\n", first + b"mine\n", first.replace(b"Sound", b"Music"),
                    first.replace(b"\n", b"\r\n"), b"", b"\xff\xfe"):  # fmt: skip
        (models / CARD).write_bytes(changed)
        assert not write_card(models)
        run_model_card(models, Command())
        assert "changed by hand and is kept; --overwrite" in capsys.readouterr().out
        assert (models / CARD).read_bytes() == changed
    run_model_card(models, Command(overwrite=True))
    assert (models / CARD).read_bytes() == first


def test_many_classes_are_folded_and_exports_are_named(tmp_path: Path) -> None:
    config = small_config(tmp_path / "videos")
    for count, folds in ((50, 0), (51, 3)):
        names = tuple(f"class {index}" for index in range(count))
        text = render_card(description(names, config, 2 * count), ["best_model.onnx", "x.onnx"])
        assert text.count("<details>") == text.count("</details>") == folds
        assert "`best_model.onnx`" in text and "pt2`:" not in text and "x.onnx" not in text
        assert front(text).metrics == ["accuracy", "f1", "precision", "recall"]
    assert "| Top-5 accuracy |" in text


def test_what_was_done_is_what_the_card_says() -> None:
    given = Config(
        data=DataConfig(train_dir=Path("/a/clips/train"), val_dir=Path("/a/clips/val")),
        model=ModelConfig("slowfast_r50"),
    )
    text = render_card(description(("a", "b"), given), [])
    assert "of clips" in text and "The split was given." in text and "/a/" not in text
    assert "fine-tuned from `SLOWFAST_8x8_R50.pyth` (pytorchvideo's, of Kinetics-400)" in text
    assert "mirrored" in text and "Each video was split" not in text
    assert "commit `0123456789ab`" in text and "slowfast_dist 0.1.0" in text
    data = DataConfig(root=Path("list.csv"), group_pattern=r"seq\d+", flip=False)
    own = replace(given, data=data, model=ModelConfig(weights=Path("/b/mine.pth")))
    text = render_card(description(("a", "b"), own), [])
    assert "actions of list" in text and r"same match of `seq\d+`" in text
    assert "fine-tuned from `mine.pth`" in text and "mirrored" not in text


def test_the_augmentation_is_in_the_card() -> None:
    plain = Config(data=DataConfig(root=Path("clips")))
    augment = AugmentConfig(
        crop_scale=(0.3, 1.0), rand_augment=9.0, erasing=0.25, cutmix=1.0, speed=(0.8, 1.25)
    )
    data = replace(plain.data, flip_pairs=("a:b",))
    without = render_card(description(("a", "b"), plain), [])
    measured = replace(plain.evaluation, precise_norm=64)
    varied = replace(plain, data=data, augment=augment, evaluation=measured)
    text = render_card(description(("a", "b"), varied), [])
    for line in (
        "crop, share | [0.3, 1.0] |", "RandAugment-T | 9.0 |", "erasing | 0.25 |",
        "CutMix | 1.0 |", "Speed | [0.8, 1.25] |", "swaps | ['a:b'] |",
        "measured on, clips | 64 |",
    ):  # fmt: skip
        assert line in text.replace("\\", "") and line not in without.replace("\\", "")
    assert "Mixup" not in text and "RandAugment" not in without


def test_an_older_description_still_has_a_card(models: Path) -> None:
    facts = description(CLASSES, small_config(models))
    old = {name: facts[name] for name in ("model", "classes", "clip", "epoch", "metrics")}
    text = render_card(old, [])
    assert "accuracy of" in text and "## Data" not in text and "interval 0" not in text
    assert front(text).eval_results
    bare = render_card({name: old[name] for name in ("model", "classes", "clip")}, [])
    assert "Not validated." in bare and front(bare).eval_results is None


@pytest.mark.parametrize(
    "damage",
    [{"data": 3}, {"per_class": [{}]}, {"intervals": {"accuracy": [1]}}, {"ece": "x"},
     {"metrics": {"val/accuracy": "high"}}, {"confusions": [None]}, {"training": []}],
    ids=lambda damage: next(iter(damage)),
)  # fmt: skip
def test_a_damaged_description_is_one_line(tmp_path: Path, damage: dict[str, object]) -> None:
    facts = description(CLASSES, small_config(tmp_path)) | damage
    with pytest.raises(UserError, match="best_model.json: is damaged .*: take it from the run"):
        render_card(facts, [])


def test_names_that_are_no_text_do_not_break_the_card(tmp_path: Path) -> None:
    config = small_config(tmp_path / os.fsdecode(b"clips \xff --- : |"))
    facts = description(("a\n---\nb", "`c`<script>"), config)
    text = render_card(facts, [])
    assert front(text).eval_results[0].dataset_name == "clips ? --- : |"
    assert r"a --- b, \`c\`\<script\>" in ModelCard(text).text
    for name in ("- x", "+ x", "---", "===", "1. x", "12) x"):  # a list, a line, a heading
        section = classes_section(render_card(description((name, "b"), config), []))
        assert "\n\n" + re.sub(r"([-+=.)])", r"\\\1", name, count=1) + ", b" in section
    # Nor do they turn the text around them, or what they look like.
    turned = render_card(description(("\u202egpj.exe", "b"), config), [])
    assert "\u202e" not in turned and r"\\u202egpj.exe, b" in turned
    # No entities, and no emphasis: _x_ behind an underscore would be one.
    facts = description(("R&amp;D", "__x__", "a_b"), config)
    section = classes_section(render_card(facts, []))
    assert section.endswith(r"R\&amp;D, \_\_x\_\_, a_b")


def test_a_full_or_closed_disk_is_one_line(models: Path) -> None:
    (models / CARD).mkdir()
    with pytest.raises(RunError, match=f"cannot write the model card .*{CARD}"):
        write_card(models)


OLD_PYTHON = """\
from pathlib import Path

from slowfast_dist.data.clips import {function}
from slowfast_dist.data.probe import probe_file
from slowfast_dist.data.transforms import evaluation_view
from slowfast_dist.data.video import read_frames
from slowfast_dist.predictor import open_predictor

predictor = open_predictor(Path("MODEL"))
video = Path("video.mp4")
info = probe_file(video)
indices = {call}
view = evaluation_view(info.height, info.width, predictor.best.data, crop=0, crops=1)
clip = read_frames(video, indices, info, "auto", view)  # uint8 (T, H, W, 3), RGB
probabilities = predictor.probabilities(clip[None])[0]
print(predictor.classes[probabilities.argmax()], probabilities.max())
"""
"""The program of cards that version 0.1.0 wrote, with a call of dense_indices or uniform_indices:
they lie on the hub, so it must run for good."""


def answer(program: str, folder: Path) -> tuple[str, float]:
    """The class and the probability that a card's program prints in ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=500,
        env=os.environ | {
            "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
        },
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    name, probability = done.stdout.strip().rsplit(" ", 1)
    return name, float(probability)


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with MODEL, models/ of a training, and video.mp4, as who reads a card has it."""
    folder = tmp_path_factory.mktemp("downloaded")
    make_videos(folder / "clips", 4, 0, size=48, frames=20, classes=("moves up", "turns clockwise"))
    run = trained(
        folder / "run", *TINY, "--data.root", folder / "clips", "--data.val-fraction", "0.5",
        "--epochs", "2", "--global-batch-size", "4", "--micro-batch-size", "4",
    )  # fmt: skip
    (run / "models").rename(folder / "MODEL")
    (folder / "clips" / "moves up" / "clip_000.mp4").rename(folder / "video.mp4")
    return folder


@pytest.fixture(scope="module")
def prediction(downloaded: Path) -> tuple[str, float]:
    """What the command line says of the video."""
    model, video = downloaded / "MODEL", downloaded / "video.mp4"
    done = launch("-m", "slowfast_dist", "predict", model, video, "--json")
    said = json.loads(done.stdout)
    return said["prediction"], said["confidence"]


@pytest.mark.slow
def test_the_python_of_the_card_says_what_predict_says(
    downloaded: Path, prediction: tuple[str, float]
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", card_body(downloaded / "MODEL"), re.DOTALL)
    assert len(program.split("\n\n")) == 2 and program.startswith("import slowfast_dist\n")
    assert answer(program, downloaded) == prediction


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    ["dense_indices(info.frames, 8, 1, position=0.5)", "uniform_indices(info.frames, 8)"],
)
def test_the_python_of_old_cards_runs(
    downloaded: Path, prediction: tuple[str, float], call: str
) -> None:
    program = OLD_PYTHON.format(function=call.partition("(")[0], call=call)
    name, probability = answer(program, downloaded)
    assert name in ("moves up", "turns clockwise") and 0.5 <= probability <= 1
    if call.startswith("dense"):  # the clip of the run's only view
        assert name == prediction[0] and probability == pytest.approx(prediction[1], abs=1e-6)


def test_the_old_names_of_modules_are_the_modules_themselves() -> None:
    for old, new in RENAMED.items():
        assert importlib.import_module(old) is importlib.import_module(new)
        assert importlib.import_module(new).__spec__.name == new  # type: ignore[union-attr]
    program = (
        "import slowfast_dist.renamed as renamed, sys\n"
        "renamed.install()\n"
        "assert sum(isinstance(f, renamed._AliasFinder) for f in sys.meta_path) == 1\n"
        "import slowfast_dist.data.video as old\n"
        "import slowfast_dist.video.reader as new\n"
        "import slowfast_dist.data\n"
        "assert slowfast_dist.data.video is old is new, old\n"
        "import pickle; assert pickle.loads(pickle.dumps(new.VideoInfo)) is old.VideoInfo\n"
        "try:\n    import slowfast_dist.data.nothing\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=500
    )
    assert done.stdout == "No module named 'slowfast_dist.data.nothing'\n", done.stderr


def test_a_count_that_is_a_whole_float_is_one(tmp_path: Path) -> None:
    content = description(("a", "b"), small_config(tmp_path / "videos"), 4)
    content["confusions"] = [{"class": "a", "prediction": "b", "count": 3.0}]
    assert "a for b (3)" in render_card(content, [])
    for wrong in (1.5, float("inf"), "1"):
        content["confusions"][0]["count"] = wrong
        with pytest.raises(UserError, match="is no count"):
            render_card(content, [])
