"""efflab: which compression or acceleration technique is worth it, and the proof.

import efflab
study = efflab.run_recipe("recipes/digits.yaml")
rows = efflab.rows(study)          # a list of flat dicts: pandas.DataFrame(rows), polars.DataFrame(rows)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efflab.plan import Plan
    from efflab.recipe import Recipe
    from efflab.study import Study

__all__ = ["load_recipe", "load_study", "plan_recipe", "rows", "run_recipe"]


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe; raise efflab.errors.RequestError with all its problems."""
    from efflab.recipe import load_recipe

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
    from efflab.store import study_path
    from efflab.study import load_study

    return load_study(study_path(str(name_or_path)))


def rows(study: Study) -> list[dict[str, Any]]:
    """Return a study as flat rows, one a (variant, backend, batch size, machine), seeds aggregated, with intervals."""
    from efflab.reporting.rows import rows

    return rows(study)
