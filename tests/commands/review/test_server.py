"""The command's answers over HTTP, and what is in its list after each."""

import contextlib
import csv
import http.client
import json
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.commands.review.conftest import Start
from tests.helpers.serving import Server
from tests.helpers.training_runs import TINY, train

JSON = {"Content-Type": "application/json"}


def answer(server: Server, **body: Any) -> tuple[int, Any]:
    data = json.dumps({"version": 0, "start": None, "end": None, "status": "done"} | body).encode()
    return server.ask("POST", "/answer", data, JSON)[:2]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_hardest_of_a_run_come_first_with_what_the_model_says(run: Path, review: Start) -> None:
    server = review(run)
    facts = server.ask("GET", "/facts")[1]
    assert facts["order"] == "hardest" and facts["statuses"] == "o" * 12
    first = server.ask("GET", "/item/0")[1]
    assert (first["path"], first["labels"]) == ("moves right/clip_000.mp4", ["moves right"])
    assert first["predicted"] == ["moves left"] and first["probability"] > 0.9
    assert first["label_probability"] < 0.05
    assert server.ask("GET", "/item/1")[1]["path"] == "moves right/clip_002.mp4"
    assert server.ask("GET", "/item/11")[1]["probability"] is None, "it was trained on"
    assert server.ask("GET", "/item/12")[0] == 404
    assert "6 of 12 have a prediction" in server.said


def test_the_models_folder_of_a_run_stands_for_the_run(
    run: Path, review: Start, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "demo"))
    (copy / "models").mkdir()
    told = []
    for word in (copy, copy / "models"):
        server = review(word)
        lines = [line for line in server.said.splitlines() if line.startswith("with this run's")]
        assert len(lines) == 1 and str(copy / "config.yaml") in lines[0]
        told.append((lines, server.ask("GET", "/facts")[1]["name"]))
    assert told[0] == told[1] and told[0][1] == "demo"


def test_probably_wrong_are_those_of_which_the_model_says_another_class(
    run: Path, review: Start
) -> None:
    server = review(run, "--order", "wrong")
    assert server.ask("GET", "/facts")[1]["statuses"] == "o"
    assert server.ask("GET", "/item/0")[1]["path"] == "moves right/clip_000.mp4"


def test_an_answer_is_in_the_list_when_it_is_acknowledged(
    run: Path, review: Start, tmp_path: Path
) -> None:
    server = review(run)
    output = tmp_path / "annotations.csv"
    before = rows(output)
    assert len(before) == 12 and list(before[0]) == ["path", "label", "start", "end", "split"]
    status, said = answer(server, number=0, labels=["moves left"], start=0.1, end=0.5)
    assert status == 200 and said["now"]["version"] == 1
    changed = [row for row in rows(output) if row not in before]
    assert changed == [{"path": "moves right/clip_000.mp4", "label": "moves left",
                        "start": "0.100", "end": "0.500", "split": "val"}]  # fmt: skip
    answer(server, number=1, labels=["moves right"], status="dropped")
    assert len(rows(output)) == 11
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    assert len(rows(output)) == 11
    again = review(run)
    facts = again.ask("GET", "/facts")[1]
    assert facts["statuses"] == "dx" + "o" * 10
    assert again.ask("GET", "/item/0")[1]["now"]["labels"] == ["moves left"]


def test_what_a_killed_process_left_of_a_line_is_no_answer(
    run: Path, review: Start, tmp_path: Path
) -> None:
    server = review(run)
    answer(server, number=0, labels=["moves left"])
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    journal = tmp_path / "annotations.journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"answer": "moves right/clip_002.mp4", "lab')
    again = review(run)
    assert again.ask("GET", "/facts")[1]["statuses"] == "d" + "o" * 11
    assert journal.read_bytes() == whole
    assert answer(again, number=1, labels=["moves left"])[0] == 200


def test_a_window_that_is_behind_writes_nothing_over_another(run: Path, review: Start) -> None:
    """Two processes on one list: as two windows, and more."""
    one, other = review(run), review(run)
    assert answer(one, number=0, labels=["moves left"])[0] == 200
    status, said = answer(other, number=0, labels=["turns clockwise"])
    assert status == 409 and said["now"]["labels"] == ["moves left"]
    assert answer(other, number=0, labels=["turns clockwise"], version=1)[0] == 200
    assert answer(one, number=1, labels=["turns clockwise"])[0] == 200
    for server in (one, other):
        told = [server.ask("GET", f"/item/{number}")[1]["now"]["labels"] for number in (0, 1)]
        assert told == [["turns clockwise"], ["turns clockwise"]]


def test_two_processes_write_at_once_and_one_is_killed(
    run: Path, review: Start, tmp_path: Path
) -> None:
    """Whatever was acknowledged is in the list, in the journal, and known to the other one."""
    servers = [review(run), review(run)]
    acknowledged: list[dict[int, tuple[str, int]]] = [{}, {}]
    names = ("moves left", "moves right")

    def write(own: int) -> None:
        versions = dict.fromkeys(range(own, 12, 2), 0)
        with contextlib.suppress(OSError, http.client.HTTPException):  # it was killed
            for turn in range(60):
                number = own + 2 * (turn % 6)
                name = names[turn // 6 % 2]
                status, said = answer(
                    servers[own], number=number, labels=[name], version=versions[number]
                )
                assert status == 200, said
                versions[number] = said["now"]["version"]
                acknowledged[own][number] = name, versions[number]

    threads = [threading.Thread(target=write, args=(own,)) for own in (0, 1)]
    for thread in threads:
        thread.start()
    while not acknowledged[0] or not acknowledged[1]:
        time.sleep(0.01)
    servers[0].process.kill()
    for thread in threads:
        thread.join()
    items = [servers[1].ask("GET", f"/item/{number}")[1] for number in range(12)]
    listed = {row["path"]: row["label"] for row in rows(tmp_path / "annotations.csv")}
    for number, (name, version) in (acknowledged[0] | acknowledged[1]).items():
        now = items[number]["now"]
        # One answer of the killed process may have been kept without being told.
        assert now["version"] - version in ((0, 1) if number % 2 == 0 else (0,))
        assert now["labels"] == [name] or now["version"] > version
        assert listed[items[number]["path"]] == now["labels"][0]
    assert len(acknowledged[1]) == 6


def test_a_new_class_is_one_for_good(run: Path, review: Start) -> None:
    server = review(run)
    ask = lambda name: server.ask("POST", "/class", json.dumps({"name": name}).encode(), JSON)  # noqa: E731
    assert ask("  stands  still ")[1]["name"] == "stands still"
    assert ask("Stands Still")[1]["name"] == "stands still", "one that is there in other letters"
    assert ask("a|b")[0] == ask("")[0] == ask("x" * 201)[0] == 422
    assert answer(server, number=0, labels=["stands still"])[0] == 200
    server.__exit__()
    assert review(run).ask("GET", "/facts")[1]["classes"][3:] == ["stands still"]


@pytest.mark.parametrize(
    "body",
    [
        {"number": 12, "labels": ["moves left"]},
        {"number": -1, "labels": ["moves left"]},
        {"number": 0, "labels": ["unheard of"]},
        {"number": 0, "labels": []},
        {"number": 0, "labels": None},
        {"number": 0, "labels": ["moves left", "moves right"]},
        {"number": 0, "labels": ["moves left"], "start": 1.0},
        {"number": 0, "labels": ["moves left"], "start": 2.0, "end": 1.0},
        {"number": 0, "labels": ["moves left"], "start": 0.0, "end": float("nan")},
        {"number": 0, "labels": ["moves left"], "status": "gone"},
        {"number": 0, "labels": ["moves left"], "version": "0"},
    ],
)  # fmt: skip
def test_what_no_page_of_ours_sends_is_refused(body: dict[str, Any], shared: Server) -> None:
    assert answer(shared, **body)[0] in (400, 422)


@pytest.fixture(scope="module")
def shared(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("shared")
    output = str(folder / "annotations.csv")
    with Server(run, folder / "server", "--output", output, command="review") as server:
        yield server
        assert server.ask("GET", "/facts")[1]["statuses"] == "o" * 12
        assert server.log.read_text() == ""


def test_pages_of_other_sites_get_nothing(shared: Server) -> None:
    body = json.dumps({"number": 0, "labels": ["moves left"]}).encode()
    for headers in (
        {"Host": "evil.example"}, {"Origin": "http://evil.example", **JSON},
        {"Origin": "null", **JSON},
    ):  # fmt: skip
        assert shared.ask("POST", "/answer", body, headers)[0] == 403
    assert shared.ask("GET", "/facts", headers={"Host": "evil.example"})[0] == 403
    form = {"Content-Type": "text/plain"}  # what a form of another page can send without asking
    assert shared.ask("POST", "/answer", body, form)[0] == 415
    assert shared.ask("POST", "/answer", b"{" * 70_000, JSON)[0] == 413
    assert shared.ask("POST", "/answer", b"[]", JSON)[0] == 400
    for path in ("/media/12", "/media/../etc/passwd", "/media/0/x", "/item/x"):
        assert shared.ask("GET", path)[0] == 404
    policy = shared.ask("GET", "/")[2]["content-security-policy"]
    assert "default-src 'none'" in policy and "media-src 'self'" in policy


def test_ranges_of_the_file_itself_are_sent(clips: Path, shared: Server) -> None:
    facts = shared.ask("GET", "/video/0")[1]
    assert not facts["copy"] and (facts["frames"], facts["from"]) == (24, 0)
    whole = (clips / "moves right" / "clip_000.mp4").read_bytes()
    status, content, headers = shared.ask("GET", "/media/0", headers={"Range": "bytes=10-99"})
    assert (status, content) == (206, whole[10:100])
    assert headers["content-range"] == f"bytes 10-99/{len(whole)}"
    assert shared.ask("GET", "/media/0")[1] == whole


def test_it_ends_at_a_signal_and_says_how_many_rows_there_are(
    run: Path, review: Start, tmp_path: Path
) -> None:
    server = review(run)
    assert server.end(signal.SIGINT)[0] == 0
    assert server.process.stdout is not None
    assert server.process.stdout.read().endswith(f"{tmp_path / 'annotations.csv'}: 12 rows\n")
    assert server.log.read_text() == "" and server.left() == []


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
"""
"""As on a full disk: no file of this process grows beyond 6,000 bytes."""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits there")
def test_a_full_disk_is_told_and_nothing_that_was_kept_is_lost(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "annotations.csv"
    flags = ("--output", str(output))
    with Server(run, tmp_path / "s", *flags, before=LIMITED, command="review") as server:
        kept, status = 0, 200
        while status == 200 and kept < 200:
            status, said = answer(server, number=0, labels=["moves left"], version=kept)
            kept += status == 200
        assert status == 507 and said["error"].startswith("the answer is not kept: File too large")
        assert server.ask("GET", "/item/0")[1]["now"]["version"] == kept > 0
    lines = (tmp_path / "annotations.journal.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["version"] == kept
    with Server(run, tmp_path / "t", *flags, command="review") as server:
        assert answer(server, number=0, labels=["turns clockwise"], version=kept)[0] == 200


def test_an_answer_that_is_not_in_the_list_is_not_in_the_journal_either(
    run: Path, review: Start, tmp_path: Path
) -> None:
    server, output = review(run), tmp_path / "annotations.csv"
    assert answer(server, number=0, labels=["moves left"], version=0)[0] == 200
    journal = (tmp_path / "annotations.journal.jsonl").read_bytes()
    output.unlink()
    output.mkdir()  # which no file replaces
    status, said = answer(server, number=0, labels=["moves right"], version=1)
    assert status == 507 and said["error"].startswith("the answer is not kept: ")
    assert (tmp_path / "annotations.journal.jsonl").read_bytes() == journal
    assert server.ask("GET", "/item/0")[1]["now"]["labels"] == ["moves left"]
    output.rmdir()
    assert answer(server, number=0, labels=["turns clockwise"], version=1)[0] == 200
    assert "turns clockwise" in output.read_text()


def ask_with_token(server: Server, path: str, token: str) -> int:
    return server.ask("GET", path, headers={"Authorization": f"Bearer {token}"})[0]


def test_others_need_the_token(run: Path, review: Start) -> None:
    server = review(run, "--host", "0.0.0.0", "--token", "auto")
    token = server.query.removeprefix("?token=")
    assert len(token) > 30
    for path in ("/facts", "/item/0", "/media/0"):
        assert server.ask("GET", path)[0] == 401
        assert ask_with_token(server, path, token) == 200


@pytest.mark.slow
def test_the_list_is_trained_on(run: Path, clips: Path, review: Start, tmp_path: Path) -> None:
    """A changed label, a segment, a new class, a row left out: each is in the training's split."""
    server = review(run)
    answer(server, number=0, labels=["moves left"], start=0.2, end=1.0)
    answer(server, number=1, labels=["moves right"], status="dropped")
    name = json.dumps({"name": "stands still"}).encode()
    for number in (6, 8):  # of the training side, behind those of the validation
        server.ask("POST", "/class", name, JSON)
        assert answer(server, number=number, labels=["stands still"])[0] == 200
    server.__exit__()
    output = tmp_path / "annotations.csv"
    words = server.said.partition("python train.py ")[2].splitlines()[0]
    assert shlex.split(words) == ["--data.root", str(output), "--data.videos", str(clips)]
    done = train(
        *TINY, *shlex.split(words), "--epochs", "1", "--global-batch-size", "4",
        "--output-dir", tmp_path / "new",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "new" / "split.csv", newline="") as file:
        split = {row["path"]: row for row in csv.DictReader(file)}
    assert len(split) == 11
    mended = split["moves right/clip_000.mp4"]
    assert (mended["class"], mended["start"], mended["end"]) == ("moves left", "0.2", "1")
    assert sum(row["class"] == "stands still" for row in split.values()) == 2
    assert {row["split"] for row in split.values()} == {"train", "val"}
