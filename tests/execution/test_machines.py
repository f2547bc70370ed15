"""A record is of the machine that timed it, which the stage's worker told, wherever the driver is."""

import json

from worlds import QUICK, make_card, make_recipe

from efflab.foundation.machine import fingerprint, machine_id
from efflab.records.store import stage_digest
from efflab.run import plan_file, run_file


def test_a_record_names_the_machine_that_timed_it(in_folder):
    make_card(in_folder)
    recipe = make_recipe(in_folder, "c: [{cast: {}}]", measure=f"{QUICK}, controls: false")
    here = machine_id(fingerprint())
    study = run_file(recipe, workers=1)
    assert {record["machine"] for record in study["records"]} == {*study["machines"]} == {here}
    other = {**fingerprint(), "cpu": "another"}
    for one, stage in plan_file(recipe).stages.items():
        if stage.kind == "latency" and stage.spec.batch_size == 1:
            path = in_folder / ".efflab/stages" / one / "stage.json"
            kept = json.loads(path.read_text())
            assert kept["about"]["machine"] == fingerprint()
            kept["about"]["machine"] = other
            path.write_text(json.dumps({**kept, "sha256": stage_digest(kept)}))
    study = run_file(recipe, workers=1)
    assert study["machines"] == {machine_id(other): other, here: fingerprint()}
    told = {(record["variant"], record["seed"], record["batch_size"]): record["machine"] for record in study["records"]}
    # the second seed is timed nowhere, and stands in the row of the first one at its batch size
    assert told == {
        (variant, seed, batch): here if batch == 4 else machine_id(other)
        for variant in ("tiny", "c")
        for seed, batch in ((0, 1), (0, 4), (1, 1))
    }
