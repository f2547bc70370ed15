"""Cards: trained dense models on a task, with promised quality, checked weights and training cost."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.artefacts.artefact import Form
from efflab.cards.card import SOURCES, Card, Weights, quality_problems
from efflab.cards.hugging_face.checkpoint import HF, KEY, Checkpoint, HuggingFace, open_checkpoint
from efflab.cards.weights import check_safetensors, download, load_weights
from efflab.contracts.task import Task
from efflab.foundation import registry
from efflab.foundation.config import Document, check, collect, read_yaml
from efflab.foundation.errors import Problem, RequestError, nearest
from efflab.foundation.files import file_digest
from efflab.foundation.wording import one_line
from efflab.records.cost import COST, CostRecord, summed
from efflab.records.quality import SHARE

if TYPE_CHECKING:
    import torch

WEIGHTS_MARK = "# below: written by `efflab train`\n"


@dataclass(frozen=True)
class Baseline:
    """A card with the place it was read from and its task."""

    card: Card
    document: Document
    task: Task

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    @property
    def form(self) -> Form:
        """Whether the baseline is a torch module or an ONNX file, which models of Hugging Face become."""
        return "onnx" if self.card.onnx or self.card.hugging_face else "module"

    def beside(self, name: str) -> Path:
        """Return a file that the card names, relative to the card."""
        return (self.document.path.parent / name).resolve()

    def seeds(self) -> list[int]:
        """Return the seeds for which there are weights; a model file given whole counts as seed 0."""
        if self.form == "onnx" or self.card.torch_export:
            return [0]
        return [weights.seed for weights in self.card.weights]

    def weights(self, seed: int) -> Weights | None:
        """Return the entry for `seed`, if there is one."""
        return next((weights for weights in self.card.weights if weights.seed == seed), None)

    def training_cost(self, seed: int) -> CostRecord:
        """Return what the training of the weights for `seed` cost, as the card tells; 0 where it does not."""
        weights = self.weights(seed)
        return summed([{key: getattr(weights, key) for key in COST}] if weights else [])

    def seed_for(self, seed: int) -> int:
        """Return the seed whose weights stand for `seed`: its own, else the card's first."""
        known = self.seeds()
        return seed if seed in known or not known else known[0]

    def content(self, seed: int) -> dict[str, Any]:
        """Return what the baseline's identity depends on: model, weights and task, not the card's prose."""
        card = self.card
        content: dict[str, Any] = {"task": card.task, "seed": seed}
        for key in ("python", "onnx", "torch_export"):
            value = getattr(card, key)
            if value is not None:
                file = value if isinstance(value, str) else value.file
                content[key] = file_digest(self.existing(file, (key,)))
        if card.onnx:
            content |= {f"data {path.name}": file_digest(path) for path in self.data_files()}
        content |= {key: value for key in ("inputs", "output") if (value := getattr(card, key)) not in (None, [])}
        content["model"] = card.model or (card.python.model_dump() if card.python else None)
        if card.hugging_face:  # the files are the identity, wherever they lie
            content["model"] = {HF: self.checkpoint().content()}
        weights = self.weights(seed)
        content["weights"] = weights.sha256 if weights else None
        return content

    def builder(self) -> dict[str, Any]:
        """Return the plain data from which `efflab.artefacts.artefact.build` builds the module."""
        card = self.card
        if card.model is not None:
            ((name, settings),) = card.model.items()
            return {"model": name, "settings": settings or {}}
        key = "python" if card.python else "torch_export"
        file = card.python.file if card.python else str(card.torch_export)
        path = self.existing(file, (key,))
        builder: dict[str, Any] = {key: str(path), "sha256": file_digest(path)}
        if card.python:
            builder |= {"function": card.python.function, "settings": card.python.settings}
        return builder

    def onnx_file(self) -> Path:
        """Return the ONNX file of a card that names one."""
        return self.existing(str(self.card.onnx), ("onnx",))

    def data_files(self) -> list[Path]:
        """Return the files beside a card's ONNX file that hold its weights; raise RequestError where one is missing."""
        from efflab.artefacts.graph_files import external_files

        place = self.document.where(("onnx",))
        try:
            files = external_files(self.onnx_file())
        except RequestError as error:
            raise error.at(place) from error
        missing = ", ".join(path.name for path in files if not path.is_file())
        if missing:
            raise RequestError(
                Problem(place, f"{self.card.onnx} keeps its weights in {missing}, which is missing beside it")
            )
        return files

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint of a card that names a model of Hugging Face, its files checked."""
        assert self.card.hugging_face is not None
        return open_checkpoint(self.card.hugging_face, self.document)

    def source(self) -> str:
        """Return the place in the card that says where its model comes from."""
        return self.document.where(tuple(key for key in SOURCES if getattr(self.card, key) is not None))

    def fresh(self) -> torch.nn.Module:
        """Build the torch module with fresh weights; raise RequestError, placed in the card, if that fails."""
        from efflab.artefacts.artefact import build

        place = self.source()
        if self.form == "onnx":
            raise RequestError(Problem(place, "gives an ONNX graph, but a torch model is wanted"))
        builder = self.builder()
        try:
            return build(builder)
        except RequestError as error:
            raise RequestError([Problem(place, " ".join(one.what.split())) for one in error.problems]) from error
        except MemoryError:
            raise
        except Exception as error:
            raise RequestError(Problem(place, f"cannot be built: {one_line(error)}")) from error

    def module(self, seed: int) -> torch.nn.Module:
        """Build the torch module with the weights of `seed`; raise RequestError for missing or wrong weights."""
        module = self.fresh()
        if self.card.torch_export:
            return module.eval()
        weights = self.weights(seed)
        if weights is None:
            known = ", ".join(map(str, self.seeds())) or "none"
            what = f"has no weights for seed {seed} (has: {known}); `efflab train {self.name} --seed {seed}` makes them"
            raise RequestError(Problem(self.document.where(("weights",)), what))
        path, place = self.weights_file(weights)
        load_weights(module, path, place)
        return module.eval()

    def weights_file(self, weights: Weights) -> tuple[Path, str]:
        """Return the file of one of the card's weights and their place in the card, after checking the sha256.

        Weights at a URL are fetched first. Raises RequestError for weights that are missing, damaged or others.
        """
        index = self.card.weights.index(weights)
        if weights.file is None:
            place = self.document.where(("weights", index, "url"))
            path = download(str(weights.url), weights.sha256, place)
        else:
            place = self.document.where(("weights", index, "file"))
            path = self.existing(weights.file, ("weights", index, "file"))
        check_safetensors(path, place)
        digest = file_digest(path)
        if digest != weights.sha256:
            what = (
                f"{path.name} has sha256 {digest[:12]}..., the card says {weights.sha256[:12]}...: bring the file that"
            )
            what += " the card was written for, or correct the card"
            raise RequestError(Problem(self.document.where(("weights", index, "sha256")), what))
        return path, place

    def existing(self, name: str, key: tuple[str | int, ...]) -> Path:
        """Return a file that the card names under `key`; raise RequestError, placed there, if it is missing."""
        path = self.beside(name)
        if not path.is_file():
            raise RequestError(Problem(self.document.where(key), f"the file {path} is missing"))
        return path


def card_folders(near: Path | None = None) -> list[Path]:
    """Return where cards are looked up: beside the recipe's folder, the working directory, and efflab's own checkout."""
    folders = [Path("baselines"), Path(__file__).parents[2] / "baselines"]
    if near is not None:
        # resolved, since the parent of a bare file name's folder is that folder again
        around = near.resolve().parent
        folders = [_short(around), _short(around.parent / "baselines"), *folders]
    unique: dict[Path, Path] = {folder.resolve(): folder for folder in reversed(folders) if folder.is_dir()}
    return list(reversed(unique.values()))


def _short(path: Path) -> Path:
    """Return a path as messages show it: from the working directory, where that is shorter."""
    return Path(min(str(path), os.path.relpath(path), key=len))


def card_files(near: Path | None = None) -> dict[str, Path]:
    """Return all cards that can be named, name -> file; a file's name is the card's name."""
    found: dict[str, Path] = {}
    for folder in card_folders(near):
        # a recipe's own folder is searched too, but recipes in it are not cards
        for path in sorted(folder.glob("*.yaml")):
            if folder.resolve().name == "baselines" or (near is not None and path.resolve() != near.resolve()):
                found.setdefault(path.stem, path)
    return found


def find_card(name: str, near: Path | None = None) -> Path:
    """Return the file of the card `name` (a name, or a path to a YAML file); raise RequestError naming the nearest."""
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        for base in [near.parent if near else Path(), Path()]:
            if (base / name).is_file():
                return base / name
        raise RequestError(f"there is no card at {name}")
    files = card_files(near)
    if name not in files:
        if Path(name).is_file():
            raise RequestError(f"{name} is no card; a card is a YAML file, named with or without its .yaml")
        known = (key for key, path in files.items() if path.resolve().parent.name == "baselines")
        raise RequestError(f"unknown baseline {name!r}; {nearest(name, known)}")
    return files[name]


def load_baseline(path: Path) -> Baseline:
    """Read and check a card; raise RequestError with all its problems."""
    document = read_yaml(path)
    card = check(Card, document)
    problems = []
    if card.name != path.stem:
        problems.append(Problem(document.where(("name",)), f"must be the file's name, {path.stem!r}"))
    task = None
    try:
        task = make(registry.load("tasks", next(iter(card.task))), document, ("task", next(iter(card.task))))
    except RequestError as error:
        problems += error.at(document.where(("task",))).problems
    problems += _model_problems(card, document)
    problems += quality_problems(card, task.metrics[0].name, document) if task and task.metrics[0].unit == SHARE else []
    if problems or task is None:
        raise RequestError(problems)
    return Baseline(card, document, task)


def _model_problems(card: Card, document: Document) -> list[Problem]:
    """Return what is wrong with the name under `model`, or with the settings of a model of Hugging Face."""
    if card.model is None:
        return []
    ((name, settings),) = card.model.items()
    found: list[Problem] = []
    if name == HF:
        collect(found, document, lambda: check(HuggingFace, document, KEY, settings or {}))
    elif name not in registry.names("models"):
        known = sorted({HF, *registry.names("models")})
        found.append(
            Problem(
                document.where(("model", name)),
                f"unknown model {name!r}; {nearest(name, known)}; {registry.own_plugins('models', name)}",
            )
        )
    return found


def make(schema: type[Any], document: Document, key: tuple[str | int, ...]) -> Any:
    """Build a plug-in's settings from what stands under `key` of a document; raise RequestError with all problems."""
    data: Any = document.data
    for part in key:
        data = data[part]
    return check(schema, document, key, data or {})


def family_members(family: str, near: Path | None = None) -> list[Baseline]:
    """Return the trained baselines of a family, by name; raise RequestError if there is none."""
    members, families = [], set()
    for path in card_files(near).values():
        if path.resolve().parent.name != "baselines":
            continue
        baseline = load_baseline(path)
        families.add(baseline.card.family or "")
        if baseline.card.family == family and baseline.seeds():  # a card that was not trained yet is no member yet
            members.append(baseline)
    if family not in families:
        raise RequestError(f"unknown family {family!r}; {nearest(family, families - {''})}")
    if not members:
        raise RequestError(f"no card of the family {family!r} has weights yet; make some with `efflab train CARD`")
    return sorted(members, key=lambda member: member.name)
