"""launch/setup.sh where something is missing, what it holds files against, and what it shows."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker

from tests.helpers.training_runs import ROOT

REQUIREMENTS = ROOT / "launch" / "requirements"
TOOLS = ("bash", "cat", "cksum", "dirname", "env", "find", "flock", "grep", "id", "mkdir", "sed",
         "uname")  # fmt: skip
"""Programs of any system that set-up uses, but Python."""


def pins(file: Path) -> dict[str, str]:
    """The names and versions of a file of requirements."""
    lines = re.findall(r"^([a-z][\w.-]*)===?([^\s;]+)", file.read_text(), re.MULTILINE)
    return dict(lines)


def hashed(file: Path) -> list[str]:
    """The requirements of a file, each with its hashes, on one line each."""
    text = re.sub(r"\\\n\s*", "", file.read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that set-up reads, in a folder without .venv."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "launch", folder / "launch")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def set_up(clone: Path, programs: dict[str, str], **env: str) -> subprocess.CompletedProcess[str]:
    """With these programs (a script each) and `TOOLS` alone on the path."""
    folder = clone.parent / "bin"
    folder.mkdir(exist_ok=True)
    for name in TOOLS:
        if path := shutil.which(name):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(path)
    for name, text in programs.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return subprocess.run(
        [str(folder / "bash"), "launch/setup.sh"], cwd=clone, capture_output=True, text=True,
        timeout=120, env={"PATH": str(folder), "HOME": str(clone.parent), **env},
    )  # fmt: skip


def python_script(body: str = "") -> str:
    """A program python3: what it does before it becomes this test's own Python."""
    own = getattr(sys, "_base_executable", sys.executable)
    return f'#!/usr/bin/env bash\n{body}\nexec {own} "$@"\n'


def take_as_it_is(clone: Path, python: Path) -> None:
    """Set-up asks a Python for the interpreter behind it: the programs of these tests are what they
    are by their own name."""
    setup = clone / "launch" / "setup.sh"
    asked = 'getattr(sys, "_base_executable", None) or sys.executable'
    assert setup.read_text().count(asked) == 1
    setup.write_text(setup.read_text().replace(asked, f'"{python}"'))


def test_without_a_python_each_system_has_its_line(clone: Path) -> None:
    done = set_up(clone, {})
    assert done.returncode == 1 and done.stdout == ""
    first, *lines = done.stderr.splitlines()
    assert "no Python 3.11 to 3.14 found (python3: none)" in first
    ways = {line.split()[0]: line for line in lines if line.startswith("  ")}
    for name, command in {
        "Debian": "apt-get install python3 python3-venv", "Fedora:": "dnf install python3.1",
        "Ubuntu": "apt-get install python3 python3-venv", "conda:": "conda create",
        "uv:": "pip install uv",
    }.items():  # fmt: skip
        assert command in ways[name]
    assert not (clone / ".venv").exists()


def test_an_old_python_is_named(clone: Path) -> None:
    old = '#!/usr/bin/env bash\n[ "$1" != --version ] || echo Python 3.9.2\n'
    assert "(python3: Python 3.9.2)" in set_up(clone, {"python3": old}).stderr
    done = set_up(clone, {"python3": old}, PYTHON="python3")
    assert "PYTHON=python3 is not a Python 3.11 to 3.14 that runs" in done.stderr


def test_uv_is_asked_where_there_is_no_python(clone: Path) -> None:
    """uv here says where a Python is after it was told to install one; that one is real."""
    installed = clone.parent / "installed"
    installed.write_text(python_script('[ "${2:-}" != venv ] || exit 1'))
    installed.chmod(0o755)
    take_as_it_is(clone, installed)
    uv = f"""#!/usr/bin/env bash
case "$2" in
install) echo "$*" >{clone.parent}/asked && : >{clone.parent}/there ;;
find) [ -e {clone.parent}/there ] && echo {installed} ;;
esac
"""
    done = set_up(clone, {"uv": uv})
    assert "uv installs Python 3.13 (about 30 MB)" in done.stderr
    assert (clone.parent / "asked").read_text() == "python install 3.13\n"
    assert "-m venv .venv' failed" in done.stderr  # so it went on with that Python


def test_before_sudo_is_called_a_line_says_what_for(clone: Path) -> None:
    bare = python_script('[ "$*" != "-c import ensurepip" ] || exit 1')
    programs = {
        "python3": bare,
        "id": "#!/usr/bin/env bash\necho 1000\n",
        "apt-get": "#!/usr/bin/env bash\n",
        "sudo": '#!/usr/bin/env bash\necho "sudo: $*"\n',
    }
    take_as_it_is(clone, Path("python3"))
    done = set_up(clone, programs)
    said, called, *_ = done.stdout.splitlines()
    assert re.match(r"Installing the package python3\.\d+-venv, without which ", said)
    assert said.endswith(" by sudo apt-get ...")
    assert called == "sudo: apt-get update -qq"
    assert re.search(r"cannot make virtual environments: install python3\.\d+-venv", done.stderr)


@pytest.mark.parametrize("function", ["sees_nvidia", "reaches_cpu_build"])
def test_a_program_that_says_more_after_the_wanted_line_is_understood(
    tmp_path: Path, function: str
) -> None:
    """More than a pipe holds: it still writes when the line is found."""
    setup = (ROOT / "launch" / "setup.sh").read_text()
    body = re.search(rf"^{function}\(\) {{.*?^}}$", setup, re.MULTILINE | re.DOTALL)
    assert body is not None
    words = "#!/usr/bin/env bash\necho '%s'\nfor i in {1..20000}; do echo more; done || exit 1\n"
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for path, line in {
        "nvidia-smi": "GPU 0: NVIDIA H200", ".venv/bin/python": "Available versions: 1.2+cpu, 1.1",
    }.items():  # fmt: skip
        (tmp_path / path).write_text(words % line)
        (tmp_path / path).chmod(0o755)
    script = f"set -euo pipefail; torch=1.2; trap '' PIPE; {body[0]}; {function}"
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={**os.environ, "PATH": path}, timeout=120
    )
    assert done.returncode == 0


def test_the_hashed_files_hold_what_constraints_pin() -> None:
    pinned = pins(ROOT / "constraints.txt")
    locked: dict[str, str] = {}
    for name in ("build.txt", "torch.txt", "rest.txt"):
        locked |= pins(REQUIREMENTS / name)
    assert {name: locked.get(name) for name in pinned} == pinned
    # What more is there is CUDA's, or for other systems than Linux and macOS.
    more = {name for name in locked if name not in pinned}
    cuda = {name for name in more if re.match("cuda-|nvidia-|triton", name)}
    assert cuda <= set(pins(REQUIREMENTS / "torch.txt"))
    lines = {line.split("==")[0]: line for line in hashed(REQUIREMENTS / "rest.txt")}
    for name in more - cuda:
        marker = Marker(lines[name].partition(";")[2].partition("--hash")[0].strip())
        for system in ("linux", "darwin"):
            assert not marker.evaluate({"sys_platform": system}), name


def test_every_locked_file_has_hashes() -> None:
    for file in REQUIREMENTS.glob("*.txt"):
        for line in hashed(file):
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line[:80]


def test_progress_is_one_line_of_what_pip_does() -> None:
    said = "\n".join([
        "Collecting torch==2.13.0 (from -r x)", "Progress 1000000 of 200000000",
        "Progress 200000000 of 200000000", "Processing /x/numpy-2.4.6-cp311-cp311-linux.whl",
        "Progress 5000000 of 9000000",
    ])  # fmt: skip
    program = (
        "from pip_progress import Progress\nimport sys\np = Progress()\n"
        "for line in sys.stdin: p.read(line)\nprint(p)\n"
        "p.read('Installing collected packages: torch, numpy')\nprint(p)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=said, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "launch")},
    )  # fmt: skip
    assert done.stdout == "2 packages, 205 MB downloaded, now numpy\nunpacking 2 packages\n"


def test_progress_keeps_nothing_back_and_ends_with_its_input() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "launch" / "pip_progress.py"], input="Collecting a\nno line end",
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
