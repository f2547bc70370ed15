"""A stage whose record was altered after it was written is made again, and the run says so."""

import json

from worlds import make_card, make_recipe

from efflab.execution.watcher import Watcher
from efflab.run import run_file

MEASURE = (
    "seeds: [0], batch_sizes: [1], min_runs: 11, min_seconds: 0.001, max_seconds: 0.005, rounds: 5, controls: false, "
    "threads: 1"
)


def tenth(value):
    """Divide every number of a record by ten."""
    if isinstance(value, dict):
        return {name: tenth(one) for name, one in value.items()}
    if isinstance(value, list):
        return [tenth(one) for one in value]
    return value / 10 if isinstance(value, float) else value


def test_an_altered_stage_is_made_again_and_said(in_folder):
    make_card(in_folder)
    recipe = make_recipe(in_folder, "c: [{cast: {}}]", measure=MEASURE)
    first = run_file(recipe, workers=1)
    paths = sorted((in_folder / ".efflab/stages").glob("*/stage.json"))
    written = {path: path.read_text() for path in paths}
    for path, text in written.items():
        stored = json.loads(text)
        path.write_text(json.dumps({**stored, "result": tenth(stored["result"])}))
    said = []
    again = run_file(recipe, workers=1, watcher=Watcher(say=said.append))
    notes = [sentence for sentence in said if "is not what was written there; it is made again" in sentence]
    changed = [
        path for path in paths if json.loads(written[path])["result"] != tenth(json.loads(written[path])["result"])
    ]
    assert len(notes) == len(changed) > 2
    for one, other in zip(first["records"], again["records"], strict=True):
        assert one["quality"]["value"] == other["quality"]["value"]
        assert one["work"] == other["work"]
    said.clear()
    run_file(recipe, workers=1, watcher=Watcher(say=said.append))
    assert not [sentence for sentence in said if "made again" in sentence]
