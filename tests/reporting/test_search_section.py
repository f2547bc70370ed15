"""What a report says of a search, on planted rows and trials."""

from studies import BASELINE, example_records, record, study_of

from efflab.comparison.columns import AXES
from efflab.comparison.compare import assess
from efflab.reporting.section import Asked, markdown
from efflab.reporting.sections.search import search

COST = {"training_macs": 4e9, "seconds": 120.0, "hardware_burden_flop": 0.0}


def trial(number, state, values, why=""):
    cost = {**COST, "training_macs": 1e9}
    return {
        "number": number, "point": {}, "recipe": f"net: step({number})", "state": state, "why": why, "values": values,
        "cost": cost, "stages": [], "took_s": 1.0,
    }  # fmt: skip


def searched_study():
    records = [
        *example_records(),
        record("best", 4e5, 0.30, latency_ms=0.5, steps=("step",), recovery_macs=4e9, phase=1),
        record("by-hand", 8e5, 0.34, latency_ms=0.9, steps=("other",), recovery_macs=1e9, phase=1),
    ]
    study = study_of(records)
    study["search"] = {
        "minimize": ["macs"], "where": ["error <= 0.35"], "backend": "torch", "batch_size": 1, "points": 12.0, "cost": COST,
        "found": {"best": 1}, "front": [1],
        "trials": [
            trial(0, "stopped", {"macs": 9e5}, "macs is 9e+05 before any training, and 4e+05 is reached already"),
            trial(1, "done", {"macs": 4e5, "error": 0.31}),
        ],
    }  # fmt: skip
    return study


def test_a_study_without_a_search_has_no_such_section():
    study = study_of(example_records())
    assert search(Asked(study, assess(study, tuple(AXES), 50))) is None


def test_trials_their_cost_and_the_best_beside_a_recipe_by_hand():
    study = searched_study()
    section = search(Asked(study, assess(study, tuple(AXES), 50)))
    said = section.sentences
    assert "2 trials of a space of 12 points, for the least macs under error <= 0.35" in said[0]
    assert said[0].endswith("on torch: 1 stopped, 1 done.")
    assert "cost 4.00 GMAC of training and 2 minutes" in said[1]
    best, hand = (next(one for one in said if one.startswith(name)) for name in ("best", "by-hand"))
    assert "found by the search; 4.00 GMAC of training in all" in best
    assert "70.00%" in best
    assert "written by hand; 1.00 GMAC" in hand
    assert [row[2] for row in section.table] == ["stopped", "best"]
    assert section.table[0][3:] == (
        "900 k",
        "",
        "1.00 GMAC",
        "macs is 9e+05 before any training, and 4e+05 is reached already",
    )
    assert "| 1       | net: step(1) |" in markdown(section)
    assert BASELINE not in said[0]
