"""Names of classes from the files in which frameworks keep them."""

from pathlib import Path
from typing import Any

from slowfast_dist.config.errors import UserError
from slowfast_dist.runs.reading import MOST_BYTES
from slowfast_dist.system.parsing import parse_json

FORMS = (
    "a text file with a name a line, or JSON: a list of names, names by number, numbers by name, "
    "or a best_model.json"
)


def read_classes(path: Path) -> tuple[str, ...]:
    """The names in the order of the head's rows. Raises UserError."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"--classes {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"--classes {path}: is no text: give {FORMS}") from None
    names = _of_json(path, text) if path.suffix == ".json" else text.splitlines()
    names = [name.strip().strip('"').strip() for name in names]  # pytorchvideo's have quotes
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        raise UserError(f"--classes {path}: has a class without a name: give {FORMS}")
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise UserError(f"--classes {path}: {twice} is there twice: give each class once")
    return tuple(names)


def _of_json(path: Path, text: str) -> list[str]:
    try:
        content: Any = parse_json(text)
    except ValueError:
        raise UserError(f"--classes {path}: is no JSON: give {FORMS}") from None
    if isinstance(content, dict) and isinstance(content.get("classes"), list):
        content = content["classes"]
    if isinstance(content, dict):
        content = _by_number(content)
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise UserError(f"--classes {path}: tells no names of classes: give {FORMS}")
    return content


def _by_number(content: dict[str, Any]) -> list[str] | None:
    """Of {"0": "name"} or {"name": 0}, whose numbers must be all from 0 on."""
    if all(key.isdecimal() for key in content):
        pairs = {int(key): value for key, value in content.items()}
    else:
        pairs = {value: key for key, value in content.items() if type(value) is int}
    if len(pairs) != len(content) or sorted(pairs) != list(range(len(pairs))):
        return None
    return [pairs[number] for number in range(len(pairs))]
