"""The package's messages: one logger for all modules, and how the command line shows it."""

import logging
import os
import sys

logger = logging.getLogger("slowfast_dist")
"""Every message of the package, of the main process alone. A program that uses the package decides
what becomes of them; if it sets nothing up, Python shows warnings on standard error."""

# Accelerate's own logger and print speak once a host; here one of all processes does.
logger.addFilter(lambda record: int(os.environ.get("RANK") or 0) == 0)


class ConsoleHandler(logging.Handler):
    """Shows messages as plain lines; a warning's begins with ``warning: ``.

    They go to the standard output of the moment; those logged with ``extra={"stderr": True}``, as
    beside a command's result, to standard error. What print raises comes through: a closed pipe
    ends a run with one line, in place of a traceback of logging's for every message.
    """

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        stream = sys.stderr if getattr(record, "stderr", False) else sys.stdout
        print(f"{prefix}{record.getMessage()}", file=stream, flush=True)


def log_to_console() -> None:
    """Show the package's messages from INFO on; for the command line, which owns the process."""
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library that logs to the root logger would show them twice
