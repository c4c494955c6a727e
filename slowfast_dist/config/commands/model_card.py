"""The settings of ``model-card``: field names are the flags, the text below is their help."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Predicate

from slowfast_dist.config.checks import Remedy


def _is_user_and_name(repository: str) -> bool:
    return len(repository.split("/")) == 2


@dataclass(frozen=True)
class ModelCard:
    """Write the model card of a run's best model, models/README.md, and upload it if asked to.

    RUN is a run's folder, or its models folder alone. A training writes the card, too; one that was
    changed by hand is kept and only uploaded.
    """

    push_to_hub: Annotated[str | None, Predicate(_is_user_and_name), Remedy("give USER/NAME")] = (
        None
    )
    """Upload the models folder to this repository (USER/NAME) of the Hugging Face hub, made if need
    be; needs pip install '.[hub]' and a login (hf auth login, or HF_TOKEN)."""
    private: bool = True
    """Whether a repository that is made here is private."""
    overwrite: bool = False
    """Write a new card also where the one that is there was changed by hand."""
