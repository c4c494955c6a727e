"""``serve``: from the command line to a server that answers."""

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from slowfast_dist.config.commands.browser import Serve
from slowfast_dist.web.extra import of_extra

END_SECONDS = 0.3
"""Seconds that the work at hand has to notice that the server ends: a batch of clips takes about as
long, and what it leaves undone is lost either way."""


def run_serve(run: Path, command: Serve) -> NoReturn:
    """Serve the page until Ctrl-C or SIGTERM, which end this process with exit code 0.

    Raises UserError where the run has no best model, the port is taken, or the extra is missing.
    """
    with of_extra("serve"):
        from slowfast_dist.web.opening import open_address
        from slowfast_dist.web.server import serve
    # Before the model is loaded, which takes longer.
    address = open_address(command.host, command.port, command.token, command.no_token)
    from slowfast_dist.commands.serve.app import PredictEndpoint, make_app
    from slowfast_dist.commands.serve.jobs import TOP, JobQueue
    from slowfast_dist.inference.predictor import open_predictor

    predictor = open_predictor(run, command.backend, command.mixed_precision, None, ahead=True)
    best, folder = predictor.best, predictor.best.folder.resolve()
    facts: dict[str, Any] = {
        "run": folder.parent.name if folder.name == "models" else folder.name,
        "model": best.model["name"], "classes": list(best.classes), "top": TOP,
        "max_bytes": int(command.max_megabytes * 1e6),
        "max_seconds": command.max_seconds, "time_limit": command.time_limit,
    }  # fmt: skip
    jobs = JobQueue(predictor, command.max_seconds)
    shared = address.shared
    predict = PredictEndpoint(jobs, facts["max_bytes"], command.time_limit, share=shared)
    app = make_app(predict, facts, address.host, address.port, address.token)
    serve(app, address.listener, address.print, predict.shutdown, share=shared)
    jobs.shutdown(END_SECONDS)
    # At once: a batch that is computed cannot be interrupted, and Python takes seconds to take
    # torch apart. What has no name on the disk the kernel deletes, and it ends the decoders.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
