"""What was worked out of files and is kept for the next time: with a digest, so that nothing altered is believed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from efflab.foundation.files import write_atomically
from efflab.foundation.outside import DIGEST, content_of, digest_of, parsed_json


def keep(path: Path | None, content: Any) -> None:
    """Write what was worked out, with its digest; a store that cannot be written makes the next call slower, not wrong."""
    if path:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({DIGEST: digest_of(content), "content": content}, separators=(",", ":")))


def recalled(path: Path | None) -> Any:
    """Return what `keep` wrote; None where it is not there, or not as it was written."""
    if path:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            stored = parsed_json(content_of(path))
            if stored[DIGEST] == digest_of(stored["content"]):
                return stored["content"]
    return None
