"""How much of the theoretical speed-up is seen on the clock, by technique, backend and batch size."""

from __future__ import annotations

from efflab.reporting.section import Asked, Section


def realisation(asked: Asked) -> Section | None:
    """Return measured over theoretical speed-up, where the saved MACs or bit-operations promise one."""
    saving = [
        row
        for row in asked.rows
        if row.role == "variant" and row.against.speedup.known and (row.against.theory_bits or 0) > 1.01
    ]
    if not saving:
        return None
    places = list(dict.fromkeys(row.place for row in saving))
    variants = list(dict.fromkeys(row.variant for row in saving))
    found = {(row.variant, row.place): row for row in saving}
    first = {row.variant: row for row in reversed(saving)}
    table, data = [], []
    for variant in variants:
        some = first[variant]
        cells = []
        for where in places:
            row = found.get((variant, where))
            cells.append(f"{row.against.realisation:.2f}" if row and row.against.realisation is not None else "")
            if row:
                data.append(
                    {
                        "variant": variant,
                        "place": where.words,
                        "speedup": row.against.speedup.value,
                        "theory_macs": row.against.theory,
                        "theory_bits": row.against.theory_bits,
                        "realisation": row.against.realisation,
                    }
                )
        table.append(
            (
                variant,
                *(
                    f"{one:.2f}x" if one else "-"
                    for one in (some["theoretical_speedup"], some["theoretical_speedup_bits"])
                ),
                *cells,
            )
        )
    return Section(
        "realisation", "Theory against the clock", heads=("variant", "MACs", "bit-operations", *(where.words for where in places)),
        table=tuple(table), data=tuple(data),
        notes=("Cells: measured speed-up over that of the column MACs. 1: all that the MACs promise; no gain on the clock would "
               "be 1 over the column MACs, and less is slower than before; over 1 where fewer bits help.",),
    )  # fmt: skip
