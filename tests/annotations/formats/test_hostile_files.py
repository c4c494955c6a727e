"""Annotation files that are damaged, or made to do harm: rows or one line, never a traceback."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slowfast_dist.config.errors import UserError
from tests.annotations.formats import (
    test_boris,
    test_datasets,
    test_elan,
    test_label_studio,
    test_via,
)
from tests.helpers.importing import imported

ROUNDS = 60
"""Files of each kind. 18,000 with other seeds ended in rows or one line, too."""

VIDEO = {"a.mp4": (30.0, 30.0)}
TEXTS: dict[str, tuple[str, dict[str, tuple[float, float]], dict[str, Any]]] = {
    "events.csv": (test_boris.AGGREGATED, test_boris.VIDEOS, {}),
    "old.csv": (test_boris.OLD_TABULAR, test_boris.VIDEOS, {}),
    "x.eaf": (test_elan.EAF, test_elan.VIDEOS, {"tier": ("gesture", "hand")}),
    "via.csv": (test_via.COORDINATES, test_via.VIDEOS, {}),
    "EPIC_100_train.csv": (test_datasets.EPIC, {"P01_01.mp4": (100.0, 59.94)}, {}),
    "list.txt": ("a.mp4 1 2\na.mp4 3\n", VIDEO, {}),
    "table.csv": ("path,label,start,end,split\na.mp4,x,1,2,train\n", VIDEO, {}),
}
DOCUMENTS: dict[str, tuple[Any, dict[str, tuple[float, float]]]] = {
    "p.boris": (test_boris.project(), test_boris.VIDEOS),
    "tasks.json": ([test_label_studio.task(test_label_studio.timeline(1, 24, "walk"))],
                   test_label_studio.VIDEOS),
    "via.json": (test_via.project(), test_via.VIDEOS),
    "net.json": ({"database": {"a": {"annotations": [{"segment": [1, 2], "label": "x"}]}}}, VIDEO),
    "labels.json": ({"classes": ["w"], "labels": {"a": [{"label": 0, "support": [1, 5]}]}}, VIDEO),
    "ssv2.json": ([{"id": "a", "label": "x", "template": "[x] y"}], VIDEO),
    "ml.json": ([{"video": "a.mp4", "label": "x", "start": 1, "end": 2}], VIDEO),
}  # fmt: skip

TOKENS = ["null", "[]", "{}", "1e999", "-1", '""', "NaN", "true", "9" * 40, "\0", ",", "\n", "\t",
          ";", "<", "&", '"', "1:2:3", "٣", "inf"]  # fmt: skip
VALUES: list[Any] = [None, [], {}, 0, -1, 1.5, 1e308, "", "x", [""], [[]], [{}], True, [1, 2]]


def damaged(chance: random.Random, text: str) -> str:
    """A few characters lost, doubled, or a number or a text replaced."""
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(text) + 1)
        way, token = chance.randrange(4), chance.choice(TOKENS)
        if way == 0:
            text = text[:place] + text[place + chance.randrange(1, 12) :]
        elif way == 1:
            text = text[:place] + token + text[place:]
        elif way == 2:
            text = text[:place] + text[place : place + 30] + text[place:]
        elif found := list(re.finditer(r'-?\d+\.?\d*|"[^"]*"', text)):
            part = chance.choice(found)
            text = text[: part.start()] + token + text[part.end() :]
    return text


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a document, with a key or index in it."""
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in list(keys):
        yield value, key
        yield from places(value[key])


def reshaped(chance: random.Random, document: Any) -> Any:
    """A copy of which a value has become one of another kind, or is gone."""
    copy = json.loads(json.dumps(document))
    container, key = chance.choice(list(places(copy)))
    if isinstance(container, dict) and chance.random() < 0.25:
        del container[key]
    else:
        container[key] = json.loads(json.dumps(chance.choice(VALUES)))
    return copy


@pytest.mark.parametrize("name", TEXTS)
def test_damaged_texts(name: str, tmp_path: Path) -> None:
    text, videos, options = TEXTS[name]
    chance = random.Random(name)
    for _ in range(ROUNDS):
        path = tmp_path / name
        path.write_text(damaged(chance, text), encoding="utf-8", newline="")
        try:
            imported(path, videos, **options)
        except UserError as error:
            assert str(error)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_of_another_shape(name: str, tmp_path: Path) -> None:
    document, videos = DOCUMENTS[name]
    chance = random.Random(name)
    for _ in range(ROUNDS):
        path = tmp_path / name
        path.write_text(json.dumps(reshaped(chance, document)))
        try:
            imported(path, videos, tier=("action",) if name == "via.json" else ())
        except UserError as error:
            assert str(error)
