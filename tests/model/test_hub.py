"""Published weights and the names of their classes: found, downloaded once, or asked for."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread
from typing import Any, ClassVar

import pytest
import torch

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model import hub, weights
from slowfast_dist.model.slowfast import SlowFast, build_model, starts_pretrained


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's checkpoints; downloads come from tmp_path/server."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    server = tmp_path / "server"
    server.mkdir()
    monkeypatch.setattr(hub, "ZOO_URL", server.as_uri())
    urls = {"kinetics400": f"{server.as_uri()}/names.json", "ssv2": f"{server.as_uri()}/map.txt"}
    monkeypatch.setattr(hub, "NAMES_URLS", urls)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize(
    ("given", "word", "published"),
    [
        (True, "kinetics400", True), (False, "none", False), ("none", "none", False),
        ("kinetics400", "kinetics400", True), ("charades", "charades", True),
    ],
)  # fmt: skip
def test_true_and_false_stay_words(given: bool, word: str, published: bool) -> None:
    config = ModelConfig(pretrained=given)
    assert (config.pretrained, starts_pretrained(config)) == (word, published)
    assert not starts_pretrained(ModelConfig("slowfast_tiny", given and word == "kinetics400"))


@pytest.mark.slow
def test_data_sets_whose_files_have_one_name_are_kept_apart(cache: Path, tmp_path: Path) -> None:
    """torch.hub would take Something-Something's for Kinetics'."""
    for folder, classes in (("kinetics", 400), ("ssv2", 174)):
        place = tmp_path / "server" / folder
        place.mkdir()
        state = SlowFast("slowfast_r50", classes, 0.5).state_dict()
        torch.save({"model_state": state}, place / "SLOWFAST_8x8_R50.pyth")
    for word, classes in (("kinetics400", 400), ("ssv2", 174)):
        config = ModelConfig(pretrained=word, head="keep")  # type: ignore[arg-type]
        _, report = build_model(config, classes)
        assert "loaded 662 of 662" in report.lines[0] and "kept as it is" in report.lines[1]
    assert {path.name for path in cache.iterdir()} == {
        "SLOWFAST_8x8_R50.pyth", "ssv2_SLOWFAST_8x8_R50.pyth",
    }  # fmt: skip


def test_what_was_never_published_is_refused_with_what_was(cache: Path) -> None:
    for name in ("slowfast_tiny", "slowfast_r101"):
        with pytest.raises(UserError, match="--model.pretrained ssv2: there are published weights "
                                            f"of slowfast_r50, not of {name}: give"):  # fmt: skip
            build_model(ModelConfig(name, pretrained="ssv2"), 3)


def test_kinetics_names_are_in_the_order_of_the_outputs(cache: Path, tmp_path: Path) -> None:
    numbers = {f'"class {number:03}"': (number * 7) % 400 for number in range(400)}
    (tmp_path / "server" / "names.json").write_text(json.dumps(numbers))
    names = hub.class_names("kinetics400")
    assert (names[0], names[7], names[14]) == ("class 000", "class 001", "class 002")
    (tmp_path / "server" / "names.json").unlink()
    assert hub.class_names("kinetics400") == names


def test_lists_of_lines(cache: Path, tmp_path: Path) -> None:
    lines = [f"Moving [something] {number}" for number in range(174)]
    (tmp_path / "server" / "map.txt").write_text("\n".join(lines) + "\n")
    assert hub.class_names("ssv2") == tuple(lines)
    with pytest.raises(UserError, match=r"charades: the names of its 157 .*Charades_v1_classes.tx"):
        hub.class_names("charades")
    actions = [f"c{number:03} Holding {number} clothes" for number in range(157)]
    (cache / "charades_classnames.txt").write_text("\n".join(actions))
    assert hub.class_names("charades")[:2] == ("Holding 0 clothes", "Holding 1 clothes")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": 0}', '{"a": {}, "b": 1}', json.dumps(dict.fromkeys("ab", 0))]
)
def test_a_list_that_is_none_is_named(cache: Path, text: str) -> None:
    cache.mkdir(parents=True)
    (cache / "kinetics400_classnames.json").write_text(text)
    with pytest.raises(UserError, match="is no list of its classes .* remove it to download"):
        hub.class_names("kinetics400")


def test_without_a_network_it_says_what_to_put_where(cache: Path) -> None:
    place = cache / "kinetics400_classnames.json"
    with pytest.raises(UserError, match=f"cannot be downloaded .*: put it at {place}"):
        hub.class_names("kinetics400")


class Answers(SimpleHTTPRequestHandler):
    """What lies in a folder, without a word."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def small_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server in place of the hub's, for a small network."""
    (tmp_path / "hub" / "kinetics").mkdir(parents=True)
    handler = partial(Answers, directory=tmp_path / "hub")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(hub, "ZOO_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setitem(hub.PUBLISHED["kinetics400"], "slowfast_tiny", "kinetics/TINY.pyth")
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
        yield tmp_path / "hub" / "kinetics" / "TINY.pyth"
        server.shutdown()


def test_a_download_is_looked_at_before_it_is_kept(
    small_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.ZOO_URL.startswith("http://127.") and hub.CLASSES["kinetics400"] == 400
    good = SlowFast("slowfast_tiny", 400, 0.0).state_dict()
    kept = tmp_path / "cache" / "checkpoints" / "TINY.pyth"
    others = SlowFast("slowfast_tiny", 399, 0.0).state_dict()
    headless = {key: value for key, value in good.items() if key not in weights.HEAD}
    infinite = {key: value * float("inf") for key, value in good.items() if "weight" in key}
    refused: list[tuple[object, str]] = [
        (others, "are other weights"), (headless, "are other weights"),
        ({**good, **infinite}, "inf|finite|not a number"), (Path("x"), "holds no tensors"),
        ({}, "holds no tensors"),
    ]  # fmt: skip
    for content, said in refused:
        torch.save({"model_state": content} if isinstance(content, dict) else content, small_hub)
        with pytest.raises(UserError, match=said) as raised:
            hub.hub_file("kinetics400", "slowfast_tiny")
        assert "/TINY.pyth gave" in str(raised.value) and "tmp" not in str(raised.value)
        assert list(kept.parent.iterdir()) == []
    torch.save({"model_state": good, "epoch": 3}, small_hub)
    with monkeypatch.context() as patch:
        patch.setattr(hub, "MOST_DOWNLOAD", 1000)
        with pytest.raises(UserError, match=r"downloaded \(it gives more than 1,000 bytes"):
            hub.hub_file("kinetics400", "slowfast_tiny")
    assert hub.hub_file("kinetics400", "slowfast_tiny") == kept
    assert list(kept.parent.iterdir()) == [kept]
    small_hub.unlink()
    assert hub.hub_file("kinetics400", "slowfast_tiny") == kept  # of the cache


def test_of_several_processes_one_downloads(small_hub: Path, tmp_path: Path) -> None:
    """As the ranks of a launcher, which all begin at once; each open() has a lock of its own."""
    torch.save(SlowFast("slowfast_tiny", 400, 0.0).state_dict(), small_hub)
    Answers.asked.clear()
    together = Barrier(4)

    def begin(_: int) -> Path:
        together.wait(60)
        return hub.hub_file("kinetics400", "slowfast_tiny")

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(begin, range(4)))
    kept = tmp_path / "cache" / "checkpoints" / "TINY.pyth"
    assert found == {kept} and list(kept.parent.iterdir()) == [kept]
    assert Answers.asked == ["/kinetics/TINY.pyth"]


def test_the_hub_is_asked_over_an_encrypted_connection() -> None:
    assert hub.ZOO_URL.startswith("https://")
