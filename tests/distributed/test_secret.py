"""What others write into a run's store is not believed, and others do not learn its secret."""

import json
import os
import pickle
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from torch.distributed import FileStore, TCPStore  # type: ignore[attr-defined]

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.distributed import meeting, secret
from slowfast_dist.distributed.secret import SealedStore, offer_secret, take_secret
from slowfast_dist.system import messages
from tests.helpers.training_runs import ROOT, TINY, Group, free_port, rows, show_measured

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
STRANGER = 65534


@pytest.fixture
def store() -> Any:
    """As of several hosts: whoever reaches the port may write into it."""
    waits = timedelta(seconds=60)
    return TCPStore("127.0.0.1", free_port(), is_master=True, wait_for_workers=False, timeout=waits)


def test_values_of_others_are_not_believed(store: Any, tmp_path: Path) -> None:
    first, file = offer_secret(store, tmp_path)
    assert file is not None and file.parent == tmp_path
    second = take_secret(store)
    assert second is not None and not second.has("answer")
    first.set("answer", {"epoch": 3})
    first.set("other", {"epoch": 4})
    assert second.get("answer") == {"epoch": 3}
    another_secret = SealedStore(store, b"guess" * 8)
    for forged in (
        b"", b"x" * 10, pickle.dumps({"epoch": 5}), bytes(32) + messages.encode({"epoch": 5}),
        bytes(store.get("other")),  # ours, but under another name
    ):  # fmt: skip
        store.set("answer", forged)
        assert not second.has("answer")
        with pytest.raises(KeyError):
            second.get("answer")
    another_secret.set("answer", {"epoch": 5})
    assert not second.has("answer")
    first.set("answer", {"epoch": 3})  # a forged one does not stand in its way
    assert second.get("answer") == {"epoch": 3}


def test_nothing_that_was_pickled_is_run(store: Any, tmp_path: Path) -> None:
    """Also by one that knows the secret."""
    sealed, _ = offer_secret(store, tmp_path)
    content = pickle.dumps({"epoch": 5})
    store.set("answer", sealed._code("answer", content) + content)
    with pytest.raises(ValueError):
        sealed.get("answer")


def test_a_secret_is_the_users_alone(tmp_path: Path) -> None:
    path = secret.write_secret(tmp_path)
    content = secret.read_secret(path)
    assert content is not None and len(content) == secret.SECRET_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret.read_secret(secret.write_secret(tmp_path)) != content
    link = tmp_path / "link"
    link.symlink_to(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "short").write_bytes(content[:-1])
    (tmp_path / "long").write_bytes(content + b"x")
    for name in ("short", "long"):
        (tmp_path / name).chmod(0o600)
    for name in ("link", "pipe", "short", "long", "missing", "", "\0"):
        assert secret.read_secret(tmp_path / name) is None
    for mode in (0o640, 0o604, 0o620, 0o602):
        path.chmod(mode)
        assert secret.read_secret(path) is None


@as_root
def test_another_users_file_is_no_secret(store: Any, tmp_path: Path) -> None:
    """Who writes into the store can name a file of his own, which must not be taken."""
    path = secret.write_secret(tmp_path)
    os.chown(path, STRANGER, STRANGER)
    store.set("secret", os.fsencode(path))
    assert take_secret(store) is None


def test_the_environments_secret(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(secret.VARIABLE, "0123456789abcdef")
    first, file = offer_secret(store, tmp_path)
    assert file is None and not store.check(["secret"])
    first.set("answer", 1)
    second = take_secret(store)
    assert second is not None and second.get("answer") == 1
    monkeypatch.setenv(secret.VARIABLE, "another one of them")
    other = take_secret(store)
    assert other is not None and not other.has("answer")
    monkeypatch.setenv(secret.VARIABLE, "short")
    with pytest.raises(UserError, match="SLOWFAST_DIST_SECRET has 5 characters"):
        take_secret(store)


# --- one host ------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def open_elsewhere(folder: Path, launch: str, then: str = "") -> subprocess.Popen[str]:
    program = (
        "from slowfast_dist.distributed.meeting import *\n"
        f"print(open_meeting({launch!r}), flush=True)\n{then}"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_processes_of_one_host_meet_in_a_folder_of_the_user(here: Path) -> None:
    assert meeting.find_meeting("1-x") is None
    with open_elsewhere(here, "1-x", "input()\nclose_meeting('1-x')\nprint()\ninput()") as other:
        assert other.stdout is not None and other.stdin is not None
        folder = Path(other.stdout.readline().strip())
        assert meeting.find_meeting("1-x") == folder and meeting.find_meeting("1-y") is None
        for private in (folder, folder.parent):
            assert private.stat().st_mode & 0o777 == 0o700
        with pytest.raises(UserError, match="MASTER_PORT 1: another run of yours"):
            meeting.open_meeting("1-x")
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "\n"
        assert meeting.find_meeting("1-x") is None  # and the next run may have the port
        assert folder.exists()
        other.stdin.write("\n")
    assert not folder.exists() and other.returncode == 0


def test_what_a_killed_process_left_is_no_meeting(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_elsewhere(here, "1-x", "input()") as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        other.kill()
    assert left.exists() and meeting.find_meeting("1-x") is None
    monkeypatch.setattr(meeting, "OLD_SECONDS", -1.0)
    folder = meeting.open_meeting("1-y")
    assert meeting.find_meeting("1-y") == folder and not left.exists()
    assert sorted(folder.parent.iterdir()) == [folder.parent / "1-y", folder]


@pytest.mark.parametrize(
    "what", ["open to all", "a link", "a file", pytest.param("", marks=as_root)]
)
def test_a_folder_of_another_user_is_refused(here: Path, what: str) -> None:
    root = here / f"slowfast_dist-{os.geteuid()}"
    if what == "a link":
        (here / "elsewhere").mkdir(mode=0o700)
        root.symlink_to("elsewhere")
    elif what == "a file":
        root.touch(0o600)
    else:
        root.mkdir(mode=0o777 if what else 0o700)
        root.chmod(0o755 if what else 0o700)
        if not what:
            os.chown(root, STRANGER, STRANGER)
    with pytest.raises(RunError, match="TMPDIR"):
        meeting.open_meeting("1-x")


def test_a_store_in_a_file_is_as_good(here: Path) -> None:
    folder = meeting.open_meeting("1-x")
    stores = [FileStore(str(folder / "store")) for _ in range(2)]
    first, _ = offer_secret(stores[0], folder)
    second = take_secret(stores[1])
    assert second is not None
    second.set("joined/1", None)
    assert first.has("joined/1") and first.get("joined/1") is None


# --- a training ----------------------------------------------------------------------------------

DISTURB = """
import json, os, random, select, signal, socket, sys, time
socket.getaddrinfo("127.0.0.1", 1)  # loads what the other user may not read
os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder, processes, ports = sys.argv[1], *map(json.loads, sys.argv[2:])
rng, sent, begun, done = random.Random(0), dict.fromkeys(ports, 0), time.monotonic(), []

def may(name, call, *given):
    try:
        call(*given)
        done.append(name)
    except PermissionError:
        pass

while not select.select([sys.stdin], [], [], 0.01)[0]:
    for port in ports:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.sendall(rng.randbytes(rng.choice([1, 8, 64, 500, 5000])))
                sent[port] += 1
        except OSError:
            pass
    for process in processes:  # each as long as it lives
        try:
            may("ends a process", os.kill, process, signal.SIGTERM)
            may("reads its environment", open, f"/proc/{process}/environ", "rb")
            may("reads its memory", open, f"/proc/{process}/mem", "rb")
            may("sees its files", os.listdir, f"/proc/{process}/fd")
        except (ProcessLookupError, FileNotFoundError):
            pass
    may("sees where they meet", os.listdir, folder)
    may("writes where they meet", open, folder + "/store", "wb")
print(json.dumps([time.monotonic() - begun, list(sent.values()), sorted(set(done))]))
"""

SLOWLY = """
import os, sys, time
from slowfast_dist.training.step import TrainingStep
run = TrainingStep.{step}
def slow(self, *given, **named):
    time.sleep({seconds})
    return run(self, *given, **named)
TrainingStep.{step} = slow
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"), {{"__name__": "__main__"}})
"""
"""train.py whose optimizer steps each take longer, and compute the same."""

STRANGE_SECONDS = 60.0
STEPS = 18


@pytest.mark.slow
@as_root
def test_a_stranger_on_the_host_changes_nothing(tmp_path: Path) -> None:
    """Another user of the host sends bytes to each port that a run listens on for a minute, and
    tries to read its secrets, to write where it meets, and to end it."""
    videos, slowly = tmp_path / "videos", tmp_path / "slowly.py"
    make_videos(videos, 6, seed=0, size=32, frames=12, classes=("moves left", "moves right"))
    slowly.write_text(SLOWLY.format(step="run", seconds=1.3 * STRANGE_SECONDS / STEPS))
    words = (
        ROOT / "train.py", *TINY, "--data.root", videos, "--global-batch-size", "4",
        "--micro-batch-size", "2", "--model.norm", "local", "--epochs", "6", "--output-dir",
    )  # fmt: skip
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    with Group(*words, undisturbed, processes=2, log=tmp_path / "log") as group:
        assert group.codes([0, 1], 600) == [0, 0], group.printed()
    assert len(rows(undisturbed, "step")) == STEPS
    log = tmp_path / "log"
    with Group(slowly, *words, disturbed, processes=2, log=log, fork=False) as group:
        group.wait_for_steps(disturbed, 2)
        begin = time.monotonic()
        connections = [
            one for p in group.processes for one in psutil.Process(p.pid).net_connections("tcp")
        ]
        ports = {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
        assert ports  # the heartbeat's and gloo's
        given = json.dumps([p.pid for p in group.processes]), json.dumps(sorted(ports))
        stranger = subprocess.Popen(
            [sys.executable, "-c", DISTURB, meeting.user_folder(), *given],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert group.codes([0, 1], 600) == [0, 0], group.printed()
        show_measured("a training beside a stranger: ended", begin)
        said, fault = stranger.communicate("\n", 60)
    assert stranger.returncode == 0, fault
    seconds, sent, could = json.loads(said)
    assert seconds > STRANGE_SECONDS and min(sent) > 100 and could == []
    for name in ("models/best_model_weights.pth", "predictions/val_best.csv"):
        assert (disturbed / name).read_bytes() == (undisturbed / name).read_bytes()
    losses = [[row["step/loss"] for row in rows(run, "step")] for run in (disturbed, undisturbed)]
    assert losses[0] == losses[1]
