"""``review``: from the command line to a page that answers."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from slowfast_dist.commands.review.answers import Answers
from slowfast_dist.commands.review.samples import in_order
from slowfast_dist.commands.review.sources import (
    find_source,
    run_of,
    settings_words,
    training_words,
)
from slowfast_dist.config.commands.browser import Review
from slowfast_dist.config.errors import UserError
from slowfast_dist.system.files import reason_of
from slowfast_dist.web.extra import of_extra


def run_review(word: Path, command: Review) -> NoReturn:
    """Serve the page until Ctrl-C or SIGTERM, which end this process with exit code 0.

    Raises UserError where there is nothing to review, for an output that is not a review's, where
    the port is taken, or the extra is missing.
    """
    with of_extra("review"):
        from slowfast_dist.commands.review import app
        from slowfast_dist.commands.review.media import Media
        from slowfast_dist.web.opening import open_address
        from slowfast_dist.web.server import serve
    output = command.output
    if output.suffix.lower() != ".csv":
        raise UserError(f"--output {output}: give a name that ends in .csv")
    for read in filter(None, (word, command.list)):
        if output.exists() and read.exists() and output.samefile(read):
            raise UserError(f"--output {output}: is the list that is reviewed: give another name")
    source, run = find_source(word, command), run_of(word)
    order = command.order or source.order
    queue = in_order(source, order)
    address = open_address(command.host, command.port, command.token, None)
    try:
        answers = Answers(output, source)
        ids = answers.give(source.samples)
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot be written ({reason_of(error)}): give another"
        ) from error
    places = {id(one): identity for one, identity in zip(source.samples, ids, strict=True)}
    shown = [places[id(one)] for one in queue]
    media = Media(source.image_fps)
    facts = {"name": (run or word).resolve().name, "output": str(output), "order": order}
    review = app.Review(source, queue, shown, answers, media, facts)
    for note in source.notes:
        print(note)
    print(f"{len(queue)} to review, of {len(source.samples)}, in the order {order}")
    words = training_words(output, source.root)
    print(f"every answer is written to {output} at once; to train on it: python train.py "
          f"{' '.join(words)}")  # fmt: skip
    if run is not None and (config := run / "config.yaml").is_file():
        more = settings_words(config, own_folder=len(words) == 1)
        print(f"with this run's model and settings: that and {' '.join(more)} --output-dir NEW")
    web = review.app(address.host, address.port, address.token)
    serve(web, address.listener, address.print, lambda: None, share=address.shared)
    media.close()
    print(f"{output}: {answers.rows()} rows")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # at once: a copy that is being made ends with this process
