"""The name of a variant, put together and taken apart in one place."""

from __future__ import annotations

import re
from typing import NamedTuple

PATTERN = re.compile(
    r"(?P<entry>[^\[~@]*)(\[(?P<sweep>.*)\])?(~(?P<control>random|trained-on))?(@(?P<baseline>.*))?", re.DOTALL
)


class VariantName(NamedTuple):
    """What tells a variant from the others: `prune50[ratio=0.5]~random@digits-resnet-w11`."""

    entry: str  # its name under `variants` in the recipe, or the name of a card
    sweep: str = ""  # what its sweeps chose
    control: str = (
        ""  # random: its choices are left to chance; trained-on: the baseline with the variant's training only
    )
    baseline: str = ""  # where one recipe has several

    def __str__(self) -> str:
        sweep, baseline = (f"[{self.sweep}]" if self.sweep else ""), (f"@{self.baseline}" if self.baseline else "")
        return f"{self.entry}{sweep}{f'~{self.control}' if self.control else ''}{baseline}"

    @property
    def on_any_baseline(self) -> str:
        """The name without that of the baseline."""
        return str(self._replace(baseline=""))

    @property
    def claim(self) -> str:
        """The name of the variant that a control belongs to."""
        return str(self._replace(control=""))


def variant_name(text: str) -> VariantName:
    """Take the name of a variant apart; any other text is a name of its own."""
    found = PATTERN.fullmatch(text)
    if found is None:
        return VariantName(text)
    return VariantName(found["entry"], found["sweep"] or "", found["control"] or "", found["baseline"] or "")
