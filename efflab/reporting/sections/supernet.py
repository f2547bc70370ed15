"""Sub-nets of one supernet against stand-alone nets of the same sizes: quality, its rank, and what training costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from efflab.comparison.draws import Evidence, mean_error
from efflab.contracts.technique_roles import converts
from efflab.records.quality import is_share, unit_of, units_in_one
from efflab.records.record import Record
from efflab.reporting.numbers import fixed, points_text, quality_text, si
from efflab.reporting.section import Asked, Section, ends
from efflab.statistics import quality_verdict

TRAIN, CUT = "train_supernet", "cut_subnet"
ENOUGH_PAIRS = 4  # fewer have no rank worth a number
Seeds = dict[int, Record]


@dataclass(frozen=True)
class Net:
    """A net that a supernet holds, and the dense net of the same size; records by seed, all of one backend."""

    name: str
    inherited: Seeds
    alone: Seeds  # empty where the family has no net of this size
    whole: bool  # the supernet itself

    @property
    def macs(self) -> int:
        """MACs of one forward pass."""
        return _first(self.inherited)["work"]["macs"]


@dataclass(frozen=True)
class Supernet:
    """What one `train_supernet` of a baseline made, on one backend."""

    baseline: str
    backend: str
    nets: list[Net]  # largest first

    @property
    def pairs(self) -> list[Net]:
        """The nets that have a dense twin."""
        return [net for net in self.nets if net.alone]

    @property
    def name(self) -> str:
        """The variant that is the supernet itself, where it was measured, else what it was made of."""
        return next((net.name for net in self.nets if net.whole), f"the supernet of {self.baseline}")


def supernet(asked: Asked) -> Section | None:
    """Return inherited against stand-alone quality of each sub-net, and how alike the two rank."""
    found = supernets(asked)
    if not found:
        return None
    paired = [record for one in found for net in one.pairs for record in (*net.inherited.values(), *net.alone.values())]
    evidence = Evidence(paired, draws=asked.assessment.draws)
    table, data = [], []
    for one in found:
        for net in one.nets:
            facts = _facts(one, net, evidence)
            data.append(facts)
            unit = unit_of(_first(net.inherited)["quality"])
            table.append((net.name, si(net.macs), quality_text(facts["inherited"], unit), *_cells(facts, unit)))
    sentences = [_rank(one) for one in found] + [_naive(asked, one) for one in found]
    return Section(
        "supernet", "Sub-nets against stand-alone nets of the same size", sentences=tuple(filter(None, sentences)),
        heads=("sub-net", "MACs", "inherited quality", "stand-alone net", "its quality", "points [95 %]", "",
               "training MACs of the stand-alone net"),
        table=tuple(table), data=tuple(data),
        notes=(f"On {', '.join(dict.fromkeys(one.backend for one in found))}, means over seeds; points: inherited over "
               "stand-alone quality, seed by seed on the same test examples. Inherited: cut out of the supernet, with its "
               "weights and without further training; a supernet goes on from trained weights, so that these have seen more "
               "epochs than the twin's. Sizes that lie far apart rank alike easily.",),
    )  # fmt: skip


def amortisation(asked: Asked) -> Section | None:
    """Return from how many targets on one supernet takes less training than a net for each target."""
    table, data, sentences = [], [], []
    for one in supernets(asked):
        alone = sorted(_mean(_training(record) for record in net.alone.values()) for net in one.pairs)
        first = _first(one.nets[0].inherited)
        spent = _mean(
            _training(record) + record["recovery"]["training_macs"] for record in one.nets[0].inherited.values()
        )
        if not alone or not alone[0] or not _training(first):
            sentences.append(
                f"{one.name}: not known, since the training of the dense nets, or of the baseline, is not."
            )
            continue
        dearest, cheapest = np.cumsum(alone[::-1]), np.cumsum(alone)
        for k, (most, least) in enumerate(zip(dearest, cheapest, strict=True), 1):
            facts = {"supernet": one.name, "targets": k, "supernet_macs": spent}
            data.append(facts | {"dearest_macs": float(most), "cheapest_macs": float(least)})
            cheaper = "whichever they are" if spent < least else "if they are the dearest" if spent < most else "no"
            table.append((one.name, str(k), si(most), si(least), si(spent), cheaper))
        sentences.append(_from(one, spent, dearest, _mean(alone)))
        sentences.append(_there_already(one))
    if not sentences:
        return None
    return Section(
        "amortisation", "Training of one supernet against one net for each target", sentences=tuple(filter(None, sentences)),
        heads=("supernet", "targets", "stand-alone, the dearest", "the cheapest", "supernet", "supernet cheaper"),
        table=tuple(table), data=tuple(data),
        notes=("Training MACs, means over seeds; the supernet's are those of the baseline that it starts from and its own. The "
               "largest net is a target, too, where the supernet itself was measured. Quality is not in these numbers: see the "
               "sub-nets against their twins.",),
    )  # fmt: skip


def supernets(asked: Asked) -> list[Supernet]:
    """Return the supernets of a study with their nets, on the first backend on which each was measured."""
    made: dict[tuple[str, str], dict[str, dict[str, Seeds]]] = {}
    dense: dict[tuple[Any, ...], Seeds] = {}
    for record in asked.study["records"]:
        if record["status"] != "ok" or "quality" not in record or "work" not in record:
            continue
        names = _changes(record)
        if record["role"] in ("baseline", "dense"):
            dense.setdefault((record["backend"], *_size(record)), {}).setdefault(record["seed"], record)
        elif record["role"] == "variant" and _is_subnet(names):
            trained = json.dumps(record["steps"][: names.index(TRAIN) + 1], sort_keys=True)
            backends = made.setdefault((record["baseline"], trained), {})
            variants = backends.setdefault(record["backend"], {})
            variants.setdefault(record["variant"], {}).setdefault(record["seed"], record)
    found = []
    for (baseline, _), backends in made.items():
        backend, variants = next(iter(backends.items()))
        nets = [
            Net(name, seeds, dense.get((backend, *_size(_first(seeds))), {}), CUT not in _changes(_first(seeds)))
            for name, seeds in variants.items()
        ]
        if not all(net.whole for net in nets):
            found.append(Supernet(baseline, backend, sorted(nets, key=lambda net: -net.macs)))
    return found


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Kendall's tau-b of pairs (Kendall 1945); None where there are too few, or all of one side are equal."""
    from scipy.stats import kendalltau

    if len(pairs) < ENOUGH_PAIRS:
        return None
    tau = float(kendalltau(*zip(*pairs, strict=True)).statistic)
    return tau if np.isfinite(tau) else None


def _changes(record: Record) -> list[str]:
    """Return the techniques of a record; the form in which a model is stored changes nothing."""
    return [name for step in record["steps"] for name in step if not converts(name)]


def _is_subnet(names: list[str]) -> bool:
    """Say whether these steps end in a supernet, or in a sub-net cut from it: what follows would not be inherited."""
    return TRAIN in names and names[names.index(TRAIN) + 1 :] in ([], [CUT])


def _size(record: Record) -> tuple[Any, ...]:
    work = record["work"]
    return record["family"], record["task"], record["machine"], work["macs"], work["params"]


def _facts(one: Supernet, net: Net, evidence: Evidence) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "supernet": one.name, "subnet": net.name, "backend": one.backend, "macs": net.macs, "inherited": _quality(net.inherited),
        "seeds": len(net.inherited), "stand_alone": None,
    }  # fmt: skip
    if net.alone:
        any_seed = _first(net.alone)
        pairs = [(net.alone.get(seed, any_seed), record) for seed, record in net.inherited.items()]
        points = evidence.difference(pairs)
        resampled = bool(np.isfinite(points.low))
        facts |= {
            "stand_alone": any_seed["variant"], "stand_alone_quality": _quality(net.alone),
            "points": ends(points) if resampled else {"value": points.value},
            "verdict": quality_verdict(points, _margin(net)) if resampled else "",
            "stand_alone_training_macs": _mean(_training(record) for record in net.alone.values()),
        }  # fmt: skip
    return facts


def _margin(net: Net) -> float | None:
    """Return the recipe's margin of non-inferiority in the metric's unit, of the stand-alone quality."""
    share = _first(net.inherited).get("margin")
    if share is None:
        return None
    quality = _first(net.alone)["quality"]
    whole = _quality(net.alone) if is_share(quality) else mean_error(list(net.alone.values()))
    return share * whole * units_in_one(unit_of(quality))


def _cells(facts: dict[str, Any], unit: str) -> tuple[str, ...]:
    if facts["stand_alone"] is None:
        return ("none of this size", "", "", "", "")
    points = facts["points"]
    told = (
        points_text(points["value"], points["low"], points["high"])
        if "low" in points
        else fixed(points["value"], 2, "+")
    )
    training = facts["stand_alone_training_macs"]
    return (
        facts["stand_alone"], quality_text(facts["stand_alone_quality"], unit), told, facts["verdict"],
        si(training) if training else "not known",
    )  # fmt: skip


def _rank(one: Supernet) -> str:
    n = len(one.pairs)
    if n < ENOUGH_PAIRS:
        return (
            f"{one.name}: too few sizes ({n}) have a stand-alone net for a rank correlation; it takes {ENOUGH_PAIRS}."
        )
    tau = rank_correlation([(_quality(net.inherited), _quality(net.alone)) for net in one.pairs])
    if tau is None:
        return f"{one.name}: no rank correlation, since all {n} sizes have one quality."
    return f"{one.name}: Kendall's tau of inherited and stand-alone quality is {tau:.2f} over {n} sizes."


def _naive(asked: Asked, one: Supernet) -> str:
    """Return what cutting gives without `train_supernet`, where the study has tried it."""
    tried: dict[str, list[Record]] = {}
    for record in asked.study["records"]:
        names = _changes(record)
        here = (record["baseline"], record["backend"], record["status"]) == (one.baseline, one.backend, "ok")
        if here and "quality" in record and record["role"] == "variant" and names[-1:] == [CUT] and TRAIN not in names:
            tried.setdefault(record["variant"], []).append(record)
    told = [f"{name} {_told_quality(records)}" for name, records in tried.items()]
    return f"Cut from a net that was not trained for it: {', '.join(told)}." if told else ""


def _from(one: Supernet, spent: float, dearest: np.ndarray, mean: float) -> str:
    n = len(dearest)
    k = next((index for index, total in enumerate(dearest, 1) if spent < total), None)
    alone, these = (
        ("the stand-alone net", "this one target") if n == 1 else (f"the {n} stand-alone nets", f"these {n} targets")
    )
    since = "with this one target" if n == 1 else f"from {k} of these targets on"
    within = f"not cheaper within {these}" if k is None else f"cheaper {since}, the dearest first"
    return (
        f"{one.name} took {si(spent)}MACs of training with its baseline's, {alone} {si(float(dearest[-1]))}MACs: "
        f"{within}; at {'its' if n == 1 else 'their mean'} cost, from {_targets(_more(spent, mean))} on."
    )


def _there_already(one: Supernet) -> str:
    """Return the same where the baseline is there already, so that neither side pays for it."""
    cuts = [net for net in one.pairs if not net.whole]
    if not cuts:
        return ""
    own = _mean(record["recovery"]["training_macs"] for record in one.nets[0].inherited.values())
    mean = _mean(_mean(_training(record) for record in net.alone.values()) for net in cuts)
    since = _targets(_more(own, mean), "smaller net")
    return f"Where the baseline is there already, its own {si(own)}MACs are won back from {since} on."


def _targets(n: int, what: str = "target") -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _more(spent: float, each: float) -> int:
    """Return the least number of targets whose trainings, at `each`, take more than was spent."""
    return int(spent // each) + 1


def _training(record: Record) -> float:
    return record["training"]["training_macs"] if "training" in record else 0.0


def _quality(seeds: Seeds) -> float:
    return _mean(record["quality"]["value"] for record in seeds.values())


def _told_quality(records: list[Record]) -> str:
    return quality_text(_mean(one["quality"]["value"] for one in records), unit_of(records[0]["quality"]))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _first(seeds: Seeds) -> Record:
    return next(iter(seeds.values()))
