"""Dense families: the cards of one architecture in several sizes."""

from __future__ import annotations

from pathlib import Path

from efflab.cards.baseline import Baseline, load_baseline
from efflab.cards.card_paths import card_files
from efflab.foundation.errors import RequestError, nearest
from efflab.foundation.files import real
from efflab.foundation.wording import shown


def family_members(family: str, near: Path | None = None) -> list[Baseline]:
    """Return the trained baselines of a family, by name; raise RequestError if there is none."""
    members, families = [], set()
    for path in card_files(near).values():
        if real(path).parent.name != "baselines":
            continue
        baseline = load_baseline(path)
        families.add(baseline.card.family or "")
        if baseline.card.family == family and baseline.seeds():  # a card that was not trained yet is no member yet
            members.append(baseline)
    if family not in families:
        raise RequestError(f"unknown family {shown(family)}; {nearest(family, families - {''})}")
    if not members:
        raise RequestError(f"no card of the family {family!r} has weights yet; make some with `efflab train CARD`")
    return sorted(members, key=lambda member: member.name)
