"""Python on a machine that lacks something, for a run of the tests on Linux:

    SLOWFAST_DIST_TEST_WITHOUT="decord fork" python -m pytest tests/video

decord: as on ARM and macOS, for which it has no wheels. fork: as where libraries do not survive it:
os.fork is missing, multiprocessing starts processes anew. tests/conftest.py puts this folder on the
path of every process that a test starts; Python imports a module of this name by itself.
"""

import multiprocessing
import os
import sys

WITHOUT = os.environ.get("SLOWFAST_DIST_TEST_WITHOUT", "").split()

if "decord" in WITHOUT:
    sys.modules["decord"] = None  # type: ignore[assignment]  # so an import of it fails
if "fork" in WITHOUT and hasattr(os, "fork"):
    del os.fork
    multiprocessing.set_start_method("spawn")
