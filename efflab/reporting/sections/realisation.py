"""How much of the theoretical speed-up is seen on the clock, by technique, backend and batch size."""

from __future__ import annotations

from efflab.reporting.section import Asked, Section, place


def realisation(asked: Asked) -> Section | None:
    """Return measured over theoretical speed-up, where the saved MACs or bit-operations promise one."""
    saving = [
        row
        for row in asked.rows
        if row["role"] == "variant" and row["speedup"] and (row["theoretical_speedup_bits"] or 0) > 1.01
    ]
    if not saving:
        return None
    places = list(dict.fromkeys(place(row) for row in saving))
    variants = list(dict.fromkeys(row["variant"] for row in saving))
    found = {(row["variant"], place(row)): row for row in saving}
    table, data = [], []
    for variant in variants:
        some = next(row for row in saving if row["variant"] == variant)
        cells = []
        for where in places:
            row = found.get((variant, where))
            cells.append(f"{row['realisation']:.2f}" if row and row["realisation"] is not None else "")
            if row:
                data.append(
                    {
                        "variant": variant,
                        "place": where,
                        "speedup": row["speedup"],
                        "theory_macs": row["theoretical_speedup"],
                        "theory_bits": row["theoretical_speedup_bits"],
                        "realisation": row["realisation"],
                    }
                )
        table.append(
            (variant, f"{some['theoretical_speedup']:.2f}x", f"{some['theoretical_speedup_bits']:.2f}x", *cells)
        )
    return Section(
        "realisation", "Theory against the clock", heads=("variant", "MACs", "bit-operations", *places),
        table=tuple(table), data=tuple(data),
        notes=("Cells: measured speed-up over that of the column MACs. 1: all that the MACs promise; no gain on the clock would "
               "be 1 over the column MACs, and less is slower than before; over 1 where fewer bits help.",),
    )  # fmt: skip
