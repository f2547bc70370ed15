"""The contract of techniques: one function a check, whose first line is the promise; `Broken` says how it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from efflab.artefacts.artefact import Artefact
from efflab.foundation import registry
from efflab.foundation.errors import RequestError, Unavailable
from efflab.foundation.metrics import METRICS
from efflab.foundation.wording import one_line
from efflab.model_surgery.graphs.onnx_graph import open_graph
from efflab.validation.techniques.declaration import (
    control_changes_one_setting,
    has_a_tiny_setting,
    refuses_bad_values,
    refuses_unknown_keys,
    says_what_it_is,
)
from efflab.validation.techniques.workplace import ROWS, TASK, Broken, Untried, Workplace, contents, run

CLOSE = {4: 2e-2, 2: 1e-1}  # largest gap to the graph's outputs, as a share of the largest output, by bytes of a weight

Check = Callable[[str, Workplace], None]
Verdict = Literal["pass", "broken", "refused", "unavailable", "skipped"]


class Finding(NamedTuple):
    """The verdict of one check; `detail` is a sentence for all but a pass."""

    check: str
    verdict: Verdict
    detail: str = ""


def works_on_resnet(name: str, workplace: Workplace) -> None:
    """It works on a residual net of convolutions, or refuses it in words that begin with its name."""
    _works(name, workplace, "resnet")


def works_on_depthwise(name: str, workplace: Workplace) -> None:
    """It works on a net of depthwise convolutions, or refuses it in words that begin with its name."""
    _works(name, workplace, "depthwise")


def works_on_transformer(name: str, workplace: Workplace) -> None:
    """It works on a vision transformer, or refuses it in words that begin with its name."""
    _works(name, workplace, "transformer")


def _works(name: str, workplace: Workplace, family: str) -> None:
    artefact = workplace.made(name, family).artefact
    if not all(np.isfinite(leaf).all() for leaf in run(artefact, workplace.inputs())):
        raise Broken(f"what it makes of the {family} gives numbers that are not finite")


def changes_the_model(name: str, workplace: Workplace) -> None:
    """It changes every model that it does not refuse: a step that changes nothing is an error."""
    for family, made in _each(name, workplace):
        if contents(made.artefact.folder) == contents(made.start.folder):
            raise Broken(f"it changes nothing in the {family}; raise RequestError where there is nothing to do")


def moves_its_claims(name: str, workplace: Workplace) -> None:
    """Every metric that it claims moves in the better direction, in the ledger of work or in bytes on disk."""
    claims = workplace.technique(name).claims
    made = workplace.made(name, workplace.home(name))
    if not claims:
        return
    old, new = _ledger(made.start), _ledger(made.artefact)
    for claim in claims:
        if claim not in new or claim not in old:
            raise Broken(
                f"it claims {claim}, which the ledger of work does not hold; it holds {', '.join(sorted(new))}"
            )
        if not (new[claim] - old[claim]) * METRICS[claim].better > 0:
            raise Broken(f"it claims {claim}, which goes from {old[claim]:,} to {new[claim]:,}")


def keeps_the_interface(name: str, workplace: Workplace) -> None:
    """The changed model takes the same inputs, at any batch size, and gives outputs of the same shape."""
    for family, made in _each(name, workplace):
        wanted = [leaf.shape[1:] for leaf in run(made.start, workplace.inputs())]
        for rows in (1, 4, ROWS):
            try:
                found = [leaf.shape for leaf in run(made.artefact, workplace.inputs(rows))]
            except Exception as error:
                raise Broken(f"what it makes of the {family} fails on a batch of {rows}: {one_line(error)}") from error
            if found != [(rows, *shape) for shape in wanted]:
                raise Broken(f"what it makes of the {family} gives shapes {found}, not {[(rows, *s) for s in wanted]}")
        if made.artefact.form == made.start.form == "onnx" and _edges(made.artefact) != _edges(made.start):
            raise Broken(f"inputs of the {family} were {_edges(made.start)}, and are {_edges(made.artefact)}")


def survives_the_disk(name: str, workplace: Workplace) -> None:
    """Stored and loaded again, a module gives the same outputs, bit for bit."""
    for family, made in _each(name, workplace):
        if made.outputs is None:
            continue
        for loaded, before in zip(run(made.artefact, workplace.inputs()), made.outputs, strict=True):
            if not np.array_equal(loaded, before, equal_nan=True):
                raise Broken(
                    f"the {family}, stored and loaded, differs by up to {np.abs(loaded - before).max():.3g}: `rebuild` does "
                    "not make the module that `apply` made"
                )


def survives_export(name: str, workplace: Workplace) -> None:
    """Its module, stored, loaded and exported, runs in ONNX Runtime with close outputs, unless no_onnx() says why not."""
    technique, family = workplace.technique(name), workplace.home(name)
    made = workplace.made(name, family)
    if made.outputs is None:
        return
    if technique.no_onnx():
        raise Untried(f"it has no ONNX form: {technique.no_onnx()}")
    try:
        graph = workplace.exported(name, family)
    except (RequestError, Unavailable, RuntimeError) as error:
        raise Broken(f"its module has no ONNX form, and no_onnx() does not say why: {error}") from error
    parameters = [one for one in made.artefact.module().parameters() if one.is_floating_point()]
    close = CLOSE.get(parameters[0].element_size() if parameters else 4, 2e-2)
    for found, wanted in zip(*(run(one, workplace.inputs()) for one in (graph, made.artefact)), strict=True):
        gap = np.abs(found - wanted).max() / max(1e-6, np.abs(wanted).max())
        if not gap <= close:
            raise Broken(f"exported, its outputs differ by {gap:.2g} of the largest one")


def repeats_itself(name: str, workplace: Workplace) -> None:
    """The same seed gives the same bytes."""
    family = workplace.home(name)
    first, again = (workplace.made(name, family, turn=turn).artefact for turn in (0, 1))
    if contents(first.folder) != contents(again.folder):
        raise Broken("applied twice with one seed, it gives two models; draw from a generator seeded by context.seed")


def draws_as_it_says(name: str, workplace: Workplace) -> None:
    """Another seed gives another model if draws() says so, and the same one if not."""
    try:
        repeats_itself(name, workplace)
    except Broken as error:
        raise Untried("it does not repeat itself, so a seed means nothing") from error
    family, draws = workplace.home(name), workplace.technique(name).draws()
    first, other = (workplace.made(name, family, seed=seed).artefact for seed in (0, 1))
    if (contents(first.folder) != contents(other.folder)) != draws:
        what = "draws random numbers, but another seed gives the same model" if draws else (
            "draws no random numbers, but another seed gives another model; say `random: ClassVar[bool] = True`"
        )  # fmt: skip
        raise Broken(f"it says that it {what}")


def leaves_the_rest_alone(name: str, workplace: Workplace) -> None:
    """The task's arrays and the file that it is given stay as they are."""
    for _, made in _each(name, workplace):
        if made.harm:
            raise Broken(f"it changes {made.harm[0]}; change a copy")


def refuses_what_may_not_stand_before(name: str, workplace: Workplace) -> None:
    """A graph from outside that had what `before` forbids, such as a quantised one, is refused in words."""
    technique = workplace.technique(name)
    if technique.takes != "onnx":
        return
    family = workplace.home(name)
    for other in technique.before:
        schema = registry.load("techniques", other)
        if (schema.takes, schema.gives) == ("onnx", "onnx"):
            try:
                start = workplace.made(other, family).artefact
            except (RequestError, Unavailable):
                continue
            try:
                workplace.apply(name, start, workplace.root / name / f"on-{other}", family)
            except RequestError:
                continue
            raise Broken(
                f"it takes a graph that {other} made, though `before` says that {other} may not stand before it"
            )


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        has_a_tiny_setting, says_what_it_is, refuses_unknown_keys, refuses_bad_values, control_changes_one_setting,
        works_on_resnet, works_on_depthwise, works_on_transformer, changes_the_model, moves_its_claims, keeps_the_interface,
        survives_the_disk, survives_export, repeats_itself, draws_as_it_says, leaves_the_rest_alone,
        refuses_what_may_not_stand_before,
    )
}  # fmt: skip


def promise(check: str) -> str:
    """Return what a check holds a technique to, in one sentence."""
    return (CHECKS[check].__doc__ or "").strip()


def judge(check: str, name: str, workplace: Workplace) -> Finding:
    """Return the verdict of one check on a technique."""
    try:
        CHECKS[check](name, workplace)
    except Broken as error:
        return Finding(check, "broken", str(error))
    except Untried as error:
        return Finding(check, "skipped", str(error))
    except Unavailable as error:
        return Finding(check, "unavailable", str(error))
    except RequestError as error:
        named = str(error).startswith(name)
        return Finding(
            check, "refused" if named else "broken", str(error) if named else f"refuses without its name: {error}"
        )
    except (Exception, SystemExit) as error:
        return Finding(check, "broken", f"raises {one_line(error)}")
    return Finding(check, "pass")


def _each(name: str, workplace: Workplace) -> Iterator[tuple[str, Any]]:
    for family in workplace.families(name):
        yield family, workplace.made(name, family)


def _ledger(artefact: Artefact) -> dict[str, Any]:
    from efflab.profiling.work_of_artefact import artefact_result

    task = registry.load("tasks", TASK)
    work: dict[str, Any] = artefact_result(artefact.folder, task(**task.tiny))["work"]
    return work


def _edges(artefact: Artefact) -> list[tuple[str, Any, Any]]:
    """Return name, type and shape of each input of a graph, whatever its batch axis is called."""
    return [(one.name, one.type, [*one.shape[1:]]) for one in open_graph(artefact.onnx).get_inputs()]
