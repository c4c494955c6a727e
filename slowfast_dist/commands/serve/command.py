"""``serve``: from the command line to a server that answers."""

import os
import secrets
import sys
from pathlib import Path
from typing import Any, NoReturn

from slowfast_dist.config.commands import Serve
from slowfast_dist.config.errors import UserError

TOKEN_BYTES = 24
"""Random bytes of a token that --token auto makes: nobody tries 2^192 of them."""

END_SECONDS = 0.3
"""Seconds that the work at hand has to notice that the server ends: a batch of clips takes about as
long, and what it leaves undone is lost either way."""


def run_serve(run: Path, command: Serve) -> NoReturn:
    """Serve the page until Ctrl-C or SIGTERM, which end this process with exit code 0.

    Raises UserError where the run has no best model, the port is taken, or the extra is missing.
    """
    try:
        from slowfast_dist.commands.serve.access import is_loopback, is_wildcard
        from slowfast_dist.commands.serve.server import listen, serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("slowfast_dist"):
            raise
        raise UserError(
            f"serve: the package {error.name} is missing: pip install '.[demo]'"
        ) from None
    listener = listen(command.host, command.port)  # before the model is loaded, which takes longer
    shared = not is_loopback(command.host)
    if shared and command.token is None and not command.no_token:
        raise UserError(
            f"--host {command.host}: others reach it: give --token auto (it prints one that they "
            "need), or --no-token to let in whoever comes"
        )
    if command.token is not None and command.no_token:
        raise UserError("--token and --no-token: give one of them")
    token = secrets.token_urlsafe(TOKEN_BYTES) if command.token == "auto" else command.token
    from slowfast_dist.commands.serve.app import PredictEndpoint, make_app
    from slowfast_dist.commands.serve.jobs import TOP, JobQueue
    from slowfast_dist.inference.predictor import open_predictor

    predictor = open_predictor(run, command.backend, command.mixed_precision)
    best, folder = predictor.best, predictor.best.folder.resolve()
    facts: dict[str, Any] = {
        "run": folder.parent.name if folder.name == "models" else folder.name,
        "model": best.model["name"], "classes": list(best.classes), "top": TOP,
        "max_bytes": int(command.max_megabytes * 1e6),
        "max_seconds": command.max_seconds, "time_limit": command.time_limit,
    }  # fmt: skip
    jobs = JobQueue(predictor, command.max_seconds)
    predict = PredictEndpoint(jobs, facts["max_bytes"], command.time_limit, share=shared)
    host, port = command.host, listener.getsockname()[1]
    app = make_app(predict, facts, host, port, token)

    def print_address() -> None:
        if shared:
            who = "who has the token" if token else "there is no login: whoever reaches it"
            print(
                f"warning: --host {host}, port {port}: {who} may use this; nothing is encrypted",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        name = "localhost" if is_wildcard(host) else f"[{host}]" if ":" in host else host
        shown = f"?token={token}" if token else ""
        print(f"open http://{name}:{port}/{shown} in a browser (Ctrl-C ends this)", flush=True)

    serve(app, listener, print_address, predict.shutdown, share=shared)
    jobs.shutdown(END_SECONDS)
    # At once: a batch that is computed cannot be interrupted, and Python takes seconds to take
    # torch apart. What has no name on the disk the kernel deletes, and it ends the decoders.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
