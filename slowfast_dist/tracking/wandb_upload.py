"""What of a run goes to wandb, and where: from the flags, and where none was given from wandb's own
variables. No wandb here, so that a run without it imports none."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slowfast_dist.config.training import Config, WandbConfig, config_dict

PROJECT = "slowfast_dist"
"""The project where neither a flag nor WANDB_PROJECT names one."""

SHARED_FACTS = (
    "python", "platform", "cpus", "device", "mixed_precision", "processes", "git_commit",
    "versions",
)  # fmt: skip
"""What of environment.json goes up in any case; --wandb.metadata adds host name and command."""

PRIVATE: dict[str, Any] = {
    "host": "", "x_disable_meta": True, "x_disable_machine_info": True,
    "x_save_requirements": False, "disable_git": True, "disable_code": True, "save_code": False,
}  # fmt: skip
"""wandb's settings under which it collects neither host name, program, paths, arguments, git remote
nor the list of packages: without them wandb 0.31 does all that by itself."""

ERROR_REPORTS = "WANDB_ERROR_REPORTING"
"""The variable that keeps wandb's own reports of its errors back: their tracebacks name paths."""

_TRUE = ("y", "yes", "t", "true", "on", "1")
"""How a variable of wandb's says yes (its own `strtobool`)."""

_MODES = {
    "online": "online", "run": "online", "shared": "online",
    "offline": "offline", "dryrun": "offline",
    "disabled": "disabled",
}  # fmt: skip
"""The values of WANDB_MODE that wandb knows, and what they mean here."""


@dataclass(frozen=True)
class Destination:
    """Where a run goes on wandb; ``asked``: what asked for ``mode``, as a user would write it;
    ``folder``: below which wandb's own lies; ``variables``: those that decided, beside the mode's.
    """

    mode: str
    asked: str
    project: str
    name: str
    folder: Path
    variables: tuple[str, ...]

    def described(self) -> str:
        """As "project a (WANDB_PROJECT), run b"."""
        named = {"WANDB_PROJECT": f"project {self.project}", "WANDB_NAME": f"run {self.name}"}
        words = [
            f"{text} ({variable})" if variable in self.variables else text
            for variable, text in named.items()
        ]
        return ", ".join(words)


def destination(config: WandbConfig, run_dir: Path, environ: Mapping[str, str]) -> Destination:
    """Flags win; without one WANDB_DISABLED, WANDB_MODE, WANDB_PROJECT, WANDB_NAME and WANDB_DIR
    decide, an empty one being none. WANDB_DISABLED is Hugging Face's and wandb's older word for
    WANDB_MODE=disabled: one that says no (false, 0) leaves wandb on."""
    mode: str = config.mode
    asked = f"--wandb.mode {mode}"
    if mode == "auto":
        if environ.get("WANDB_DISABLED", "").lower() in _TRUE:
            mode, asked = "disabled", f"WANDB_DISABLED={environ['WANDB_DISABLED']}"
        elif (variable := environ.get("WANDB_MODE", "")) in _MODES:
            mode, asked = _MODES[variable], f"WANDB_MODE={variable}"
    flags = {"WANDB_PROJECT": config.project, "WANDB_NAME": config.name, "WANDB_DIR": None}
    found = {
        name: environ[name]
        for name, value in flags.items()
        if value is None and environ.get(name, "").strip()
    }
    return Destination(
        mode,
        asked,
        config.project or found.get("WANDB_PROJECT", PROJECT),
        config.name or found.get("WANDB_NAME", run_dir.name),
        Path(found["WANDB_DIR"]).expanduser().absolute() if "WANDB_DIR" in found else run_dir,
        tuple(found),
    )


def contents(config: WandbConfig) -> str:
    """In words, what goes up and what does not."""
    sent = ["settings", "metrics", "class names", "versions", "load of CPU and GPU"]
    kept = ["no host name, paths or command line"]
    if config.metadata:
        sent += ["host name", "command line", "paths", "git remote", "installed packages"]
        kept = []
    if config.hardest:
        sent += [
            f"names and excerpts of {config.hardest} validation videos, and of as many whose label "
            "is in doubt"
        ]
    else:
        kept = ["no videos", *kept]
    if config.log_model:
        sent += ["models/ with the weights"]
    return ", ".join(sent) + "; ".join(["", ", ".join(kept)] if kept else [])


def run_facts(config: Config, environment: Mapping[str, Any]) -> dict[str, Any]:
    """The run's settings and its ``environment`` (environment.json), as wandb shows them.

    Without --wandb.metadata a path is its last name alone, and of the environment there are
    SHARED_FACTS.
    """
    if config.wandb.metadata:
        return config_dict(config) | {"environment": dict(environment)}
    settings = _names(asdict(config))
    settings["resume"] = os.path.basename(config.resume)
    facts = {name: environment[name] for name in SHARED_FACTS if name in environment}
    return settings | {"environment": facts}


def _names(value: Any) -> Any:
    """``value`` with the last name in place of each path."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, dict):
        return {name: _names(one) for name, one in value.items()}
    return [_names(one) for one in value] if isinstance(value, list | tuple) else value
