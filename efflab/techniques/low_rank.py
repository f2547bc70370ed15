"""Replaces layers by thinner ones in a row by singular values (Denton et al. 2014, arXiv 1404.0736; Kim et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from efflab.artefacts.artefact import Form
from efflab.contracts.technique import Context, Result, Technique
from efflab.foundation.errors import RequestError
from efflab.model_surgery.thin_layers import (
    Ranks,
    is_splittable,
    least_ranks,
    singular_values,
    split_layer,
    split_macs,
    whole_macs,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

Method = Literal["svd", "tucker"]
HALVINGS = 30  # of the interval in which the energy for a budget is looked for


class LowRank(Technique):
    """Split a layer into thinner ones in a row: by SVD (Zhang et al. 2016), or kernels by Tucker-2 (Kim et al. 2016).

    `svd` makes `rank` features and mixes them by 1x1; `tucker` narrows the channels by 1x1 before a kernel and widens them
    after it. A layer stays as it is where splitting would not save MACs. It helps wide layers; follow it with `finetune`.
    """

    takes: ClassVar[Form] = "module"
    gives: ClassVar[Form] = "module"
    claims: ClassVar[tuple[str, ...]] = ("macs", "params", "artefact_bytes")
    version: ClassVar[int] = 3  # layers with a forward of their own are left alone
    tiny: ClassVar[dict[str, Any]] = {"energy": 0.6}

    energy: Annotated[
        float,
        Field(
            gt=0, lt=1, description="Least share of each layer's energy (sum of squared singular values) that is kept."
        ),
    ] = 0.9
    budget: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | None,
        Field(description="Largest share of the model's MACs that may remain; efflab then chooses `energy` to fit."),
    ] = None
    method: Annotated[
        Method,
        Field(
            description="How a layer is split: `svd` makes two layers; `tucker` makes three of kernels larger than "
            "1x1 and splits other layers by SVD."
        ),
    ] = "svd"
    round_to: Annotated[
        int, Field(ge=1, le=256, description="Multiple to which ranks are rounded up, at most to the full rank.")
    ] = 1

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if self.budget is not None and self.energy != type(self).model_fields["energy"].default:
            raise ValueError("give energy or budget, not both: the budget chooses the energy")
        return self

    def apply(self, model: Any, context: Context) -> Result:
        """Split; raise RequestError if no layer saves anything, or the budget cannot be met."""
        from efflab.contracts.examples import example_inputs, like_parameters
        from efflab.model_surgery.plain_layers import left_alone

        example = tuple(like_parameters(one, model) for one in example_inputs(context.task, 1))
        alone = left_alone(model)
        ranks = low_rank(model, self.energy, self.round_to, self.method, self.budget, example)
        notes = (f"low_rank: {len(ranks)} layers were split{alone}",) if alone else ()
        return Result(model, {name: list(one.parts) for name, one in ranks.items()}, notes)

    @classmethod
    def rebuild(cls, module: nn.Module, structure: dict[str, Any]) -> nn.Module:
        """Split the layers that `structure` names to its ranks; their weights are loaded afterwards."""
        from efflab.model_surgery.plain_layers import take_slow_path

        for name, parts in structure.items():
            _replace(module, name, split_layer(module.get_submodule(name), Ranks(*parts)))
        take_slow_path(module)
        return module


def low_rank(
    module: nn.Module,
    energy: float = 0.9,
    round_to: int = 1,
    method: Method = "svd",
    budget: float | None = None,
    example: tuple[Tensor, ...] = (),
) -> dict[str, Ranks]:
    """Split layers of `module` in place; return the ranks of each that was split.

    Linear layers and ungrouped two-dimensional convolutions with zero padding are split, if they compute what their type
    says. example: inputs of one example, on which layers are looked at, MACs are counted for `budget`, and the split net is
    held against the net with the same products in its weights. Raises RequestError if no layer saves MACs, or the budget
    cannot be met.
    """
    from efflab.model_surgery.plain_layers import left_alone, take_slow_path

    layers = splittable_layers(module, example)
    values = {name: singular_values(layer, method) for name, layer in layers.items()}

    def chosen(share: float) -> dict[str, Ranks]:
        every = {name: least_ranks(values[name], share, round_to) for name in layers}
        return {
            name: ranks for name, ranks in every.items() if split_macs(layers[name], ranks) < whole_macs(layers[name])
        }

    ranks = chosen(energy if budget is None else _energy_for(module, layers, chosen, budget, example))
    if not ranks:
        raise RequestError(
            f"low_rank: no layer saves MACs at an energy of {energy:g}; keep less of it{left_alone(module)}"
        )
    parts = {name: split_layer(layers[name], one, trained=True) for name, one in ranks.items()}
    whole = _with_products(module, parts) if example else None
    for name, part in parts.items():
        _replace(module, name, part)
    take_slow_path(module)
    if whole is not None:
        _check(module, whole, example)
    return ranks


def splittable_layers(module: nn.Module, example: tuple[Tensor, ...] = ()) -> dict[str, Any]:
    """Return the layers that can be split, by name; with an example, only those that compute on it what their type says."""
    from efflab.model_surgery.plain_layers import plain_layers

    layers = {name: layer for name, layer in module.named_modules() if name and is_splittable(layer)}
    plain = plain_layers(module, example, layers) if example else set(layers)
    return {name: layer for name, layer in layers.items() if name in plain}


def _with_products(module: nn.Module, parts: dict[str, nn.Sequential]) -> nn.Module:
    """Return a copy of `module` whose weights are the products of what its layers will be split into."""
    import copy

    from torch import nn

    whole = copy.deepcopy(module)
    for name, split in parts.items():
        layer: Any = whole.get_submodule(name)
        product = _product([part.weight.detach().float() for part in split])  # type: ignore[operator]
        layer.weight = nn.Parameter(product.reshape(layer.weight.shape).to(layer.weight.dtype))
    return whole


def _product(weights: list[Tensor]) -> Tensor:
    """Return the weight that does in one what thin layers in a row do."""
    import torch

    if len(weights) == 3:  # Tucker: 1x1, kernel, 1x1
        before, core, after = weights
        return torch.einsum("os,srhw,ri->oihw", after.flatten(1), core, before.flatten(1))
    first, last = weights
    return last.flatten(1) @ first.flatten(1)


def _check(module: nn.Module, whole: nn.Module, example: tuple[Tensor, ...]) -> None:
    import torch

    from efflab.artefacts.precision import own_dtype
    from efflab.model_surgery.same_outputs import COARSE, excess, slack_of

    with torch.no_grad():
        found = excess(module.eval()(*example), whole.eval()(*example), max(slack_of(own_dtype(module)), COARSE / 5))
    if found:
        raise RequestError(
            f"low_rank: the split layers do not do what their products do ({found}); leave this step out"
        )


def _energy_for(
    module: nn.Module,
    layers: dict[str, Any],
    chosen: Callable[[float], dict[str, Ranks]],
    budget: float,
    example: tuple[Tensor, ...],
) -> float:
    """Return the largest energy at which the MACs are within the budget, by bisection."""
    from efflab.profiling.work_module import count_module

    places = _places(module, layers, example)
    total = count_module(module, example)["macs"]

    def saved(share: float) -> float:
        return sum(
            places[name] * (whole_macs(layers[name]) - split_macs(layers[name], one))
            for name, one in chosen(share).items()
        )

    low, high = 0.0, 1.0
    if total - saved(low) > budget * total:
        least = 1 - saved(low) / total
        raise RequestError(
            f"low_rank: rank 1 everywhere still takes {least:.3f} of the MACs; allow more than {budget:g}"
        )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if total - saved(middle) <= budget * total else (low, middle)
    return low


def _places(module: nn.Module, layers: dict[str, Any], example: tuple[Tensor, ...]) -> dict[str, int]:
    """Return at how many places each layer works; each layer counts as it is called last."""
    import torch

    found = dict.fromkeys(layers, 0)

    def note(name: str) -> Callable[..., None]:
        def hook(layer: Any, _inputs: Any, output: Tensor) -> None:
            found[name] += output.numel() // layer.weight.shape[0]

        return hook

    handles = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    with torch.no_grad():
        module.eval()(*example)
    for handle in handles:
        handle.remove()
    return found


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, new)
