"""The reader of pickles as a boundary: it reads what holds data, and nothing runs or bursts."""

import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from slowfast_dist.config.errors import UserError
from slowfast_dist.model.foreign.pickles import FileFault, Inert, Name, read_pickle
from slowfast_dist.model.foreign.rebuild import REBUILDERS, RawArray
from slowfast_dist.model.foreign.recognise import read_weights
from slowfast_dist.model.foreign.torch_files import open_torch
from tests.campaigns import fuzz_pickles, fuzz_text

PLAIN: dict[str, Any] = {
    "none": None, "yes": True, "no": False, "small": 7, "large": -(2**40), "real": 0.1,
    "text": "größe", "bytes": b"\x00\xff", "list": [1, [2]], "tuple": (1, (2, 3)), "empty": {},
}  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_what_pickle_reads(protocol: int) -> None:
    content = {key: value for key, value in PLAIN.items() if protocol > 2 or key != "bytes"}
    data = pickle.dumps(content, protocol) + b"behind"
    assert read_pickle(data) == (content, len(data) - 6)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_are_what_numpy_reads(protocol: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "f4": generator.normal(size=(2, 3)).astype("f4"), "f8": generator.normal(size=(3,)),
        "big-endian": np.arange(4, dtype=">f4"), "i8": np.arange(3), "b1": np.array([True, False]),
        "fortran": np.asfortranarray(generator.normal(size=(2, 3))), "none": np.zeros((0, 2)),
        "long": np.arange(5000, dtype="i4"), "scalar": np.array(2.5),
    }  # fmt: skip
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol))
    opened = open_torch(path)
    for name, array in arrays.items():
        found = opened.tensor(opened.content[name])
        assert np.array_equal(found.numpy(), array) and found.shape == array.shape, name


def test_python_2_wrote_bytes_as_text(tmp_path: Path) -> None:
    """As in the zoo: protocol 2, the bytes of an array as SHORT_BINSTRING."""
    data = (
        b"\x80\x02}q\x00U\x05blobsq\x01}q\x02U\x01wq\x03cnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + np.array([1.5, -2.0], "<f4").tobytes() + b"tbss."
    )  # fmt: skip
    assert np.array_equal(pickle.loads(data, encoding="latin1")["blobs"]["w"], [1.5, -2.0])
    path = tmp_path / "zoo.pkl"
    path.write_bytes(data)
    opened = open_torch(path)
    assert opened.tensor(opened.content["blobs"]["w"]).tolist() == [1.5, -2.0]


def test_objects_are_stand_ins_and_other_keys_are_dropped() -> None:
    content = {"path": Path("a"), 3: "three", "set": {1}, "code": fuzz_pickles.Marker(),
               "objects": np.array([{}, 1], dtype=object), "kind": Path}  # fmt: skip
    found, _ = read_pickle(pickle.dumps(content))
    assert list(found) == ["path", "set", "code", "objects", "kind"]
    assert all(isinstance(found[name], Inert) for name in ("path", "set", "code", "objects"))
    assert found["kind"] == Name("pathlib", "PosixPath") or found["kind"].name == "Path"


@pytest.mark.parametrize("content", fuzz_pickles.seeds())
def test_nothing_but_reading_happens(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with fuzz_pickles.watched(path):
        open_torch(path)


def test_the_watch_sees_what_an_unpickler_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the test above would be worth nothing."""
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(fuzz_pickles.Marker())
    with pytest.raises(AssertionError, match="find_class"), fuzz_pickles.watched(tmp_path / "x"):
        pickle.loads(data)
    assert (tmp_path / "executed").is_dir()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04", b"\x80\x04.", b"\x80\x04h\x00.", b"\x80\x04\x8d" + b"\xff" * 8, b"\x80\x04R.",
        b"\x80\x04B\xff\xff\xff\xff.", b"\x80\x04\x8b\xff\xff\xff\x7f.", b"\x80\x04\x82\x01.",
        b"\x80\x04\x97.", b"I" + b"9" * 5000 + b"\n.", b"\x80\x04}(K\x01u.",
        b"cos\n" + b"a" * 5000 + b"\n.", b"\x80\x02N\x94" * 3, b"Sno quotes\n.", b"V\xff\\uD8\n.",
    ],
)  # fmt: skip
def test_a_damaged_pickle_is_said(data: bytes) -> None:
    with pytest.raises(FileFault):
        read_pickle(data)


def test_depth_and_number_of_steps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's unpickler takes the depth; hash, repr or == of the result would end the process."""
    deep, _ = read_pickle(b"\x80\x02N" + b"\x85" * 300_000 + b".")
    assert type(deep) is tuple
    del deep
    nested, _ = read_pickle(b"\x80\x02" + b"ca\nb\n)\x81" * 50_000 + b"b" * 49_999 + b".")
    assert isinstance(nested, Inert)
    del nested
    monkeypatch.setattr("slowfast_dist.model.foreign.pickles.MOST_OPCODES", 1000)
    with pytest.raises(FileFault, match="more than 1,000 steps"):
        read_pickle(b"\x80\x02" + b"N0" * 1000 + b"N.")


def test_a_view_of_the_same_numbers_again_and_again_is_a_bomb(tmp_path: Path) -> None:
    numbers = torch.zeros(100_000, dtype=torch.uint8)
    path = tmp_path / "views.pth"
    torch.save({f"v{i}": numbers[:90_000] for i in range(1000)}, path)
    with pytest.raises(UserError, match="more numbers than it has bytes"):
        read_weights(path)
    torch.save({"x": torch.zeros(1).expand(10_000)}, path)
    with pytest.raises(UserError, match="reaches beyond its numbers"):
        read_weights(path)


def _rewritten(content: bytes, name: str, data: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(target, "w", method) as new:
        for entry in old.namelist():
            new.writestr(entry, data if entry.endswith(name) else old.read(entry))
    return target.getvalue()


def test_storages_are_as_large_as_their_tensors_say(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"x": torch.arange(100.0)}, path)
    good = path.read_bytes()
    for content, why in (
        (_rewritten(good, "data/0", b"\0" * 399), "399 bytes for a storage of 400"),
        (_rewritten(good, "data/0", b"\0" * 800), "said to have 800 bytes"),
        (_rewritten(good, "none", b"", zipfile.ZIP_DEFLATED), "compressed"),
        (_rewritten(good, "byteorder", b"big"), "byte order"),
        (good.replace(np.float32(50).tobytes(), np.float32(51).tobytes()), "Bad CRC-32"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=why):
            read_weights(path)


def test_an_array_of_objects_is_no_tensor() -> None:
    found, _ = read_pickle(
        pickle.dumps(np.array([1, "a"], dtype=object)), 0, REBUILDERS
    )
    assert isinstance(found, RawArray) and not found.is_plain()


@pytest.mark.slow
def test_ten_thousand_mutated_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz_text.fuzz_text(tmp_path, 10_000, seed=5, targets=["pickles"]), capsys.readouterr()


def test_a_mutation_still_leaves_some_readable(tmp_path: Path) -> None:
    """Else all would be refused at the door, and what lies behind it never tried."""
    readable = 0
    for number in range(150):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            fuzz_pickles.pickles(folder, Random(number))
        except UserError as error:
            if "lateral connections" not in str(error):  # of whole tensors, but no whole network
                continue
        readable += 1
    assert readable > 15
