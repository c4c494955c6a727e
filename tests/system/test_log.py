"""What becomes of the package's messages, in processes of their own."""

import os
import subprocess
import sys

import pytest

MESSAGES = """
from slowfast_dist.system.log import logger
print("first", end=", ")
logger.info("as it is: 100 %")
logger.warning("careful")
logger.warning("beside a result", extra={"stderr": True})
print("last")
"""
CONFIGURED = "from slowfast_dist.system.log import log_to_console\nlog_to_console()\n"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


def test_the_command_line_shows_plain_lines_in_their_order() -> None:
    done = run(CONFIGURED + CONFIGURED + MESSAGES)  # set up twice, shown once
    assert done.stdout == "first, as it is: 100 %\nwarning: careful\nlast\n"
    assert done.stderr == "warning: beside a result\n"


def test_another_librarys_set_up_of_the_root_logger_shows_no_line_twice() -> None:
    root = "import logging\nlogging.basicConfig(level=logging.DEBUG)\n"
    assert run(root + CONFIGURED + MESSAGES).stderr == "warning: beside a result\n"


def test_a_library_is_silent_but_for_warnings() -> None:
    done = run(MESSAGES)
    assert (done.stdout, done.stderr) == ("first, last\n", "careful\nbeside a result\n")


@pytest.mark.parametrize("first", ["", CONFIGURED])
def test_only_the_main_process_speaks(first: str) -> None:
    done = run(first + MESSAGES, RANK="1")
    assert (done.stdout, done.stderr) == ("first, last\n", "")


def test_a_closed_pipe_is_the_callers_to_handle() -> None:
    """As that of print is: `faults_as_run_errors` makes one line of it."""
    code = "import os, sys\nread, write = os.pipe()\nos.close(read)\nos.dup2(write, 1)\n"
    code += CONFIGURED + "from slowfast_dist.system.log import logger\n"
    code += "try:\n    logger.info('x')\nexcept BrokenPipeError:\n    os._exit(7)\n"
    done = run(code)
    assert done.returncode == 7 and "Traceback" not in done.stderr
