"""Loads checkpoints of Hugging Face: whole, from safetensors, offline, and with no code but the library's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from efflab.cards.hugging_face.checkpoint import Checkpoint
from efflab.foundation.errors import RequestError
from efflab.foundation.wording import one_line

QUIET_HUB = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def load_pretrained(
    auto: str, checkpoint: Checkpoint, new: Callable[[Any, str], bool] = lambda module, name: False, **more: Any
) -> Any:
    """Return the module of a checkpoint in float32 and evaluation mode, by transformers' class `auto`.

    new: says of which weights (module, name) the checkpoint may have none, or others; they are random numbers then. more:
    for `from_pretrained`. Raises RequestError for what does not load, or lacks other weights.
    """
    os.environ.update(QUIET_HUB)  # read when the libraries are imported: what was fetched before is all that is used
    import torch
    import transformers

    try:
        module, found = getattr(transformers, auto).from_pretrained(
            str(checkpoint.folder),
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **more,
        )
    except MemoryError:
        raise
    except Exception as error:
        raise RequestError(f"transformers cannot load {checkpoint.name}: {one_line(error)}") from error
    names = [*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])]
    lost = sorted(name for name in names if not name.endswith("num_batches_tracked") and not new(module, name))
    if lost:
        shown = ", ".join(lost[:4]) + (f" and {len(lost) - 4} more" if len(lost) > 4 else "")
        raise RequestError(f"the weights of {checkpoint.name} lack {shown}, which would be random numbers")
    return module.eval()
