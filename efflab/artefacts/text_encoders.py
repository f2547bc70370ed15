"""Text encoders of Hugging Face as torch modules: built from their configuration alone, with inputs in a fixed order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from efflab.foundation.errors import RequestError
from efflab.foundation.quiet import quiet
from efflab.foundation.wording import one_line

if TYPE_CHECKING:
    from torch import Tensor

# keys of a config.json by which transformers would import or fetch code
CODE = {"auto_map", "attn_implementation", "_attn_implementation", "_attn_implementation_internal", "custom_pipelines"}


class TextClassifier(nn.Module):
    """A classifier of Hugging Face that takes token numbers, mask and types in this order, and gives its logits."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return the logits, shape (examples, classes)."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits: Tensor = self.inner(input_ids=input_ids, attention_mask=attention_mask, **types).logits
        return logits


def build_text_classifier(config: dict[str, Any]) -> TextClassifier:
    """Build a classifier with fresh weights from a model's configuration (the content of its config.json).

    Raises RequestError for a kind of model that transformers does not know as a classifier of texts.
    """
    with quiet():
        from transformers import AutoModelForSequenceClassification

        build: Any = AutoModelForSequenceClassification.from_config
        try:
            return TextClassifier(build(configuration(config)))
        except MemoryError:
            raise
        except Exception as error:
            what = f"transformers cannot build a classifier of texts from this configuration: {one_line(error)}"
            raise RequestError(what) from error


def configuration(config: dict[str, Any]) -> Any:
    """Return transformers' object for the content of a config.json; no code but the library's is run."""
    from transformers import AutoConfig

    told = {key: value for key, value in _without_code(config).items() if key not in ("transformers_version", "dtype")}
    kind = told.pop("model_type", None)
    if not isinstance(kind, str):
        raise RequestError("config.json names no model_type")
    return AutoConfig.for_model(kind, **told)


def _without_code(config: Any) -> Any:
    """Return a configuration without what names code at any depth: classes of other repositories, and kernels to fetch."""
    if isinstance(config, list):
        return [_without_code(one) for one in config]
    if not isinstance(config, dict):
        return config
    return {key: _without_code(value) for key, value in config.items() if key not in CODE}
