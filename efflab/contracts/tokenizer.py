"""A model's own tokenizer: texts become token numbers by the files that lie beside the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efflab.foundation.errors import Problem, RequestError, Unavailable
from efflab.foundation.files import file_digest
from efflab.foundation.outside import read_json
from efflab.foundation.wording import one_line

if TYPE_CHECKING:
    import numpy as np

FAST, SETTINGS, CONFIG = "tokenizer.json", "tokenizer_config.json", "config.json"
SLOW = ("vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
SHIFTED = {"camembert", "roberta", "xlm-roberta", "mpnet", "longformer"}  # positions begin after the padding's number
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"  # Hugging Face's names of a text model's inputs


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer of one folder."""

    folder: Path

    def _told(self, name: str) -> dict[str, Any]:
        """Return what a file of the folder says; {} where it is not there."""
        return read_json(self.folder / name) or {}

    def here(self) -> bool:
        """Say whether the folder holds a tokenizer."""
        return any((self.folder / name).is_file() for name in (FAST, *SLOW))

    def digest(self) -> str:
        """Return a digest of the files that say how texts are tokenised."""
        names = (FAST, SETTINGS, "special_tokens_map.json", *SLOW)
        return "".join(file_digest(path) for path in (self.folder / name for name in names) if path.is_file())

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs that models with this tokenizer take, in their order."""
        told = self._told(SETTINGS).get("model_input_names")
        if isinstance(told, list):
            return tuple(name for name in (IDS, MASK, TYPES) if name in told)
        # tables of token types with one row have nothing to tell
        types = self._told(CONFIG).get("type_vocab_size", 1)
        return (IDS, MASK, TYPES) if isinstance(types, int) and types > 1 else (IDS, MASK)

    @cached_property
    def _own(self) -> Any:
        try:
            from tokenizers import Tokenizer as Fast
        except ImportError as error:
            raise Unavailable('tokenizers is not installed: pip install "efflab[hf]"') from error
        try:
            own: Any = Fast.from_file(str(self.folder / FAST)) if (self.folder / FAST).is_file() else self._converted()
        except Unavailable:
            raise
        except Exception as error:  # a Rust library's errors have no common base
            what = f"the tokenizer cannot be read: {one_line(error)}"
            raise RequestError(Problem(str(self.folder), what)) from error
        own.no_padding()
        return own

    def _converted(self) -> Any:
        """Return the tokenizer of an older folder, converted by transformers."""
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            what = f'{self.folder} has no {FAST}, and transformers converts older files: pip install "efflab[hf]"'
            raise Unavailable(what) from error
        load: Any = AutoTokenizer.from_pretrained
        own = load(str(self.folder), local_files_only=True, trust_remote_code=False)
        if not own.is_fast:
            raise RequestError(f"there is no {FAST}, and this kind of tokenizer cannot be converted to one")
        return own.backend_tokenizer

    @property
    def size(self) -> int:
        """The number of token numbers, from 0 to the largest."""
        return max(self._own.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def vocabulary(self) -> dict[str, int]:
        """Return token -> number."""
        found: dict[str, int] = self._own.get_vocab(with_added_tokens=True)
        return found

    @cached_property
    def most_tokens(self) -> int | None:
        """The most tokens of a text that the model in this folder takes, None where its files do not say."""
        config = self._told(CONFIG)
        limit, pad = config.get("max_position_embeddings"), config.get("pad_token_id")
        shift = int(pad or 0) + 1 if config.get("model_type") in SHIFTED else 0
        return limit - shift if isinstance(limit, int) else None

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Return the share of the texts' tokens for which the vocabulary has no entry."""
        unknown = getattr(self._own.model, "unk_token", None)
        number = self._own.token_to_id(unknown) if isinstance(unknown, str) else None
        rows = self.encode(texts, 10**6)
        total = sum(len(row) for row in rows)
        return sum(int((row == number).sum()) for row in rows) / total if total and number is not None else 0.0

    @cached_property
    def pad(self) -> int:
        """The number of the token with which short texts are filled up; raise RequestError where the files name none."""
        told = self._told(SETTINGS).get("pad_token")
        token = told.get("content") if isinstance(told, dict) else told
        number = self._own.token_to_id(token) if isinstance(token, str) else None
        if number is None:
            number = self._told(CONFIG).get("pad_token_id")
        if not isinstance(number, int):
            what = f"the tokenizer names no token to pad with; set pad_token in {SETTINGS}"
            raise RequestError(Problem(str(self.folder), what))
        return number

    def encode(self, texts: Sequence[str], most: int) -> list[np.ndarray]:
        """Return the token numbers of each text, special tokens included, at most `most` of them."""
        import numpy as np

        self._own.enable_truncation(most)
        # a few thousand at a time: the library's own objects are ten times as large as the numbers
        parts = (self._own.encode_batch(list(texts[at : at + 4096])) for at in range(0, len(texts), 4096))
        return [np.array(one.ids, np.int32) for part in parts for one in part]


def open_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a folder; raise RequestError where there is none."""
    if not folder.is_dir():
        raise RequestError(f"the tokenizer's folder {folder} is missing")
    if not Tokenizer(folder).here():
        raise RequestError(f"{folder} holds no tokenizer ({FAST}); a tokenizer's save_pretrained writes one")
    return Tokenizer(folder)
