"""Cards: trained dense models on a task, with promised quality, checked weights and training cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.artefacts.artefact import Form
from efflab.cards.card import SOURCES, Card, Weights, quality_problems
from efflab.cards.hugging_face.checkpoint import HF, KEY, Checkpoint, HuggingFace, open_checkpoint
from efflab.cards.named_models import with_model_named
from efflab.cards.weights import check_safetensors, download, load_weights
from efflab.contracts.task import Task
from efflab.contracts.text_task import TextTask
from efflab.foundation import registry
from efflab.foundation.config import Document, check, collect, read_yaml
from efflab.foundation.errors import Problem, RequestError, nearest
from efflab.foundation.files import file_digest, is_file, real
from efflab.foundation.wording import one_line
from efflab.records.cost import COST, CostRecord, summed
from efflab.records.quality import SHARE

if TYPE_CHECKING:
    import torch


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
        """Whether the baseline is a torch module or an ONNX file, which image classifiers of Hugging Face become."""
        return "onnx" if self.card.onnx or (self.card.hugging_face and not self.encoder) else "module"

    @property
    def encoder(self) -> bool:
        """Whether the model is a text encoder of Hugging Face, which is loaded as a torch module."""
        return self.card.hugging_face is not None and isinstance(self.task, TextTask)

    @property
    def trained_here(self) -> bool:
        """Whether the card's own weights are what `efflab train` made, or will make."""
        return self.card.training is not None or bool(self.card.weights)

    def task_settings(self) -> dict[str, Any]:
        """Return the settings of the task from which it can be made again beside the card: those that were given."""
        return self.task.model_dump(exclude_unset=True)

    def task_folder(self) -> str:
        """Return the card's folder where paths in the task's settings are relative to it, else ""."""
        folder = real(self.document.path).parent
        return str(folder) if self.task.beside(folder) is not self.task else ""

    def task_key(self) -> str:
        """Return what tells tasks apart: their name, all their settings, and where their files lie."""
        (name,) = self.card.task
        return f"{name} {self.task.model_dump()!r} {self.task_folder()}"

    def beside(self, name: str) -> Path:
        """Return a file that the card names, relative to the card."""
        return real(self.document.path.parent / name)

    def seeds(self) -> list[int]:
        """Return the seeds for which there are weights; a model file given whole counts as seed 0."""
        if self.form == "onnx" or self.card.torch_export or (self.encoder and not self.trained_here):
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
            content["model"] |= card.hugging_face.model_dump(include={"layers", "adapters"}, exclude_none=True)
        weights = self.weights(seed)
        content["weights"] = weights.sha256 if weights else None
        return content

    def builder(self) -> dict[str, Any]:
        """Return the plain data from which `efflab.artefacts.artefact.build` builds the module."""
        card = self.card
        if self.encoder:
            from efflab.cards.hugging_face.text_classifier import configuration_of

            return {"hugging_face": configuration_of(*self.encoder_parts())}
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
        missing = ", ".join(path.name for path in files if not is_file(path))
        if missing:
            raise RequestError(
                Problem(place, f"{self.card.onnx} keeps its weights in {missing}, which is missing beside it")
            )
        return files

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint of a card that names a model of Hugging Face, its files checked."""
        assert self.card.hugging_face is not None
        return open_checkpoint(self.card.hugging_face, self.document)

    def encoder_parts(self) -> tuple[Checkpoint, HuggingFace, TextTask]:
        """Return what a text encoder is made of: its checkpoint, what the card says of it, and the task."""
        assert self.card.hugging_face is not None
        assert isinstance(self.task, TextTask)
        return self.checkpoint(), self.card.hugging_face, self.task

    def source(self) -> str:
        """Return the place in the card that says where its model comes from."""
        return self.document.where(tuple(key for key in SOURCES if getattr(self.card, key) is not None))

    def fresh(self) -> torch.nn.Module:
        """Build the torch module with fresh weights; raise RequestError, placed in the card, if that fails."""
        from efflab.artefacts.artefact import build
        from efflab.cards.hugging_face.text_classifier import fresh_text_classifier

        place = self.source()
        if self.form == "onnx":
            raise RequestError(Problem(place, "gives an ONNX graph, but a torch model is wanted"))
        builder = None if self.encoder else self.builder()
        try:
            return build(builder) if builder else fresh_text_classifier(*self.encoder_parts(), self.trained_here)
        except RequestError as error:
            raise RequestError([Problem(place, " ".join(one.what.split())) for one in error.problems]) from error
        except MemoryError:
            raise
        except Exception as error:
            raise RequestError(Problem(place, f"cannot be built: {one_line(error)}")) from error

    def of_checkpoint(self, module: torch.nn.Module) -> set[str]:
        """Return the weights of `fresh()` that stay the checkpoint's: those that adapters leave frozen."""
        if self.card.hugging_face is None or not self.card.hugging_face.adapters:
            return set()
        return {name for name, one in module.named_parameters() if not one.requires_grad}

    def module(self, seed: int) -> torch.nn.Module:
        """Build the torch module with the weights of `seed`; raise RequestError for missing or wrong weights."""
        module = self.fresh()
        if self.card.torch_export or (self.encoder and not self.trained_here):
            return module.eval()
        weights = self.weights(seed)
        if weights is None:
            known = ", ".join(map(str, self.seeds())) or "none"
            what = f"has no weights for seed {seed} (has: {known}); `efflab train {self.name} --seed {seed}` makes them"
            raise RequestError(Problem(self.document.where(("weights",)), what))
        path, place = self.weights_file(weights)
        load_weights(module, path, place, self.of_checkpoint(module))
        if self.encoder:
            from efflab.cards.hugging_face.adapters import merge_adapters

            merge_adapters(module)
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
        if not is_file(path):
            raise RequestError(Problem(self.document.where(key), f"the file {path} is missing"))
        return path


def load_baseline(path: Path) -> Baseline:
    """Read and check a card; raise RequestError with all its problems."""
    document = read_yaml(path)
    card = check(Card, document)
    problems = []
    if card.name != path.stem:
        problems.append(Problem(document.where(("name",)), f"must be the file's name, {path.stem!r}"))
    task = None
    try:
        task = _make_task(card, document)
    except RequestError as error:
        problems += error.at(document.where(("task",))).problems
    problems += _model_problems(card, document, task)
    if task is not None and task.metrics[0].unit == SHARE:
        problems += quality_problems(card, task.metrics[0].name, document)
    if problems or task is None:
        raise RequestError(problems)
    return with_model_named(Baseline(card, document, task))


def _make_task(card: Card, document: Document) -> Task:
    """Return a card's task; one that needs a tokenizer has that of the card's model of Hugging Face, if it names none."""
    ((name, told),) = card.task.items()
    schema, settings = registry.load("tasks", name), dict(told or {})
    model = (card.model or {}).get(HF) or {}
    if "id" in model and "tokenizer" in schema.model_fields:
        settings.setdefault("tokenizer", model["id"])
    task: Task = check(schema, document, ("task", name), settings)
    return task.beside(real(document.path).parent)


def _model_problems(card: Card, document: Document, task: Task | None) -> list[Problem]:
    """Return what is wrong with the name under `model`, or with the settings of a model of Hugging Face."""
    if card.model is None:
        return []
    ((name, settings),) = card.model.items()
    found: list[Problem] = []
    if name == HF:
        collect(found, document, lambda: check(HuggingFace, document, KEY, settings or {}))
        if not found and task is not None and not isinstance(task, TextTask):
            found += _image_model_problems(card, document)
    elif name not in registry.names("models"):
        known = sorted({HF, *registry.names("models")})
        found.append(
            Problem(
                document.where(("model", name)),
                f"unknown model {name!r}; {nearest(name, known)}; {registry.own_plugins('models', name)}",
            )
        )
    return found


def _image_model_problems(card: Card, document: Document) -> list[Problem]:
    """Return what only text encoders can have: an image classifier of Hugging Face is taken as it is."""
    found = []
    if card.training or card.weights:
        what = "a model of Hugging Face comes trained, with its weights; take `training` and `weights` away"
        found.append(Problem(document.where(KEY), what))
    for key in ("layers", "adapters"):
        if getattr(card.hugging_face, key, None) is not None:
            found.append(Problem(document.where((*KEY, key)), "is for encoders of texts only; take it away"))
    return found
