"""The image's and compose's files: linted, and what has to agree in them."""

import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.helpers.training_runs import ROOT
from tests.launch.test_launch_files import PROGRAMS

LAUNCH = ROOT / "launch"
IMAGE = (LAUNCH / "Dockerfile").read_text()
COMPOSE = (LAUNCH / "compose.yaml").read_text()


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [PROGRAMS / "hadolint", "--no-color", LAUNCH / "Dockerfile"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_image_copies_and_installs_is_there() -> None:
    for sources in re.findall(r"^COPY (.+) \S+$", IMAGE, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    for file in re.findall(r"-r (\S+)", IMAGE):
        assert (ROOT / file).is_file(), file
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    ignored = (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines()
    assert {".git", ".venv*", "runs"} <= set(ignored)


@pytest.mark.parametrize(("build", "code"), [("cpu", 0), ("cuda", 0), ("gpu", 2)])
def test_the_build_argument_chooses_torch(build: str, code: int, tmp_path: Any) -> None:
    """The image's own shell line, with a pip that says what it is asked for."""
    [line] = re.findall(r"^RUN (pip install .*?esac)$", IMAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "pip").write_text('#!/bin/sh\necho "pip $*"\n')
    (tmp_path / "pip").chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", line.replace("\\\n", "")], cwd=ROOT, capture_output=True, text=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "TORCH_BUILD": build},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    _, *torch = done.stdout.splitlines()
    if build == "cpu":
        assert re.search(r"torch==[\d.]+\+cpu$", torch[0])
    elif build == "cuda":
        assert "--require-hashes" in torch[0] and torch[0].endswith("torch.txt")
    else:
        assert torch == [] and "TORCH_BUILD=gpu is neither cpu nor cuda" in done.stderr


def test_the_services_agree_with_the_image() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    arguments = set(re.findall(r"^ARG (\w+)", IMAGE, re.MULTILINE))
    for name, service in services.items():
        build = service["build"]
        assert (LAUNCH / build["context"] / build["dockerfile"]).resolve() == LAUNCH / "Dockerfile"
        assert set(build["args"]) <= arguments and build["args"]["TORCH_BUILD"] == name
        assert (ROOT / service["entrypoint"][1]).is_file()
        targets = [volume["target"] for volume in service["volumes"]]
        assert targets == ["/data", "/runs"]
        assert "--data.root=/data" in service["entrypoint"]
    user = re.findall(r"^USER (\d+)$", IMAGE, re.MULTILINE)
    assert f"${{TRAINER:-{user[-1]}}}" in COMPOSE
    devices = services["cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"] and "deploy" not in services["cpu"]


def compose_program() -> list[str] | None:
    """Compose 2, as docker's plugin or apart: it reads files without a Docker engine."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version", "--short"], capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.startswith("2."):
                return command
    return None


def test_compose_reads_its_file() -> None:
    command = compose_program()
    if command is None:
        pytest.skip("needs Docker Compose 2 (Debian 13: docker-compose)")
    command += ["-f", str(LAUNCH / "compose.yaml"), "config", "--format", "json"]
    refused = subprocess.run(
        command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
    )
    assert refused.returncode != 0 and "DATA is missing" in refused.stderr
    done = subprocess.run(
        command, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "DATA": "/videos", "RUNS": "/runs"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["services"]
    assert found["cpu"]["volumes"][0]["source"] == "/videos"
    assert found["cuda"]["build"]["args"] == {"TORCH_BUILD": "cuda"}
