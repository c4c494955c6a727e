"""Uploads to a stand-in for the hub, over real HTTP with the hub's own library, and back again."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from slowfast_dist.commands import hub as hub_room
from slowfast_dist.commands.hub import push_to_hub, run_model_card
from slowfast_dist.config.commands.model_card import ModelCard
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.runs.best_model import read_best
from tests.helpers.hub_server import TOKEN, Hub, hub_server
from tests.helpers.model_folders import save_models, small_config
from tests.helpers.training_runs import ROOT

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "models"
    save_models(folder, CLASSES, small_config(Path("clips")))
    return folder


@pytest.fixture
def models(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run" / "models"))


@pytest.fixture
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the login of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def hub(no_login: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        yield server


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """Of a process that takes the stand-in for the hub."""
    return os.environ | {
        "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def downloaded(hub: Hub, repository: str, folder: Path) -> Path:
    """What the hub's library makes of a repository, in a process of its own."""
    target = folder / "downloaded"
    script = (
        "import sys, huggingface_hub\n"
        "huggingface_hub.snapshot_download(sys.argv[1], local_dir=sys.argv[2])"
    )
    subprocess.run(
        [sys.executable, "-c", script, repository, target],
        env=environment(hub, folder), check=True, timeout=300,
    )  # fmt: skip
    return target


def test_what_goes_up_comes_down_and_loads(
    hub: Hub, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("notes.txt", "best_model.onnx", ".README.md.1.tmp"):
        (models / name).write_bytes(name.encode())
    run_model_card(models.parent, ModelCard(push_to_hub="me/waves"))
    card, stays, sends, uploaded = capsys.readouterr().out.splitlines()
    assert card == f"{models / 'README.md'}: written"
    assert stays == "stays here: .README.md.1.tmp, best_model_architecture.pth, notes.txt"
    assert sends == (
        f"sends to {hub.url}/me/waves (made private): README.md, best_model.json, "
        "best_model_weights.pth, best_model.onnx"
    )
    assert uploaded == f"uploaded: {hub.url}/me/waves"
    files = hub.repositories["me/waves"]
    assert sorted(files) == [
        "README.md", "best_model.json", "best_model.onnx", "best_model_weights.pth",
    ]  # fmt: skip
    assert {name: (models / name).read_bytes() for name in files} == files
    assert hub.objects and hub.private == {"me/waves": True} and len(hub.commits) == 1

    folder = downloaded(hub, "me/waves", tmp_path)
    network, best = read_best(folder).load(), read_best(folder)
    assert best.classes == CLASSES
    here = read_best(models).load().state_dict()
    assert all(value.equal(here[name]) for name, value in network.state_dict().items())


def test_weights_that_are_not_finite_stay_here(hub: Hub, models: Path) -> None:
    weights = models / "best_model_weights.pth"
    state = torch.load(weights)
    torch.save(state | {"blocks.6.proj.bias": torch.full((2,), torch.nan)}, weights)
    with pytest.raises(UserError, match=r"proj\.bias \(2 of its 2 numbers\) is not finite"):
        run_model_card(models, ModelCard(push_to_hub="me/waves"))
    assert not hub.repositories


def test_an_upload_into_a_repository_that_is_there(hub: Hub, models: Path) -> None:
    hub.repositories["me/waves"] = {"README.md": b"old", "more.txt": b"theirs"}
    (models / "README.md").write_text("---\nlicense: mit\n---\nmine\n")
    run_model_card(models, ModelCard(push_to_hub="me/waves", private=False))
    files = hub.repositories["me/waves"]
    assert files["README.md"].endswith(b"mine\n") and files["more.txt"] == b"theirs"
    run_model_card(models, ModelCard(push_to_hub="me/open", private=False))
    assert hub.private == {"me/open": False}


@pytest.mark.parametrize(
    ("repository", "line"),
    [
        ("me/no such name", "no name of a repository: give USER/NAME"),
        ("me/-x-", "no name of a repository: give USER/NAME"),
        ("me/" + 97 * "x", "no name of a repository: give USER/NAME"),
        ("them/waves", "may not write there: give a repository of your own"),
    ],
)
def test_repositories_that_are_refused(
    hub: Hub, models: Path, repository: str, line: str
) -> None:
    with pytest.raises(UserError, match=f"^--push-to-hub {repository}: .*{line}") as error:
        push_to_hub(models, repository, True)
    assert TOKEN not in str(error.value) and "\n" not in str(error.value)
    assert hub.repositories == {}


def test_a_card_that_the_hub_does_not_take(hub: Hub, models: Path) -> None:
    (models / "README.md").write_text("---\n- a list\n---\nmine\n")
    with pytest.raises(UserError, match="the hub refuses it .*README.md.*: change what it names"):
        push_to_hub(models, "me/waves", True)
    assert hub.commits == []


def test_logins_that_are_none(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(UserError, match="does not know this login: log in with 'hf auth login'"):
        push_to_hub(models, "me/waves", True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="not logged in: log in with 'hf auth login', or set HF_"):
        push_to_hub(models, "me/waves", True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"is not installed: pip install '.\[hub\]'"):
        push_to_hub(models, "me/waves", True)


def test_a_hub_that_fails_or_is_away(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.status = 500
    with pytest.raises(RunError, match="the hub failed with 500 .*: try again later"):
        push_to_hub(models, "me/waves", True)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, says nothing
        monkeypatch.setattr(hub_room, "SILENT_SECONDS", 0.3)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        begin = time.monotonic()
        with pytest.raises(RunError, match="the hub cannot be reached .*: try again later"):
            push_to_hub(models, "me/waves", True)
        assert time.monotonic() - begin < 50  # SILENT_SECONDS are 60
    with socket.socket() as deaf:  # its port is nobody else's, and nothing listens there
        deaf.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        with pytest.raises(RunError, match="the hub cannot be reached"):
            push_to_hub(models, "me/waves", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        push_to_hub(models, "me/waves", True)


@pytest.mark.slow
def test_the_command_as_a_user_types_it(no_login: None, models: Path, tmp_path: Path) -> None:
    with hub_server() as hub:
        words = ["-m", "slowfast_dist", "model-card", str(models.parent), "--push-to-hub"]
        done, refused = (
            subprocess.run(
                [sys.executable, *words, name], cwd=ROOT, env=environment(hub, tmp_path),
                capture_output=True, text=True, timeout=300,
            )
            for name in ("me/waves", "them/waves")
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"uploaded: {hub.url}/me/waves"
        assert "best_model_weights.pth" in hub.repositories["me/waves"]
        assert refused.returncode == 2
        assert refused.stderr.splitlines()[-1].startswith("error: --push-to-hub them/waves: this ")
