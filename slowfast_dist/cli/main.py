"""The command line: ``python -m slowfast_dist COMMAND``, and ``train.py``, which is its ``train``.

One lazy import a command, so that ``--help`` and a user's mistake never wait for torch.
"""

import errno
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper

from slowfast_dist.cli.commands import COMMANDS, GROUPS, MODULE, Command, load
from slowfast_dist.cli.flags import did_you_mean
from slowfast_dist.cli.parser import is_flag, parse_command
from slowfast_dist.cli.reach import check_reach
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.distributed import heartbeat
from slowfast_dist.distributed.environment import rank
from slowfast_dist.system import signals
from slowfast_dist.system.cpus import let_numpy_have_one_thread, let_threads_sleep
from slowfast_dist.system.files import FULL, reason_of
from slowfast_dist.system.interrupts import ends_with_its_pipe
from slowfast_dist.system.log import log_to_console

OTHER_RANKS_DELAY = 2.0
"""Seconds that another process than rank 0 waits before it prints its mistake and exits. Rank 0
usually made the same one and prints it at once; a launcher then ends the others, silently."""

LONGEST_PATH = 100
"""Characters that are shown of a path that the file system refuses as too long; only a word of
the command line with more than these can have named it."""

LONGEST_LINE = 900
"""Characters of a message. Of a longer one, as with a value of a broken file, the middle is left
out, so that it stays readable in a terminal."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a mistake of the user's is one line on standard error and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # no name of a class or a file ends a run
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    log_to_console()
    with (
        one_line_for_mistakes(), _full_disk_said(), _too_long_paths_refused(words),
        ends_with_its_pipe(),
    ):  # fmt: skip
        chosen = choose(words)
        if chosen is not None:
            run_command(*chosen)


def choose(words: Sequence[str], group: str = "") -> tuple[Command, Sequence[str]] | None:
    """The command that ``words`` start with, and those behind; None after a list of commands.

    ``group`` is the first word, and a space, that the commands in question have in common. Raises
    UserError where there is no such command.
    """
    summaries: dict[str, str] = {}
    for name, command in COMMANDS.items():
        if name.startswith(group):
            word, inner, _ = name.removeprefix(group).partition(" ")
            summaries[word] = GROUPS[word] if inner else command.summary
    if not words or words[0] in ("-h", "--help"):
        if rank() == 0:
            print(f"usage: {MODULE} {group}{'WHAT' if group else 'COMMAND'} ...\n")
            for word, summary in summaries.items():
                print(f"  {word:<12}{summary}")
        return None
    first, *behind = words
    if first not in summaries:
        hint = did_you_mean(first, summaries) or f": give one of {', '.join(summaries)}"
        unknown = "there is none" if group else "no such command"
        raise UserError(f"{group}{first}: {unknown}{hint}")
    if first in GROUPS and not group:
        return choose(behind, f"{first} ")
    return COMMANDS[group + first], behind


def run_command(command: Command, arguments: Sequence[str]) -> None:
    """Parse the command's line, and run it unless that asks for help."""
    parsed = parse_command(command, arguments)
    if parsed is None:
        return
    check_reach(parsed)
    if command.trains:  # imported late: other commands need not wait for what it reads
        from slowfast_dist.cli.paths import check_paths
        from slowfast_dist.runs.lock import refuse_if_held

        config = parsed[-1]
        signals.install(config.distributed.preempt_signal)
        refuse_if_held(config.output_dir)
        check_paths(config)
    if command.computes:
        let_threads_sleep()
        let_numpy_have_one_thread()
    if command.computes and command.words[:1] == ("RUN",) and ":" in str(parsed[0]):
        parsed[0] = load("inference.published:run_folder")(parsed[0])
    if command.name == "train" and parsed[-1].folds is not None:
        command = COMMANDS["cross-validate"]
    load(command.run)(*parsed)


@contextmanager
def one_line_for_mistakes() -> Iterator[None]:
    """Turn a UserError (exit code 2) or RunError (1) into one line, and Ctrl-C into none (130).

    Any other error is a bug and keeps its traceback. Whatever one process meets ends all: once
    they know each other, the first one prints it, also another one's. Before that rank 0 says it
    at once and another one waits first, as the launcher ends it where rank 0 made the same mistake.
    """
    try:
        yield
    except (UserError, RunError) as error:
        message = one_line(error)
        code = 2 if isinstance(error, UserError) else 1
        if (own := heartbeat.current()) is not None:
            own.fail(message, code)
        elif rank() == 0:
            print(f"error: {message}", file=sys.stderr, flush=True)
        else:
            signals.end_at_once()
            time.sleep(OTHER_RANKS_DELAY)
            print(f"error: process {rank()}: {message}", file=sys.stderr, flush=True)
        raise SystemExit(code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if (own := heartbeat.current()) is None:
            raise
        traceback.print_exc()
        own.fail(f"{type(error).__name__}: {error}: a bug, see the traceback", 1)
        raise SystemExit(1) from None


@contextmanager
def _full_disk_said() -> Iterator[None]:
    """Raise RunError for a disk that is full, whatever met it."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        # Where standard output is what is full, `ends_with_its_pipe` says so.
        unnamed = "a file that the system does not name (of /dev/shm, or temporary)"
        raise RunError(f"{error.filename or unnamed}: {reason_of(error)}") from None


@contextmanager
def _too_long_paths_refused(words: Sequence[str]) -> Iterator[None]:
    """Raise UserError for a path that no file system takes, whatever met it first."""
    try:
        yield
    except (OSError, RunError) as error:
        cause = error.__cause__ if isinstance(error, RunError) else error
        if not isinstance(cause, OSError) or cause.errno != errno.ENAMETOOLONG:
            raise
        path = os.fsdecode(cause.filename or "a path")
        raise UserError(
            f"{_source(words, path)}{path[:LONGEST_PATH]}: {len(path)} characters are more than a "
            "path may have, or its name: give a shorter one"
        ) from None


def _source(words: Sequence[str], path: str) -> str:
    """The flag of which ``path`` is the value, or that names a folder above it, and a space."""
    flag = ""
    for word in words:
        name, equals, value = word.partition("=")
        given = value if is_flag(word) and equals else word
        if len(given) > LONGEST_PATH and path.startswith((given, os.path.abspath(given))):
            return f"{name if equals else flag} ".lstrip()
        flag = word if is_flag(word) else ""
    return ""


def one_line(error: Exception) -> str:
    """Its text for a terminal or a log: no line breaks, no control characters, not too long."""
    text = " ".join(str(error).splitlines())
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    if len(text) > LONGEST_LINE:
        text = f"{text[: LONGEST_LINE // 2]} ... {text[-LONGEST_LINE // 2 :]}"
    return text


def check_flags(words: Sequence[str], command: str = "train") -> None:
    """End with one line and exit code 2 if the command does not take these; for launch scripts."""
    with one_line_for_mistakes():
        parse_command(COMMANDS[command], words)
