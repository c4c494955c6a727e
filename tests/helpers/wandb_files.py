"""What wandb wrote of an offline run, read back without wandb's own reader."""

import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

Record: Any = wandb_internal_pb2.Record  # type: ignore[attr-defined]


def without_account(patch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    """For a fixture: no key, no settings and no variable of whoever runs the tests; no server left
    behind, and none taken over that another file's training left in this process."""
    wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)  # or it would be set again, of a server that is gone
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        patch.delenv(name)
    home.mkdir()
    patch.setenv("HOME", str(home))
    patch.setenv("NETRC", str(home / ".netrc"))
    yield
    wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)


def tables(run_dir: Path) -> dict[str, dict[str, Any]]:
    """The tables of the newest offline run, by their names without what is before the last "/"."""
    stored = {
        entry.path: Path(entry.local_path)
        for record in records(run_dir)
        if record.HasField("artifact")
        for entry in record.artifact.manifest.contents
    }
    ending = ".table.json"
    return {
        name.rpartition("/")[2].removesuffix(ending): json.loads(path.read_text(encoding="utf-8"))
        for name, path in stored.items()
        if name.endswith(ending)
    }


def records(run_dir: Path) -> list[Any]:
    """The records of the newest offline run, once wandb's server has written the last of them."""
    file = max(run_dir.glob("wandb/offline-run-*/*.wandb"))
    deadline = time.monotonic() + 120
    while not (found := parse(file.read_bytes())) or not found[-1].HasField("exit"):
        assert time.monotonic() < deadline, f"{file} has no end: {len(found)} records"
        time.sleep(0.05)
    return found


def parse(data: bytes) -> list[Any]:
    """The records in a .wandb file: wandb's protobuf in LevelDB's log framing.

    It is 7 bytes, then blocks of 32 KiB; a chunk is crc32, length, type (1 whole, 2 first,
    3 middle, 4 last) and data; fewer than 7 bytes at a block's end are padding.
    """
    position, part, found = 7, b"", []
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        if position + 7 + length > len(data):  # it is being written
            break
        part += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(part)
            found.append(record)
            part = b""
    return found


def history(run_dir: Path) -> list[dict[str, Any]]:
    """The logged rows, without the fields that wandb adds."""
    rows = []
    for record in records(run_dir):
        if record.HasField("history"):
            items = {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            rows.append({key: value for key, value in items.items() if not key.startswith("_")})
    return rows
