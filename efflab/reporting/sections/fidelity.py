"""What each step did to the outputs: signal over error and agreement with the model before it, on real examples."""

from __future__ import annotations

from efflab.reporting.section import Asked, Section

EQUAL_DB = 200.0  # stands for outputs that are equal to the last bit


def fidelity(asked: Asked) -> Section | None:
    """Return how near each step's outputs lie to those of the model that it was given, of the first seed."""
    table, data = [], list[dict[str, object]]()
    seen = set()
    for record in asked.study["records"]:
        if record["role"] != "variant" or record["variant"] in seen or "fidelity" not in record:
            continue
        seen.add(record["variant"])
        for number, step in enumerate(record["fidelity"], 1):
            decibel, agreement = step["sqnr_db"], step["agreement"]
            near = "equal" if decibel == EQUAL_DB else "" if decibel is None else f"{decibel:.1f}"
            told = "; ".join([*step["warnings"], *step["notes"]])
            share = "" if agreement is None else f"{100 * agreement:.0f} %"
            table.append((record["variant"] if number == 1 else "", step["technique"], near, share, told))
            data.append({"variant": record["variant"], "step": number, **step})
    if not table:
        return None
    examples = max(step["examples"] for record in asked.study["records"] for step in record.get("fidelity", ()))
    return Section(
        "fidelity",
        "What each step did to the outputs",
        heads=("variant", "step", "signal over error (dB)", "same answer", "to know"),
        table=tuple(table),
        notes=(
            f"Outputs of up to {examples} validation examples, each step against the model that it was given. 20 dB: the error "
            "has a hundredth of the outputs' power. Pruning and training change outputs on purpose.",
        ),
        data=tuple(data),
    )
