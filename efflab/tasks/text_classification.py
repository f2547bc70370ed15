"""Classify texts from files of one's own: a column of texts and one of labels, tokenised as the model's tokenizer says."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from efflab.contracts.hash_split import Shares, split_of
from efflab.contracts.padding import Padding, fixed_length, most_tokens, padded, padded_length
from efflab.contracts.task import Batch, Split, SplitName
from efflab.contracts.text_files import LabelledText, TextColumns, read_texts
from efflab.contracts.text_task import TextTask
from efflab.contracts.tokenizer import IDS, MASK, TYPES, Tokenizer, open_tokenizer
from efflab.foundation.datasets import data_folder
from efflab.foundation.errors import Problem, RequestError
from efflab.foundation.files import expanded, is_file, is_folder
from efflab.foundation.packages import PACKAGE, package_folder

if TYPE_CHECKING:
    import numpy as np
    import torch

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
USUAL_TOKENS = 128  # of a text, where neither card nor model says less
MUCH_UNKNOWN = 0.1  # share of the tokens, above which a note says so
File = Annotated[str, Field(min_length=1)]


class TextClassification(TextTask):
    """Classify texts of CSV, TSV or JSON Lines files. Inputs: token numbers and masks (N, length) int64; metric accuracy.

    Paths are relative to the card, or to the folder of data sets (EFFLAB_DATA). Classes are the labels in their order.
    """

    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("tokenizers",)
    tiny: ClassVar[dict[str, Any]] = {}

    train: Annotated[File | None, Field(description="File with the examples that models are trained on.")] = None
    validation: Annotated[File | None, Field(description="File with the examples by which choices are made.")] = None
    test: Annotated[File | None, Field(description="File with the examples that models are scored on.")] = None
    data: Annotated[
        File | None,
        Field(
            description="One file with all examples, in place of the three; each goes to a split by a hash of its text."
        ),
    ] = None
    shares: Annotated[Shares, Field(description="Shares of the splits where `data` names one file.")] = Shares()
    columns: Annotated[TextColumns, Field(description="Columns that hold the texts and the labels.")] = TextColumns()
    labels: Annotated[
        Annotated[list[str], Field(min_length=2)] | None,
        Field(description="Labels in the order of the model's classes; without it, the sorted labels of the data."),
    ] = None
    tokenizer: Annotated[
        File | None,
        Field(
            description="Folder of the model's tokenizer (tokenizer.json); a card with `model: {hf: ...}` uses its own."
        ),
    ] = None
    inputs: Annotated[
        Annotated[list[Literal["input_ids", "attention_mask", "token_type_ids"]], Field(min_length=1)] | None,
        Field(description="Inputs that the model takes; without it, those that the tokenizer's files name."),
    ] = None
    max_tokens: Annotated[
        Annotated[int, Field(ge=4, le=100_000)] | None,
        Field(
            description="Most tokens of a text, special ones included; longer texts are cut. Without it, 128, or as many "
            "as the model takes."
        ),
    ] = None
    padding: Padding = "longest"
    duplicates: Annotated[
        Literal["refuse", "drop"],
        Field(
            description="What to do with texts that are in two splits: stop with an error (`refuse`), or take them "
            "out of training and validation (`drop`).",
        ),
    ] = "refuse"

    _folder: Path = PrivateAttr(Path())

    @model_validator(mode="after")
    def _files(self) -> Self:
        if self.data is not None and (self.train or self.validation or self.test):
            raise ValueError("give either `data`, one file for all splits, or `train`, `validation` and `test`")
        if self.data is None and not (self.validation and self.test):
            raise ValueError(
                "give the files `train`, `validation` and `test` (`train` may be left out), or one as `data`"
            )
        return self

    def beside(self, folder: Path) -> Self:
        """Return this task with its paths relative to `folder`."""
        other = self.model_copy()
        other._folder = folder
        return other

    def free_axes(self) -> dict[int, str]:
        """Return the axis of tokens, where batches differ in length."""
        return {} if fixed_length(self.padding) is not None else {1: "length"}

    def splits(self) -> tuple[SplitName, ...]:
        """Return the splits for which there are files."""
        has_train = self.train is not None or (self.data is not None and self.shares.train > 0)
        return SPLITS if has_train else SPLITS[1:]

    def digest(self) -> str:
        """Return a digest of texts, labels, tokenizer and settings; raise RequestError for what is wrong in the files."""
        hashed = hashlib.sha256()
        settings = self.model_dump(exclude={*SPLITS, "data", "tokenizer"})
        hashed.update(json.dumps([self.version, settings, self.class_names], sort_keys=True).encode())
        hashed.update(self.own_tokenizer.digest().encode())
        for name in self.splits():
            for one in self._examples[name]:
                hashed.update(json.dumps([name, one.text, one.label]).encode())
        return hashed.hexdigest()

    def notes(self) -> list[str]:
        """Return what a reader should know of the data, a sentence each."""
        counts = ", ".join(f"{len(self._examples[name]):,} {name}" for name in self.splits())
        most = most_tokens(self.padding, self.longest)
        found = [f"{counts} texts in {len(self.class_names)} classes ({', '.join(self.class_names[:8])}"
                 f"{', ...' if len(self.class_names) > 8 else ''}), cut to at most {most} tokens"]  # fmt: skip
        if self._dropped:
            found.append(f"{self._dropped:,} texts that are in two splits were taken out of training or validation")
        unknown = self.own_tokenizer.unknown_share([one.text for one in self._examples["validation"][:200]])
        if unknown > MUCH_UNKNOWN:
            what = f"the tokenizer does not know {unknown:.0%} of the tokens of the validation texts"
            found.append(f"{what}: does it belong to this model and language?")
        return found

    @cached_property
    def own_tokenizer(self) -> Tokenizer:
        """The tokenizer of the model; raise RequestError where there is none."""
        if self.tokenizer is None:
            what = "name the folder of the model's tokenizer, as `tokenizer` under `text_classification`"
            raise RequestError(f"{what}; only cards with `model: {{hf: ...}}` know it")
        return open_tokenizer(self._found(self.tokenizer, "folder"))

    @property
    def longest(self) -> int:
        """The most tokens of a text; longer ones are cut."""
        return self.max_tokens or min(USUAL_TOKENS, self.own_tokenizer.most_tokens or USUAL_TOKENS)

    @property
    def order_is_stated(self) -> bool:
        """Whether `labels` says in what order the labels are the model's classes."""
        return self.labels is not None

    @cached_property
    def class_names(self) -> list[str]:
        """The labels in the order of the classes: as the card says, else the sorted ones of training and validation."""
        seen = Counter(one.label for name in self.splits() for one in self._examples[name] if name != "test")
        return self.labels or sorted(seen)

    def class_count(self) -> int:
        """Return how many classes there are."""
        return len(self.class_names)

    @property
    def _dropped(self) -> int:
        return sum(len(self._read[name]) - len(self._examples[name]) for name in self.splits())

    @cached_property
    def _read(self) -> dict[str, list[LabelledText]]:
        """The examples as the files give them, by split."""
        if self.data is None:
            return {name: read_texts(self._file(name), self.columns) for name in self.splits()}
        found: dict[str, list[LabelledText]] = {name: [] for name in self.splits()}
        for one in read_texts(self._file("data"), self.columns):
            found[split_of(one.text, self.shares)].append(one)
        empty = [name for name, several in found.items() if not several]
        if empty:
            what = f"the file has too few examples: none falls to {', '.join(empty)} under these `shares`"
            raise RequestError(Problem(str(self._file("data")), what))
        return found

    @cached_property
    def _examples(self) -> dict[str, list[LabelledText]]:
        """The examples that are used, by split, after all checks across splits."""
        read, problems = self._read, list[Problem]()
        known = set(self.labels or (one.label for name in read if name != "test" for one in read[name]))
        for name in read:
            where = self._file(name if self.data is None else "data")
            odd = next((one for one in read[name] if one.label not in known), None)
            if odd:
                known_ones = ", ".join(sorted(known)[:10])
                why = "is not among `labels`" if self.labels else "occurs in the test split only"
                problems.append(Problem(f"{where}:{odd.line}", f"the label {odd.label!r} {why} ({known_ones})"))
        if not problems and len(known) < 2:
            problems.append(
                Problem(str(self._file("validation" if self.data is None else "data")), "all labels are equal")
            )
        if problems:
            raise RequestError(problems)
        return self._without_duplicates(read)

    def _without_duplicates(self, read: dict[str, list[LabelledText]]) -> dict[str, list[LabelledText]]:
        kept = dict(read)
        for name, others in (("train", ("validation", "test")), ("validation", ("test",))):
            elsewhere = {one.text: other for other in others for one in read[other]} if name in read else {}
            twice = [one for one in read.get(name, ()) if one.text in elsewhere]
            if twice and self.duplicates == "refuse":
                one, more = twice[0], f" and {len(twice) - 1} more" if len(twice) > 1 else ""
                what = f"this text{more} is in the {elsewhere[one.text]} split too, so scores would be too good"
                where = f"{self._file(name if self.data is None else 'data')}:{one.line}"
                raise RequestError(Problem(where, f"{what}; take it out, or write `duplicates: drop`"))
            if twice:
                kept[name] = [one for one in read[name] if one.text not in elsewhere]
        return kept

    @cached_property
    def _splits(self) -> dict[str, Split]:
        return {}

    def split(self, name: SplitName) -> Split:
        """Return a split, tokenised when it is first asked for."""
        import numpy as np

        if name not in self._splits:
            examples, place = self._examples[name], {label: at for at, label in enumerate(self.class_names)}
            rows = self.own_tokenizer.encode([one.text for one in examples], most_tokens(self.padding, self.longest))
            targets = np.array([place[one.label] for one in examples], np.int64)
            names = tuple(self.inputs or self.own_tokenizer.input_names)
            self._splits[name] = TokenSplit(rows, targets, names, self.own_tokenizer.pad, self.padding)
        return self._splits[name]

    def loss(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs.float(), targets)

    def _file(self, name: str) -> Path:
        return self._found(str(getattr(self, name)), "file")

    def _found(self, named: str, kind: Literal["file", "folder"]) -> Path:
        """Return a file or folder that the settings name; raise RequestError where it is missing."""
        if named.startswith(PACKAGE):
            return package_folder(named)
        places = [base / expanded(named, "EFFLAB_DATA") for base in (self._folder, data_folder())]
        for path in places:
            if is_file(path) if kind == "file" else is_folder(path):
                return path
        raise RequestError(f"the {kind} {named} is missing; looked for {' and '.join(map(str, places))}")


class TokenSplit(Split):
    """Tokenised texts, padded batch by batch."""

    def __init__(self, rows: list[np.ndarray], targets: np.ndarray, names: Sequence[str], pad: int, padding: Any):
        self.rows, self.targets, self.names, self.pad, self.padding = rows, targets, names, pad, padding

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.rows)

    def lengths(self) -> Sequence[int] | None:
        """Return the tokens of each text, or None where all are padded to one length."""
        return None if fixed_length(self.padding) is not None else [len(row) for row in self.rows]

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return these texts, filled up to one length."""
        import numpy as np

        rows = [self.rows[index] for index in indices]
        length = padded_length(self.padding, [len(row) for row in rows])
        ones = [np.ones(len(row), np.int64) for row in rows]
        made = {
            IDS: padded(rows, length, self.pad),
            MASK: padded(ones, length, 0),
            TYPES: np.zeros((len(rows), length), np.int64),
        }
        return Batch({name: made[name] for name in self.names}, self.targets[list(indices)])

    def whole(self) -> Batch | None:
        """Return all texts where they are padded to one length anyway."""
        return self.batch(range(len(self))) if fixed_length(self.padding) is not None else None
