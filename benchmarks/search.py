"""How much of a search is its own work: proposing, laying stages, judging and noting, beside the trials themselves.

    python benchmarks/search.py [reports/search-digits/study.json]

Replays the trials of a committed study: every batch is proposed, laid and noted again, nothing is trained; the time of the
trials is what they took when they were made. Prints seconds and the share.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from efflab.plan.stage_graph import StageGraph
from efflab.recipe.recipe import parse_recipe
from efflab.records.study import load_study
from efflab.run import _where
from efflab.search import early_stopping
from efflab.search.front import best_trials
from efflab.search.journal import append
from efflab.search.propose import propose


def main() -> None:
    """Print the table."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "reports/search-digits/study.json")
    study = load_study(path)
    recipe = parse_recipe(study["recipe"], Path("recipes") / f"{study['name']}.yaml")
    search, trials = recipe.search, study["search"]["trials"]
    assert search is not None
    propose(search.space, search.goal, [], 1, 0)  # the import of Optuna is paid once, and told apart
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        journal, graph = Path(folder) / "j.jsonl", StageGraph(recipe.path)
        for first in range(0, len(trials), search.spec.at_once):
            known, batch = trials[:first], trials[first : first + search.spec.at_once]
            propose(search.space, search.goal, known, len(batch), search.spec.seed)
            for trial in batch:
                baseline, variant = search.variant(trial["point"], f"trial {trial['number']}")
                made = graph.artefacts(baseline, variant, search.spec.seed)
                graph.on_backend(baseline, variant, made, search.backend)
                early_stopping.by_cost(search.goal, trial["values"], known)
                early_stopping.by_rung(search.goal, trial["values"], trial.get("rung", 0.5), known)
            append(journal, "replay", batch)
            best_trials(search, trials[: first + len(batch)])
    own = time.perf_counter() - began
    took = sum(trial["took_s"] for trial in trials)
    print(
        f"{len(trials)} trials of {study['name']}: {took:.1f} s; the search's own work, replayed: {own:.2f} s, {own / took:.2%}"
    )
    print(f"this machine: {_where(recipe)[0]}")


if __name__ == "__main__":
    main()
