"""What `efflab show card` prints: a card's task and weights, and what its model takes and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from efflab.artefacts.interface import Interface
    from efflab.cards.baseline import Baseline


def show_card(name: str, style: str) -> int:
    """Print a card; raise RequestError for one that cannot be read, or whose model does not run on its task."""
    from efflab.cards.baseline import load_baseline
    from efflab.cards.card_paths import find_card
    from efflab.cli._tables import show

    baseline = load_baseline(find_card(name))
    interface = interface_of(baseline)
    ports = [
        {
            "side": side,
            "name": port.name,
            "type": port.dtype,
            "shape": "unknown"
            if port.shape is None
            else f"({', '.join('N' if one is None else str(one) for one in port.shape)})",
            "scored": "yes" if side == "output" and interface.scored == place else "",
        }
        for side, several in (("input", interface.inputs), ("output", interface.outputs))
        for place, port in enumerate(several)
    ]
    if style in ("csv", "json"):
        show(ports, style, list(ports[0]) if ports else [])
        return 0
    card = baseline.card
    ((task, settings),) = card.task.items()
    told = f" ({', '.join(f'{key}: {value}' for key, value in settings.items())})" if settings else ""
    print(f"{baseline.name}{f': {card.description}' if card.description else ''}\n")
    print(f"task     {task}{told}, metric {baseline.task.metric}")
    print(f"model    {_model(baseline)}")
    seeds = ", ".join(map(str, baseline.seeds())) or "none yet"
    print(f"weights  seeds {seeds}" + (f"; promises {card.promise.value:.4f}" if card.promise else ""))
    calls = "any number of" if interface.batch is None else f"exactly {interface.batch}"
    print(f"a call   takes {calls} example{'s' if interface.batch != 1 else ''}\n")
    show(ports, style, list(ports[0]) if ports else [])
    if interface.scored is None:
        print("\nthe task reads all outputs as they are")
    return 0


def interface_of(baseline: Baseline) -> Interface:
    """Return what a card's model takes and gives, as far as it can be known without exporting it."""
    from dataclasses import replace

    from efflab.artefacts.interface import Interface
    from efflab.artefacts.user_models import exported_batch
    from efflab.cards.card_files import file_problems
    from efflab.cards.model_check import check_graph_file, module_inputs
    from efflab.contracts.examples import example_inputs
    from efflab.foundation.errors import RequestError
    from efflab.training.train_card import outputs_of

    card, task = baseline.card, baseline.task
    if card.hugging_face and baseline.form == "onnx":
        return Interface()
    if card.onnx:
        problems = file_problems([baseline], [0])
        if problems:
            raise RequestError(problems)
        return check_graph_file(baseline.onnx_file(), task, card.inputs, card.output)
    seeds = baseline.seeds()
    module = baseline.module(seeds[0]) if seeds else baseline.fresh()
    batch = exported_batch(module)
    task = task.for_model(Interface(batch=batch))
    return replace(
        outputs_of(module, task, card.output),
        batch=batch,
        inputs=module_inputs(module, example_inputs(task), task.free_axes()),
    )


def _model(baseline: Baseline) -> str:
    card = baseline.card
    if card.model:
        ((name, settings),) = card.model.items()
        return f"{name} {settings or ''}".strip()
    if card.python:
        return f"{card.python.function} of {card.python.file}"
    return str(card.onnx or card.torch_export)
