"""Which Python code cards name: only that may build models, also those that lie in a store."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from efflab.artefacts.user_models import name_model
from efflab.cards.card_paths import card_files
from efflab.foundation.config import read_yaml
from efflab.foundation.errors import RequestError

if TYPE_CHECKING:
    from efflab.cards.baseline import Baseline


def with_model_named(baseline: Baseline) -> Baseline:
    """Return a card, after noting the Python function that it names, where its file is there."""
    if baseline.card.python:
        with contextlib.suppress(RequestError, OSError):  # a file that is missing is told where the model is asked for
            name_model(baseline.builder())
    return baseline


def note_models_of_cards(near: Path | None = None) -> None:
    """Note the Python functions that the cards name which can be found from here; cards with faults are left out."""
    from efflab.cards.baseline import load_baseline

    for path in card_files(near).values():
        with contextlib.suppress(RequestError, OSError):
            if "python" in read_yaml(path).data:
                load_baseline(path)
