"""Weights and the description beside them are of one epoch, whenever they are read."""

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import ones

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.segments import Segments
from slowfast_dist.data.listing.video_table import VideoRecord
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import find_best_weights, load_best, read_best
from slowfast_dist.runs.models.saving import save_best, settle_best
from slowfast_dist.system.described_file import ReplacedMeanwhile, previous_of
from slowfast_dist.system.files import file_sha256
from slowfast_dist.training.best.facts import data_facts
from slowfast_dist.training.start_weights import find_weights
from slowfast_dist.video.reader import VideoInfo
from tests.helpers.small_model import write_model
from tests.helpers.video_tables import table_of

CLASSES = ("a", "b")

WRITER = """
import json, os, signal, sys, torch
from pathlib import Path
from slowfast_dist.runs.best_model import load_best
from slowfast_dist.runs.models.saving import save_best
models, killed_at = Path(sys.argv[1]), sys.argv[2]
_, network = load_best(models)
facts = json.loads((models / "best_model.json").read_text())

def kill(event, arguments):
    if event == "os.rename" and os.path.basename(arguments[1]) == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
print("ready", flush=True)
for epoch in range(2, int(sys.argv[3]) + 1):
    if killed_at == "" and epoch % 10 == 1:
        sys.stdin.readline()
    with torch.no_grad():
        network.blocks[6].proj.bias.fill_(epoch)
    save_best(models, network.state_dict(), network, facts | {"epoch": epoch})
"""
"""Saves the best model of epoch 2, 3 and so on, whose last bias is the epoch; killed where a file
of that name would be put in its place. Where it is not to be killed it waits for a line before the
epochs 11, 21 and 31."""


def writer(models: Path, killed_at: str, last: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", textwrap.dedent(WRITER), str(models), killed_at, str(last)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def epoch_of(network: SlowFast) -> int:
    return int(network.blocks[6].proj.bias[0].item())


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Those of epoch 1."""
    folder = write_model(tmp_path / "run" / "models", CLASSES)
    best, network = load_best(folder)
    facts = json.loads((folder / "best_model.json").read_text())
    torch.nn.init.constant_(network.blocks[6].proj.bias, best.epoch)
    save_best(folder, network.state_dict(), network, facts)
    return folder


def test_the_description_has_the_sum_of_the_file(models: Path) -> None:
    weights = models / "best_model_weights.pth"
    found = subprocess.run(["sha256sum", weights], capture_output=True, text=True, check=True)
    facts = json.loads((models / "best_model.json").read_text())
    assert facts["weights_sha256"] == found.stdout.split()[0] == read_best(models).weights_sha256
    assert sorted(path.name for path in models.iterdir()) == [
        "best_model.json", "best_model_architecture.pth", "best_model_weights.pth",
    ]  # fmt: skip


def test_it_tells_the_class_of_what_lies_between_segments(models: Path) -> None:
    path = models / "best_model.json"
    facts = json.loads(path.read_text())
    assert facts["background"] is None
    for value, found in ({"background": "b"}, "b"), ({}, None):
        path.write_text(json.dumps({k: v for k, v in facts.items() if k != "background"} | value))
        assert read_best(models).background == found
    path.write_text(json.dumps(facts | {"background": "c"}))
    with pytest.raises(UserError, match="damaged .background is 'c', none of the classes"):
        read_best(models)


def test_it_tells_of_rows_with_a_region_of_interest_of_their_own(models: Path) -> None:
    nan = float("nan")
    boxes = np.array([(0.0, 0.0, 0.5, 1.0), (nan,) * 4, (8.0, 8.0, 16.0, 16.0)])
    records = [VideoRecord(models / "a.mp4", "a.mp4", row % 2, "a.mp4") for row in range(3)]
    whole = table_of(records, [VideoInfo(30, 15.0, 64, 64, 0, "h264", True)] * 3)
    parts = Segments(np.zeros(3, np.int32), np.full((3, 2), nan), boxes=boxes)
    videos = VideoSet(CLASSES, replace(whole, segments=parts), whole, (), True, ())
    config, path = DataConfig(root=models), models / "best_model.json"
    told = data_facts(config, videos)
    assert told["regions"] == 2
    assert "regions" not in data_facts(config, replace(videos, train=whole))
    assert read_best(models).regions is None and read_best(models).region_notes("") == []
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"data": told}))
    best = read_best(models)
    assert best.region_notes("do this") == [
        "the model was trained on regions of interest (x,y,w,h of 2 training rows), and here it "
        "sees the whole picture: do this"
    ]
    cut = replace(best, data=replace(best.data, crop_box=(0.0, 0.0, 0.5, 0.5)))
    assert cut.region_notes("") == []
    for value in (-1, 1.5, True, 10**400):
        path.write_text(json.dumps(facts | {"data": told | {"regions": value}}))
        with pytest.raises(UserError, match="is damaged"):
            read_best(models)


@pytest.mark.slow
def test_a_reader_never_meets_a_mixture_while_epochs_are_written(models: Path) -> None:
    found = []
    with writer(models, "", 40) as process:
        assert process.stdin is not None
        waits = [10, 20, 30]  # after these epochs, until they were read
        while process.poll() is None:
            best, network = load_best(models)
            assert epoch_of(network) == best.epoch
            found.append(best.epoch)
            if waits and best.epoch == waits[0]:
                waits.pop(0)
                process.stdin.write("\n")
                process.stdin.flush()
    assert process.returncode == 0 and found == sorted(found) and {10, 20, 30} <= {*found}
    best, network = load_best(models)
    assert (best.epoch, epoch_of(network)) == (40, 40)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed_at", "stays"), [("best_model_weights.pth", False), ("best_model.json", True)]
)
def test_a_kill_between_the_files_leaves_the_epoch_before(
    models: Path, killed_at: str, stays: bool
) -> None:
    weights, before = models / "best_model_weights.pth", read_best(models).weights_sha256
    with writer(models, killed_at, 2) as process:
        assert process.wait(120) == -9
    assert (previous_of(weights).exists(), weights.stat().st_nlink) == (True, 1 if stays else 2)
    best, network = load_best(models)
    assert (best.epoch, epoch_of(network)) == (1, 1)
    settle_best(models)
    assert not previous_of(weights).exists()
    assert file_sha256(weights) == before and epoch_of(load_best(models)[1]) == 1


def test_a_mixture_is_refused_where_nothing_of_before_is_there(models: Path) -> None:
    """As on a file system without hard links."""
    weights = models / "best_model_weights.pth"
    torch.save(load_best(models)[1].state_dict() | {"blocks.6.proj.bias": ones(2) * 2}, weights)
    line = f"RUN {weights}: is not the file that best_model.json beside it describes"
    with pytest.raises(UserError, match=f"^{line} .*take both from one run"):
        load_best(models)
    for given in (models, weights):
        with pytest.raises(UserError, match=f"^--model.weights {weights}: is not the file"):
            find_weights(given)


def test_a_description_that_was_replaced_meanwhile_is_read_again(models: Path) -> None:
    earlier, network = load_best(models)
    facts = json.loads((models / "best_model.json").read_text())
    torch.nn.init.constant_(network.blocks[6].proj.bias, 2)
    save_best(models, network.state_dict(), network, facts | {"epoch": 2})
    with pytest.raises(ReplacedMeanwhile, match="a training wrote a new best model meanwhile"):
        earlier.load()
    assert load_best(models)[0].epoch == 2


def test_a_run_of_an_older_version_is_read_as_it_is(models: Path) -> None:
    facts = json.loads((models / "best_model.json").read_text())
    del facts["weights_sha256"]
    (models / "best_model.json").write_text(json.dumps(facts))
    torch.save(load_best(models)[1].state_dict(), models / "best_model_weights.pth")
    assert load_best(models)[0].epoch == 1
    assert find_best_weights(models) == models / "best_model_weights.pth"


@pytest.mark.parametrize(
    "killed_at", [pytest.param("best_model_weights.pth", marks=pytest.mark.slow), "best_model.json"]
)
def test_a_kill_at_the_first_save_of_an_older_run_leaves_its_weights(
    models: Path, killed_at: str
) -> None:
    facts = json.loads((models / "best_model.json").read_text())
    before = facts.pop("weights_sha256")
    (models / "best_model.json").write_text(json.dumps(facts))
    older = read_best(models)
    with writer(models, killed_at, 2) as process:
        assert process.wait(120) == -9
    best, network = load_best(models)
    assert (best.epoch, best.weights_sha256, epoch_of(network)) == (1, None, 1)
    settle_best(models)
    weights = models / "best_model_weights.pth"
    assert file_sha256(weights) == before and not previous_of(weights).exists()
    assert epoch_of(older.load()) == 1
    save_best(models, network.state_dict(), network, facts | {"epoch": 2})
    with pytest.raises(ReplacedMeanwhile):  # of which the new weights are not
        older.load()
