"""From a file of weights of another program to the folder of a run, without a training.

What is wrong with a command line is found before torch is imported, which `make_run` needs.
"""

from pathlib import Path
from typing import Any

from slowfast_dist.commands.adopt.class_names import read_classes
from slowfast_dist.commands.adopt.convert import converted
from slowfast_dist.config.commands.adopt import Adopt
from slowfast_dist.config.errors import UserError
from slowfast_dist.model.foreign.configs import read_config
from slowfast_dist.model.foreign.pickles import FileFault
from slowfast_dist.model.foreign.source_facts import SourceFacts, facts_of


def run_adopt(file: Path | None, command: Adopt) -> None:
    """Write the run of the weights in ``file``; without one, print the flags that do what the
    configuration of --config does. Raises UserError for mistakes of the user's."""
    config = None if command.config is None else _read_config(command.config)
    if file is None:
        if config is None:
            raise UserError(
                "adopt: FILE is missing: give weights, with --classes and --output, or --config "
                "alone for the flags that do the same"
            )
        for line in converted(config):
            print(line, flush=True)
        return
    if command.output is None:
        raise UserError("--output is missing: give the folder of the run to make")
    _require_free(command.output)
    if not file.is_file():
        raise UserError(f"FILE {file}: there is no such file")
    classes = None if command.classes is None else read_classes(command.classes)
    facts = None if config is None else _facts(command, config)
    from slowfast_dist.commands.adopt.make_run import make_run

    make_run(file, command.output, classes, facts)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return read_config(path)
    except FileFault as error:
        raise UserError(f"--config {path}: {error}") from None


def _facts(command: Adopt, config: dict[str, Any]) -> SourceFacts:
    try:
        return facts_of(config)
    except FileFault as error:
        raise UserError(f"--config {command.config}: {error}") from None


def _require_free(output: Path) -> None:
    """Raise UserError where a run, or anything else, is in the folder already."""
    try:
        taken = output.exists() and (not output.is_dir() or any(output.iterdir()))
    except OSError as error:
        raise UserError(f"--output {output}: cannot be read ({error.strerror})") from None
    if taken:
        raise UserError(f"--output {output}: is there already: give a new folder")
