import subprocess
import sys
from pathlib import Path

from slowfast_dist.cli.commands import COMMANDS, load
from slowfast_dist.cli.reference import reference
from slowfast_dist.config.checks import flag_types

REPOSITORY = Path(__file__).resolve().parents[2]


def rows(command: str) -> dict[str, list[str]]:
    """The cells of each flag of a command."""
    _, _, section = reference().partition(f"\n## {command}\n")
    section = section.partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `--")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {flag.strip("`-"): rest for flag, *rest in cells}


def test_the_file_in_docs_is_what_the_settings_say() -> None:
    written = (REPOSITORY / "docs" / "flags.md").read_text(encoding="utf-8")
    assert written == reference(), (
        "docs/flags.md is stale: run python -m slowfast_dist.cli.reference > docs/flags.md"
    )


def test_it_has_every_flag_of_every_command_with_a_text() -> None:
    for name, command in COMMANDS.items():
        if command.settings is None:
            continue
        found = rows(name)
        assert list(found) == list(flag_types(load(command.settings))), name
        assert all(text for *_, text in found.values()), name


def test_a_row_says_what_to_give_its_bounds_its_default_and_its_text() -> None:
    assert rows("serve")["port"] == [
        "a whole number",
        "a number from 0 to 65535",
        "`7860`",
        "Port to listen on; 0: any free one.",
    ]
    training = rows("train")
    assert training["micro-batch-size"][:3] == [
        "a whole number or auto",
        "a number above 0; at most 1000000",
        "`4`",
    ]
    assert training["output-dir"][2] == "`runs/finetune-{timestamp}`"  # the preset's, as in --help
    assert training["data.short-side"][:3] == ["two whole numbers", "", "`256 320`"]


def test_it_is_printed_without_torch() -> None:
    code = (
        "import runpy, sys; runpy.run_module('slowfast_dist.cli.reference', run_name='__main__'); "
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == reference() and done.stderr == "False\n"
