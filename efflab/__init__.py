"""efflab: which compression or acceleration technique is worth it, and the proof.

import efflab
study = efflab.run_recipe("recipes/digits.yaml")
rows = efflab.rows(study)          # a list of flat dicts: pandas.DataFrame(rows), polars.DataFrame(rows)

The author of a plug-in needs no other import: `from efflab import Technique, Context, Result`. Names are read when
they are first asked for, so that `import efflab` stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.foundation import old_names

if TYPE_CHECKING:
    from efflab.artefacts.artefact import Artefact, Form
    from efflab.contracts.backend import Arrays, Backend, Session
    from efflab.contracts.classification import Classification
    from efflab.contracts.metric import Metric
    from efflab.contracts.module_session import ModuleSession
    from efflab.contracts.task import Batch, Inputs, Split, Task
    from efflab.contracts.technique import Context, Result, Technique
    from efflab.contracts.trains import TrainingRun, Trains
    from efflab.foundation.config import Settings
    from efflab.foundation.errors import RequestError, Unavailable
    from efflab.plan.plan import Plan
    from efflab.recipe.recipe import Recipe
    from efflab.records.study import Study
    from efflab.training.technique_training import train_within

PUBLIC = {  # name -> where it lives
    "Arrays": "contracts.backend",
    "Artefact": "artefacts.artefact",
    "Backend": "contracts.backend",
    "Batch": "contracts.task",
    "Classification": "contracts.classification",
    "Context": "contracts.technique",
    "Form": "artefacts.artefact",
    "Inputs": "contracts.task",
    "Metric": "contracts.metric",
    "ModuleSession": "contracts.module_session",
    "RequestError": "foundation.errors",
    "Result": "contracts.technique",
    "Session": "contracts.backend",
    "Settings": "foundation.config",
    "Split": "contracts.task",
    "Task": "contracts.task",
    "Technique": "contracts.technique",
    "TrainingRun": "contracts.trains",
    "Trains": "contracts.trains",
    "Unavailable": "foundation.errors",
    "train_within": "training.technique_training",
}

__all__ = [
    "Arrays",
    "Artefact",
    "Backend",
    "Batch",
    "Classification",
    "Context",
    "Form",
    "Inputs",
    "Metric",
    "ModuleSession",
    "RequestError",
    "Result",
    "Session",
    "Settings",
    "Split",
    "Task",
    "Technique",
    "TrainingRun",
    "Trains",
    "Unavailable",
    "load_recipe",
    "load_study",
    "plan_recipe",
    "rows",
    "run_recipe",
    "train_within",
]

old_names.install()


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'efflab' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"efflab.{PUBLIC[name]}"), name)
    globals()[name] = found
    return found


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe; raise RequestError with all its problems."""
    from efflab.recipe.recipe import load_recipe

    return load_recipe(Path(path))


def plan_recipe(path: str | Path) -> Plan:
    """Return the stages and rows of a recipe on this machine; nothing is run."""
    from efflab.run import plan_file

    return plan_file(Path(path))


def run_recipe(path: str | Path, only: list[str] | None = None, workers: int | None = None) -> Study:
    """Run a recipe (finished stages are not repeated) and return its study."""
    from efflab.run import run_file

    return run_file(Path(path), only=only, workers=workers)


def load_study(name_or_path: str | Path) -> Study:
    """Read the study of a recipe that was run: its name, or the path of a study.json or of a folder holding one."""
    from efflab.records.store import study_path
    from efflab.records.study import load_study

    return load_study(study_path(str(name_or_path)))


def rows(study: Study) -> list[dict[str, Any]]:
    """Return a study as flat rows, one a (variant, backend, batch size, machine), seeds aggregated, with intervals."""
    from efflab.comparison.compare import rows

    return [row.flat() for row in rows(study)]
