"""Names of classes from the files in which frameworks keep them."""

from pathlib import Path

from slowfast_dist.annotations.class_names import names_of_json
from slowfast_dist.config.errors import UserError
from slowfast_dist.runs.reading import MOST_BYTES

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
        names = names_of_json(text)
    except ValueError as error:
        raise UserError(f"--classes {path}: {error}: give {FORMS}") from None
    ordered = [names.get(str(number)) for number in range(len(names))]
    if None in ordered:
        raise UserError(f"--classes {path}: tells no names by all numbers from 0 on: give {FORMS}")
    return [name for name in ordered if name is not None]
