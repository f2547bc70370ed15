"""Removes whole channels (Li et al. 2017, arXiv 1608.08710; coupled layers: Fang et al. 2023, arXiv 2301.12900)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError
from efflab.model_surgery.pruning.settings import GradientExamples

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from efflab.model_surgery.pruning.dependency_groups import Root
    from efflab.model_surgery.pruning.slicing import Structure

Importance = Literal["l1", "l2", "taylor", "bn_scale", "lamp", "random"]
Scope = Literal["local", "isomorphic", "global"]
Kind = tuple[tuple[str, bool], ...]  # what is around a group: types of layers, and whether by their outputs


class PruneChannels(Technique):
    """Remove whole channels, least important first; the network really becomes smaller (Fang et al. 2023, DepGraph).

    It helps where the runtime is bound by compute and channel counts stay multiples of its vector width; follow it
    with `finetune` or `distill`. `lamp` differs from `l2` only under ranking over layers; the scope `isomorphic` is that of
    Fang et al. 2024 (arXiv 2407.04616).
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    claims: ClassVar[tuple[str, ...]] = ("macs", "params", "artefact_bytes")
    rather_after: ClassVar[dict[str, str]] = {
        "regularize_scales": "the price makes scales tell which channels are needed (Liu et al. 2017)",
    }
    tiny: ClassVar[dict[str, Any]] = {"ratio": 0.5}

    ratio: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Share of the channels to remove: from each layer if `scope` is `local`, else from all layers "
            "that are ranked together.",
        ),
    ] = 0.5
    importance: Annotated[
        Importance,
        Field(
            description="How channels are ranked: by weight norm (`l1`, `l2`, `lamp`), change of the loss (`taylor`), "
            "batch-norm scale (`bn_scale`), or chance (`random`)."
        ),
    ] = "l2"
    scope: Annotated[
        Scope,
        Field(
            description="Where channels are ranked: within each layer (`local`), over layers of the same structure "
            "(`isomorphic`), or over all layers (`global`)."
        ),
    ] = "local"
    steps: Annotated[
        int,
        Field(
            ge=1, le=100, description="Number of rounds in which the channels are removed; each round ranks them anew."
        ),
    ] = 1
    round_to: Annotated[
        int,
        Field(ge=1, le=256, description="Multiple to which the number of channels that stay in each layer is rounded."),
    ] = 4
    calibration_examples: GradientExamples = 512

    def apply(self, model: Any, context: Context) -> Result:
        """Prune; raise RequestError if no channel can be removed under these settings."""
        from efflab.contracts.examples import example_inputs, loss_gradients

        example = example_inputs(context.task)
        gradients = loss_gradients(context.task, self.calibration_examples) if self.importance == "taylor" else None
        structure = prune_channels(
            model, example, self.ratio, self.importance, self.scope, self.steps, self.round_to, context.seed, gradients
        )
        return Result(model, structure)

    def draws(self) -> bool:
        """Return whether the channels are chosen by chance."""
        return self.importance == "random"

    @classmethod
    def rebuild(cls, module: torch.nn.Module, structure: dict[str, Any]) -> torch.nn.Module:
        """Keep the channels that `structure` lists."""
        from efflab.model_surgery.pruning.slicing import keep_structure

        return keep_structure(module, structure)

    def control(self) -> Technique | None:
        """Return the same pruning of random channels."""
        return None if self.importance == "random" else self.model_copy(update={"importance": "random"})


def prune_channels(
    module: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    ratio: float = 0.5,
    importance: Importance = "l2",
    scope: Scope = "local",
    steps: int = 1,
    round_to: int = 4,
    seed: int = 0,
    gradients: Callable[[nn.Module], None] | None = None,
) -> Structure:
    """Remove channels of `module` in place and return the kept ones of each layer that changed.

    example: inputs of one small batch. gradients: fills `.grad` of the module that it is given; needed for "taylor".
    Only channels go whose removal gives exactly the network that ignores them; outputs of the network never go.
    Raises RequestError if nothing can be removed.
    """
    from efflab.contracts.examples import like_parameters
    from efflab.model_surgery.plain_layers import left_alone
    from efflab.model_surgery.pruning.dependency_groups import removable
    from efflab.model_surgery.pruning.slicing import keep_structure, same_as_ignoring

    inputs = example if isinstance(example, tuple) else (example,)
    module.eval()
    inputs = tuple(like_parameters(array, module) for array in inputs)
    plan = _Plan(ratio, importance, scope, steps, round_to, seed, gradients)
    roots = removable(module, inputs, "prune_channels")
    structure = _attempt(module, inputs, plan, roots)
    if structure is None or (structure and not same_as_ignoring(module, structure, inputs)):
        # DepGraph misread something; find out which groups it got right, one by one
        alone = _Plan(0.5, "l2", "local", 1, 1, 0, None)
        roots = [root for root in roots if _survives(module, inputs, alone, root)]
        structure = _attempt(module, inputs, plan, roots)
        if structure is None or (structure and not same_as_ignoring(module, structure, inputs)):
            raise RequestError("prune_channels cannot tell which channels of this model belong together")
    if not structure:
        raise RequestError(f"prune_channels removes nothing: {_why(roots, plan)}{left_alone(module)}")
    keep_structure(module, structure)
    return structure


@dataclass(frozen=True)
class _Plan:
    ratio: float
    importance: Importance
    scope: Scope
    steps: int
    round_to: int
    seed: int
    gradients: Callable[[nn.Module], None] | None


def _why(roots: list[Root], plan: _Plan) -> str:
    if not roots:
        return "no layer of this model has channels that can go"
    scale = " and a batch norm" if plan.importance == "bn_scale" else ""
    return f"no layer has channels{scale} to spare at ratio {plan.ratio} and round_to {plan.round_to}; lower round_to"


def _attempt(module: nn.Module, inputs: tuple[Tensor, ...], plan: _Plan, roots: list[Root]) -> Structure | None:
    """Return what pruning a copy would keep; None where torch-pruning stumbles over its own reading of the network."""
    try:
        return _prune(copy.deepcopy(module), inputs, plan, roots)
    except (IndexError, RuntimeError):
        return None


def _survives(module: nn.Module, inputs: tuple[Tensor, ...], plan: _Plan, root: Root) -> bool:
    from efflab.model_surgery.pruning.slicing import same_as_ignoring

    try:
        structure = _prune(copy.deepcopy(module), inputs, plan, [root])
    except Exception:  # whatever torch-pruning runs into, this group is not for us
        return False
    return bool(structure) and same_as_ignoring(module, structure, inputs)


def _prune(module: nn.Module, inputs: tuple[Tensor, ...], plan: _Plan, roots: list[Root]) -> Structure:
    """Prune `module` in place by its dependency graph; return what is kept."""
    from efflab.model_surgery.pruning.channel_ranking import drops_of
    from efflab.model_surgery.pruning.dependency_groups import drop, graph_of, groups_of, root_of

    graph = graph_of(module, inputs)
    names = {layer: name for name, layer in module.named_modules()}
    score = _scorer(plan)
    first: dict[Root, int] = {}
    structure: Structure = {}
    for step in range(plan.steps):
        if plan.gradients is not None:
            module.zero_grad()
            plan.gradients(module)
        scores: dict[Root, tuple[Tensor, int]] = {}
        kinds: dict[Root, Kind] = {}
        for group in groups_of(graph):
            root = root_of(graph, group, names)
            if root in roots:
                values = _block_scores(group, score, names)
                if values is not None:
                    scores[root] = values
                    kinds[root] = _kind(graph, group, names) if plan.scope == "isomorphic" else ()
                    first.setdefault(root, len(values[0]) * values[1])
        share = plan.ratio * (step + 1) / plan.steps
        drops = drops_of(scores, first, share, plan.round_to, None if plan.scope == "local" else kinds)
        for root, dropped in drops.items():
            drop(graph, root, dropped, names, structure)
    return structure


def _block_scores(
    group: Any, score: Callable[[Any], Tensor | None], names: dict[Any, str]
) -> tuple[Tensor, int] | None:
    """Return the scores of a group's channels, averaged over the blocks that must be sliced alike, and their number."""
    from efflab.model_surgery.pruning.slicing import lowest_common_groups

    values = score(group)
    blocks = lowest_common_groups([dep.target.module for dep, _ in group if dep.target.module in names])
    if values is None or len(values) % blocks:
        return None
    return values.detach().float().view(blocks, -1).mean(dim=0), blocks


def _kind(graph: Any, group: Any, names: dict[Any, str]) -> Kind:
    """Return what is around a group's channels: layers of one kind have comparable channels, others need not."""
    deps = [dep for dep, _ in group if dep.target.module in names]
    return tuple(
        sorted((type(dep.target.module).__name__, bool(graph.is_out_channel_pruning_fn(dep.handler))) for dep in deps)
    )


def _scorer(plan: _Plan) -> Callable[[Any], Tensor | None]:
    import torch
    from torch_pruning.pruner import importance

    if plan.importance == "random":
        generator = torch.Generator().manual_seed(plan.seed)
        return lambda group: torch.rand(len(group[0].idxs), generator=generator)
    if plan.importance == "taylor" and plan.gradients is None:
        raise RequestError("importance taylor needs gradients")
    makers: dict[str, Callable[[], Any]] = {
        "l1": lambda: importance.GroupMagnitudeImportance(p=1),
        "l2": lambda: importance.GroupMagnitudeImportance(p=2),
        "taylor": importance.GroupTaylorImportance,
        "bn_scale": importance.BNScaleImportance,
        "lamp": importance.LAMPImportance,
    }
    scorer: Callable[[Any], Tensor | None] = makers[plan.importance]()
    return scorer
