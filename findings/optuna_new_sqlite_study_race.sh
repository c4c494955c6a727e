#!/usr/bin/env bash
# Optuna 5.0.0: processes that begin one study at the same time, as its documentation shows for a
# search by several processes (create_study with one name, one SQLite file and load_if_exists=True).
# Expected: one makes the study, the others load it. Seen: where the file is new, processes die with
# "UNIQUE constraint failed: alembic_version.version_num" (IntegrityError) or "table ... already
# exists" (OperationalError), as each looks what is there and then writes it, without a lock between.
# A lock around the first create_study prevents it, as does a file whose study is made already.
# It depends on timing: ends with 0 where it happens within ROUNDS rounds, each with a new file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optuna==5.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import multiprocessing
import sys
from collections import Counter

import optuna

PROCESSES, ROUNDS = 3, 60


def begin(barrier, round_, made_before, answers):
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    url = f"sqlite:///{'made' if made_before else 'new'}-{round_}.db"
    barrier.wait()
    try:
        optuna.create_study(study_name="study", storage=url, load_if_exists=True)
    except Exception as error:
        text = str(error)
        kind = type(getattr(error, "orig", None) or error).__name__
        if "alembic_version.version_num" in text:
            kind += " on alembic_version"
        elif "already exists" in text:
            kind += " of a table that already exists"
        answers.put(kind)
    else:
        answers.put("")


def one_round(context, round_, made_before):
    if made_before:
        optuna.create_study(study_name="study", storage=f"sqlite:///made-{round_}.db")
    barrier, answers = context.Barrier(PROCESSES), context.Queue()
    workers = [context.Process(target=begin, args=(barrier, round_, made_before, answers))
               for _ in range(PROCESSES)]  # fmt: skip
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    return [one for one in found if one]


optuna.logging.set_verbosity(optuna.logging.WARNING)
context = multiprocessing.get_context("fork")  # no database is open yet
seen, rounds = Counter(), 0
while rounds < ROUNDS and not seen["IntegrityError on alembic_version"]:
    seen.update(one_round(context, rounds, made_before=False))
    rounds += 1
after = Counter()
for round_ in range(rounds):
    after.update(one_round(context, round_, made_before=True))
print(f"optuna {optuna.__version__}, Python {sys.version.split()[0]}: {PROCESSES} processes on a "
      f"new SQLite file, {rounds} rounds: errors {dict(seen)}; on a file whose study is there, as "
      f"many rounds: errors {dict(after)}")
raise SystemExit(0 if seen["IntegrityError on alembic_version"] and not after else "changed")
PYTHON
