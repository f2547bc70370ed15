"""Import paths of earlier releases: each still works for one release, and says where what it gave lives now."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {  # module of an earlier release -> the modules that hold what was in it, all within efflab
    "artefact": "artefacts.artefact",
    "assemble": "execution.study_maker execution.outcomes",
    "backend": "contracts.backend",
    "backend_choice": "recipe.backend_choice",
    "baseline": "cards.baseline",
    "bias_correction": "model_surgery.quantization.bias_correction",
    "calibration": "contracts.examples model_surgery.quantization.already_quantized",
    "card": "cards.card",
    "card_files": "cards.card_files",
    "channel_ranking": "model_surgery.pruning.channel_ranking",
    "child": "foundation.child",
    "child_worker": "foundation.child_server",
    "classification": "contracts.classification",
    "config": "foundation.config",
    "costs": "records.cost",
    "coupling": "model_surgery.pruning.dependency_groups",
    "data": "foundation.datasets",
    "drive": "execution.scheduler execution.watcher execution.stages.time_in_turn",
    "early_exits": "model_surgery.adaptive.early_exits",
    "edges": "artefacts.precision",
    "elastic": "model_surgery.adaptive.subnets",
    "environment": "foundation.machine",
    "errors": "foundation.errors",
    "executor": "execution.local_executor contracts.executor",
    "foreign": "artefacts.user_models",
    "frontier.change": "frontier.law_change",
    "frontier.floor": "frontier.irreducible_error",
    "frontier.meaning": "frontier.progress",
    "graph_check": "model_surgery.graphs.graph_check",
    "hardware": "training.cost",
    "hugging_face": "cards.hugging_face.checkpoint",
    "hugging_face_export": "cards.hugging_face.export",
    "hugging_face_fit": "cards.hugging_face.fit",
    "int8": "model_surgery.quantization.qdq",
    "measure": "recipe.measure",
    "metrics": "foundation.metrics",
    "module_session": "contracts.module_session",
    "norms": "model_surgery.pruning.norm_statistics",
    "onnx_graph": "model_surgery.graphs.onnx_graph artefacts.graph_files packaging.model",
    "profiling.onnx_shapes": "model_surgery.graphs.onnx_shapes",
    "profiling.session_worker": "profiling.session_server",
    "profiling.statistics": "statistics",
    "profiling.work": "profiling.work_module profiling.ledger profiling.work_of_artefact",
    "quiet": "foundation.quiet",
    "recovery": "training.technique_training",
    "registry": "foundation.registry",
    "reporting.columns": "comparison.columns",
    "reporting.dominance": "comparison.dominance",
    "reporting.evidence": "comparison.draws",
    "reporting.gate": "comparison.expressions",
    "reporting.rows": "comparison.compare comparison.row",
    "reporting.standing": "comparison.shifts",
    "run_search": "search.run",
    "schedule": "training.schedule contracts.training_section",
    "schema": "recipe.schema",
    "selection": "plan.selection",
    "sparsity": "model_surgery.pruning.weight_masks",
    "stage_graph": "plan.stage_graph",
    "stages": (
        "execution.stages.apply_technique execution.stages.execute plan.stage_specs "
        "execution.stages.load_baseline artefacts.made profiling.work_of_artefact "
        "execution.stages.score contracts.executor profiling.quality"
    ),
    "store": "records.store foundation.files",
    "study": "records.study records.record foundation.errors records.samples",
    "surgery": "model_surgery.pruning.slicing",
    "task": "contracts.task",
    "technique": "contracts.technique records.cost artefacts.artefact",
    "tensors": "contracts.image_augmentation",
    "token_merging": "model_surgery.adaptive.token_merging",
    "train": "training.train_card",
    "training_step": "training.step",
    "variants": "recipe.variants recipe.step_order",
    "weights": "cards.weights foundation.files artefacts.artefact",
    "wording": "foundation.wording",
    "worker": "execution.stage_server",
}


class _Finder:
    """Finds modules of earlier releases; asked only for what no file holds."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.removeprefix("efflab.") in MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        homes = MOVED[spec.name.removeprefix("efflab.")].split()
        module = ModuleType(spec.name, f"An earlier name of {', '.join(homes)}.")
        module.__getattr__ = forward(spec.name, [f"efflab.{home}" for home in homes])  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def install() -> None:
    """Let Python find modules by their earlier names."""
    if not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.append(_Finder())


def forward(old: str, homes: Sequence[str], names: Collection[str] | None = None) -> Callable[[str], Any]:
    """Return a module's `__getattr__` that takes a name from its new home, with a warning.

    names: those that may be asked for, where to look for others would import much in vain; None: any.
    """

    def find(name: str) -> Any:
        wanted = name in names if names is not None else not name.startswith("__")
        for home in homes if wanted else ():
            module = import_module(home)
            if hasattr(module, name):
                public = import_module("efflab")
                better = "efflab" if name in getattr(public, "PUBLIC", {}) else home
                told = f"`from {old} import {name}` works for one more release; write `from {better} import {name}`"
                warnings.warn(told, FutureWarning, stacklevel=2)
                return getattr(module, name)
        raise AttributeError(f"module {old!r} has no attribute {name!r}")

    return find
