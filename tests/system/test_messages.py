"""What one process tells another arrives as it was, and runs nothing."""

import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.listing.columns import Categorical, InfoColumns, Texts
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.system.messages import decode, encode
from slowfast_dist.system.signals import StopRequested
from slowfast_dist.video.reader import VideoInfo


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -(1 << 70), 0.1, float("inf"), "naïve \udce9", b"\0\xff", Path("a/b"), [],
        (), [1, (2, "x"), {"a": None, 3: [4.5]}], {("a", 1): b"", "tuple": ["list"]}, {"path": "x"},
    ],
)  # fmt: skip
def test_values_arrive_as_they_were(value: object) -> None:
    arrived = decode(encode(value))
    assert arrived == value and type(arrived) is type(value)
    assert repr(arrived) == repr(value)  # with the types of what it holds


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3), np.empty((0, 4), np.float32), np.bool_(True),
        np.arange(10.0)[::3], np.float32(0.1), np.arange(3, dtype=">i8"),
    ],
)  # fmt: skip
def test_arrays_arrive_as_they_were(array: Any) -> None:
    before, arrived, _ = decode(encode([b"odd", array, b"x"]))
    assert before == b"odd" and type(arrived) is type(array) and arrived.dtype == array.dtype
    assert np.array_equal(arrived, array) and arrived.shape == array.shape


def test_a_dataset_arrives_as_it_was() -> None:
    examples: dict[str, Any] = {"int": 3, "float": 2.5, "bool": True, "str": "h264"}
    kinds = get_type_hints(VideoInfo)
    info = VideoInfo(**{name: examples[kind.__name__] for name, kind in kinds.items()})
    names, labels = Texts.of(["a/x.mp4", os.fsdecode(b"b/\xe9.mp4")]), np.array([0, 1], np.int32)
    groups, infos = Categorical.of(["g", "g"]), InfoColumns.of([info, info])
    table = VideoTable(Path("/videos"), names, labels, groups, None, infos)
    remark = Remark("warning", "unscored-class", "careful")
    videos = VideoSet(("a", "b"), table, table[:1], (("x", "y", "probe"),), True, (remark,))
    arrived = decode(encode(videos))
    assert list(arrived.train) == list(table) and arrived.train.info(1) == info
    assert arrived.remarks == (remark,)
    assert arrived.fingerprint() == videos.fingerprint() and arrived.rejected == videos.rejected


@pytest.mark.parametrize("error", [UserError("--x 3: no"), RunError("disk"), StopRequested("")])
def test_the_errors_of_a_run_arrive(error: Exception) -> None:
    arrived = decode(encode(error))
    assert type(arrived) is type(error) and str(arrived) == str(error)


class Stranger:
    pass


@dataclass
class VideoSetOfAnother:
    x: int = 1


@pytest.mark.parametrize(
    "value", [Stranger(), VideoSetOfAnother(), {1}, len, ValueError("x"), np.array([None])]
)
def test_what_is_no_plain_data_is_refused_where_it_is_sent(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        encode([value])


DEEP = b"[" * 42_000


def message(plain: object, arrays: bytes = b"") -> bytes:
    text = json.dumps(plain).encode()
    return len(text).to_bytes(8, "little") + text + arrays


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 7, b"\xff" * 40, pickle.dumps({"a": 1}), message({"object": ["Path", {}]}),
        message({"error": ["VideoSet", "x"]}), message({"object": ["UserError", {"dict": []}]}),
        message({"array": ["O", [1], [0, 8]]}, b"\1" * 8), message({"a": 1, "b": 2}), message({}),
        message({"array": ["<i8", [2], [0, 8]]}, b"\1" * 8), (42_000).to_bytes(8, "little") + DEEP,
    ],
)  # fmt: skip
def test_what_is_no_message_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        decode(content)
