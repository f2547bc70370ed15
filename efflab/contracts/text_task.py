"""What tasks that classify texts promise beside the contract of tasks: a tokenizer and the names of the classes."""

from __future__ import annotations

from abc import abstractmethod

from efflab.contracts.classification import Classification
from efflab.contracts.tokenizer import Tokenizer


class TextTask(Classification):
    """A task on token numbers; Hugging Face's encoders can be loaded for it as torch modules."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """The most tokens of a text; longer ones are cut."""

    @property
    @abstractmethod
    def order_is_stated(self) -> bool:
        """Whether the user says in what order the labels are the model's classes."""

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """The labels in the order of the classes."""

    @property
    @abstractmethod
    def own_tokenizer(self) -> Tokenizer:
        """The model's tokenizer; raise RequestError where there is none."""
