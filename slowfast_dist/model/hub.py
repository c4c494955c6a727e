"""Published weights and the names of their classes: torch.hub's cache, else a download into it."""

import re
from functools import partial
from http.client import HTTPException
from pathlib import Path

import torch

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import DataSet
from slowfast_dist.model.download import download
from slowfast_dist.model.weights import HEAD, read_state_dict
from slowfast_dist.system.parsing import parse_json

ZOO_URL = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo"
"""As in pytorchvideo/models/hub/slowfast.py; its docs/source/model_zoo.md lists the files."""

PUBLISHED: dict[DataSet, dict[str, str]] = {
    "kinetics400": {
        "slowfast_r50": "kinetics/SLOWFAST_8x8_R50.pyth",
        "slowfast_r50_4x16": "kinetics/SLOWFAST_4x16_R50.pyth",
        "slowfast_r101": "kinetics/SLOWFAST_8x8_R101.pyth",
        "slowfast_16x8_r101_50_50": "kinetics/SLOWFAST_16x8_R101_50_50.pyth",
    },
    "ssv2": {"slowfast_r50": "ssv2/SLOWFAST_8x8_R50.pyth"},
    "charades": {"slowfast_r50": "charades/SLOWFAST_8x8_R50.pyth"},
}
"""Data set -> --model.name -> file below ZOO_URL."""

TITLES: dict[DataSet, str] = {
    "kinetics400": "Kinetics-400", "ssv2": "Something-Something v2", "charades": "Charades",
}  # fmt: skip

CLASSES: dict[DataSet, int] = {"kinetics400": 400, "ssv2": 174, "charades": 157}

NAMES_URLS: dict[DataSet, str] = {
    "kinetics400":
        "https://dl.fbaipublicfiles.com/pyslowfast/dataset/class_names/kinetics_classnames.json",
    "ssv2":
        "https://raw.githubusercontent.com/open-mmlab/mmaction2/main/tools/data/sthv2/label_map.txt",
}  # fmt: skip
"""Lists of the classes in the order of the weights' outputs: that of torch.hub's own tutorial, and
for Something-Something v2, whose list is behind a login, MMAction2's copy. They are not in this
repository, as they are parts of data sets. Charades' is in a file of its annotations alone."""

MOST_DOWNLOAD = 10**9
"""Bytes of a file of weights at most: the largest network has 63 million numbers of 4 bytes, and
with what an optimizer keeps of each it would have three times as many."""

LONGEST_LIST = 1 << 20
"""Bytes of a list of names at most: the longest has 13 KB."""


def is_published(data: DataSet | None, name: str) -> bool:
    """Whether a training with these settings starts from published weights. Of Kinetics-400 they
    are the default, and slowfast_tiny has none; who asks for others means them."""
    return data is not None and (data != "kinetics400" or name in PUBLISHED[data])


def hub_file(data: DataSet, name: str) -> Path:
    """The published checkpoint in torch.hub's cache, downloaded if it is not there yet.

    Raises UserError if it can be neither found nor downloaded, or was never published.
    """
    file = PUBLISHED[data].get(name)
    if file is None:
        raise UserError(
            f"--model.pretrained {data}: there are published weights of "
            f"{', '.join(PUBLISHED[data])}, not of {name}: give that --model.name, or another "
            "--model.pretrained"
        )
    path = _cache() / cached_name(file)
    if path.is_file():
        return path
    url = f"{ZOO_URL}/{file}"
    try:
        check = partial(check_download, data=data, name=name, url=url)
        download(url, path, MOST_DOWNLOAD, check)
    except (OSError, HTTPException) as error:
        raise UserError(
            f"--model.name {name}: its {TITLES[data]} weights are not here and {url} cannot be "
            f"downloaded ({error}): put {file.rpartition('/')[2]} at {path}, or give its place "
            "with --model.weights, or start from scratch with --model.pretrained false"
        ) from error
    return path


def check_download(path: Path, data: DataSet, name: str, url: str) -> None:
    """Raise UserError unless a file that was downloaded for model ``name`` can be its weights:
    tensors alone, finite, with a head of the data set's classes. Whether all names and shapes are
    those of the model `load_weights` tells.

    Its publisher names no checksum with which it could be compared.
    """
    try:
        state = read_state_dict(path, url)
    except UserError as error:
        said = str(error).replace(f"{url} {path}: ", "")
        raise UserError(f"--model.name {name}: what {url} gave {said}") from None
    rows = [len(state[key]) if key in state and state[key].ndim else None for key in HEAD]
    if rows != [CLASSES[data]] * 2:
        raise UserError(
            f"--model.name {name}: what {url} gave are other weights, as their head is none of "
            f"{CLASSES[data]} classes: give the right file with --model.weights"
        )


def cached_name(file: str) -> str:
    """Of a file of PUBLISHED in torch.hub's cache. torch.hub would keep all under the last part of
    their addresses, and take one data set's weights for another's, which have the same."""
    folder, _, name = file.rpartition("/")
    return name if folder == "kinetics" else f"{folder}_{name}"


def class_names(data: DataSet) -> tuple[str, ...]:
    """The names of the classes of published weights, in the order of their outputs.

    Raises UserError where they can be neither found nor downloaded.
    """
    kind = "json" if data == "kinetics400" else "txt"
    path, url = _cache() / f"{data}_classnames.{kind}", NAMES_URLS.get(data)
    reason = "its list is in the data set's annotations alone (Charades_v1_classes.txt)"
    if not path.is_file() and url is not None:
        try:
            download(url, path, LONGEST_LIST)
        except (OSError, HTTPException) as error:
            reason = f"{url} cannot be downloaded ({error})"
    if not path.is_file():
        raise UserError(
            f"{data}: the names of its {CLASSES[data]} classes are not here and {reason}: put "
            f"{'it' if url else 'that'} at {path}{'' if kind == 'json' else ', a name a line'}"
        )
    try:
        if path.stat().st_size > LONGEST_LIST:
            raise ValueError("it is too long")
        names = _read_names(path.read_text(encoding="utf-8"), kind)
        if len(set(names)) != len(names) or len(names) != CLASSES[data]:
            raise ValueError(f"{len(set(names))} names for {CLASSES[data]} classes")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{data}: {path} is no list of its classes ({error}): remove it to download it again, "
            "or put the right one there"
        ) from None
    return names


def _read_names(text: str, kind: str) -> tuple[str, ...]:
    if kind == "txt":  # Charades' begin with their numbers: c000 Holding some clothes
        lines = [line.strip() for line in text.splitlines()]
        return tuple(re.sub(r"^c\d{3}\s+", "", line) for line in lines if line)
    numbers = {str(name).strip('"'): number for name, number in parse_json(text).items()}
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise ValueError("its numbers are not those of outputs")
    return tuple(sorted(numbers, key=lambda name: int(numbers[name])))


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"
