"""The model-card command: write models/README.md and, if asked to, upload models/ to the hub."""

from json import JSONDecodeError
from pathlib import Path

from slowfast_dist.config.commands.model_card import ModelCard
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.report.card import CARD, EXPORTS, write_card
from slowfast_dist.runs.best_model import DESCRIPTION, WEIGHTS, read_best

UPLOADED = (CARD, DESCRIPTION, WEIGHTS, *EXPORTS)
"""Of models/ nothing else goes up. Not best_model_architecture.pth: it is a whole pickled model,
which the hub marks as unsafe, as loading it runs code; best_model.json rebuilds the same."""

CONNECT_SECONDS = 15.0
"""Seconds that a connection to the hub may take; then it counts as away."""
SILENT_SECONDS = 60.0
"""Seconds without a byte on a connection after which the hub counts as away: it may think for some
over a large commit."""

_LOGIN = "log in with 'hf auth login', or set HF_TOKEN to a token that may write"


def run_model_card(run: Path, command: ModelCard) -> None:
    """Write the card of a run's best model, unless one changed by hand is there; then upload.

    Raises UserError for a mistake of the user's, RunError for what the disk or the hub refuses.
    """
    models = read_best(run).folder
    path = models / CARD
    if write_card(models, command.overwrite):
        print(f"{path}: written")
    else:
        print(f"{path}: was changed by hand and is kept; --overwrite writes a new one")
    if command.push_to_hub is not None:
        print(f"uploaded: {push_to_hub(models, command.push_to_hub, command.private)}")


def push_to_hub(models: Path, repository: str, private: bool) -> str:
    """Upload UPLOADED, as far as it is there, in one commit; returns the repository's address.

    ``repository`` is USER/NAME; where there is none yet, it is made, ``private`` or not.
    Raises UserError for a name or login that the hub refuses and for weights that cannot be read,
    are not finite or not those of best_model.json, RunError where it does not answer.
    """
    if linked := [models / name for name in UPLOADED if (models / name).is_symlink()]:
        raise UserError(
            f"--push-to-hub {repository}: {linked[0]} is a link, and what it leads to would go up: "
            "put the file itself there"
        )
    try:
        import huggingface_hub as hub
    except ImportError:
        raise UserError(
            f"--push-to-hub {repository}: huggingface_hub is not installed: pip install '.[hub]'"
        ) from None
    if hub.get_token() is None:
        raise UserError(f"--push-to-hub {repository}: not logged in: {_LOGIN}")
    files = [name for name in UPLOADED if (models / name).is_file()]
    if WEIGHTS in files:
        read_best(models).read_weights()
    others = sorted({path.name for path in models.iterdir()} - set(files))
    if others:
        print(f"stays here: {', '.join(others)}")
    whose = "private" if private else "public"
    print(f"sends to {hub.constants.ENDPOINT}/{repository} (made {whose}): {', '.join(files)}")
    try:
        # Its client would wait for ever for a hub that does not answer.
        make, hooks = type(hub.get_session()), hub.get_session().event_hooks
        # To connect, to read, to write, and for a connection of the pool.
        waits = (CONNECT_SECONDS, SILENT_SECONDS, SILENT_SECONDS, None)
        hub.set_client_factory(
            lambda: make(timeout=waits, event_hooks=hooks, follow_redirects=True)
        )
        api = hub.HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.create_commit(
            repository,
            [hub.CommitOperationAdd(name, models / name) for name in files],
            commit_message="Best model of a training with slowfast_dist",
        )
    except Exception as error:  # the library's own, those of its HTTP client, and of its threads
        raise _explained(error, repository) from error
    return str(address)


def _explained(error: Exception, repository: str) -> UserError | RunError:
    """One line for what the hub, or the way to it, refused."""
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    what = f"--push-to-hub {repository}"
    cause: BaseException | None = error
    while cause is not None:  # the thread that failed says less than what made it fail
        if isinstance(cause, HFValidationError):
            rule = "letters, digits, '-', '_' and '.', up to 96 of them"
            return UserError(f"{what}: no name of a repository: give USER/NAME of {rule}")
        if isinstance(cause, OfflineModeIsEnabled):
            return UserError(f"{what}: HF_HUB_OFFLINE is set: take it out of the environment")
        answer = getattr(cause, "response", None)
        if (status := getattr(answer, "status_code", None)) is not None:
            return _refused(what, status, cause)
        if isinstance(cause, JSONDecodeError):
            return RunError(f"{what}: what answers is not the hub: is there a proxy on the way?")
        if isinstance(cause, ValueError):  # as for a card whose front matter is not valid
            said = " ".join(str(cause).split())
            return UserError(f"{what}: the hub refuses it ({said}): change what it names")
        cause = cause.__cause__
    return RunError(f"{what}: the hub cannot be reached ({_first_line(error)}): try again later")


def _refused(what: str, status: int, error: BaseException) -> UserError | RunError:
    said = getattr(error, "server_message", None) or _first_line(error)
    elsewhere = f"this login may not write there: give a repository of your own, or {_LOGIN}"
    mistakes = {
        400: f"the hub refuses it ({said}): change what it names",
        401: f"the hub does not know this login: {_LOGIN}",
        403: elsewhere,
        404: elsewhere,
    }
    if status in mistakes:
        return UserError(f"{what}: {mistakes[status]}")
    return RunError(f"{what}: the hub failed with {status} ({said}): try again later")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
