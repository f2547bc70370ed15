"""Says in words why a step failed inside a library: which technique, at which layer, what it cannot take, and what to do."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from efflab.foundation.errors import Died, Paused, RequestError, Unavailable, disk_full, text_of
from efflab.foundation.wording import one_line

PASS_THROUGH = (RequestError, Unavailable, Paused, Died, MemoryError)  # these say what they have to say
LONGEST = 200  # characters of the library's own words
OURS = str(Path(__file__).parents[1])

# what a library's message tells -> what it cannot take, and what to do
KNOWN = (
    (r"data.?dependent|GuardOnData|symbolically traced variables|control flow|dynamic control",
     "code that branches on the values of a tensor; write the branch with torch.where, or leave this step out"),
    (r"[Pp]roxy",
     "code that cannot be followed without numbers, such as int(...), len(...) or a loop over a tensor; leave this step out"),
    (r"deepcopy protocol|Only Tensors created explicitly",
     "a weight that a hook computes, as the old torch.nn.utils.weight_norm does; take it off with remove_weight_norm"),
    (r"specialized it to be a constant|Constraints violated|marked .{0,40} as dynamic|specialized to",
     "code that makes the batch size a fixed number; compute with x.shape[0] as it is, not with int(...) of it"),
    (r"required rank 4|channels_last",
     "inputs that are no images; leave this step out"),
    (r"missing \d+ required positional|takes \d+ positional arguments|unexpected keyword",
     "a forward with these inputs; give it the task's inputs one after the other"),
    (r"truth value of an array|inhomogeneous",
     "a stored number of an unusual shape; export the model again with a newer exporter"),
    (r"bound to different types|[Tt]ype [Ee]rror|tensor\(double\)|float64|DOUBLE",
     "numbers of several types that meet here; give a model in float32"),
    (r"No Op registered|\bopset\b|INVALID_GRAPH|Unrecognized attribute|No Adapter",
     "an operator at this opset; export the model again with opset 17 or newer"),
    (r"float16|Half|BFloat16|bfloat16",
     "16-bit numbers here; give the float32 model, and cast at the end"),
    (r"size mismatch|must match the size|shape|Expected .* channels|dimension|cannot be multiplied",
     "the shapes that meet here; leave this layer's kind of model to another technique"),
    (r"not (?:currently )?(?:implemented|supported)|NOT_IMPLEMENTED|[Uu]nsupported|NotImplemented",
     "an operator that the library does not support; leave this step out"),
    (r"[Ss]hare memory|tied",
     "weights that several layers share; save a copy of the weight for each layer"),
)  # fmt: skip
NODE = re.compile(r"(?:[Nn]ode(?: name)?[:=]?\s*['\"(]+|Name:\s*')([^'\")\s]+)")


@contextmanager
def in_words(name: str, model: Any, plugin: type, verb: str = "take") -> Iterator[None]:
    """Turn what a library raises inside into a RequestError that says it in words; its traceback goes to standard error."""
    process = os.getpid()
    try:
        yield
    except PASS_THROUGH:
        raise
    except Exception as error:
        if disk_full(error):
            raise
        traceback.print_exc()
        raise RequestError(explained(error, name, model, plugin, verb)) from error
    finally:
        if (
            os.getpid() != process
        ):  # a copy of this process that the plug-in made: it must not do the rest a second time
            os._exit(1)


def explained(error: Exception, name: str, model: Any, plugin: type, verb: str = "take") -> str:
    """Return a sentence for a user: technique (or backend), layer, what it cannot take, what to do; the library's words last.

    What the plug-in itself raises is in its own words, and is not said to be a library's.
    """
    source = _source(error)
    if source.startswith(OURS):
        return f"{name}: {one_line(error)}"
    if source == inspect.getsourcefile(plugin):
        return one_line(error)
    return f"{name} cannot {verb} this model{reason(error, model)}"


def _source(error: Exception) -> str:
    """Return the file in which an error was raised."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        found = trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    return found


def reason(error: Exception, model: Any) -> str:
    """Return why a step failed, as the end of a sentence: ` at layer conv: an operator ... (in the library's words: ...)`."""
    words = " ".join(text_of(error).split())
    cause = next((what for pattern, what in KNOWN if re.search(pattern, f"{type(error).__name__} {words}")), "")
    layer = _layer(error, model) or _node(words)
    where = f" at {layer}" if layer else ""
    what = cause or "something that the library behind it refuses; leave this step out, or try other settings"
    return f"{where}: {what} (in the library's words: {_short(error)})"


def innermost(error: BaseException) -> Exception:
    """Return the error from which others were raised: exporters wrap what happened in words about themselves."""
    seen: set[int] = set()
    while isinstance(error.__cause__, Exception) and id(error) not in seen:  # an error may name itself as its cause
        seen.add(id(error))
        error = error.__cause__
    assert isinstance(error, Exception)
    return error


def _short(error: Exception) -> str:
    words = one_line(error)
    return words if len(words) <= LONGEST else words[:LONGEST] + "..."


def _node(words: str) -> str:
    found = NODE.search(words)
    return f"node {found.group(1)}" if found else ""


def _layer(error: Exception, model: Any) -> str:
    """Return the innermost layer of the model that was running when the error was raised, by name and type."""
    named = getattr(model, "named_modules", None)
    if named is None:
        return ""
    names = {id(layer): name for name, layer in named() if name}
    found, trace = "", error.__traceback__
    while trace is not None:
        layer = trace.tb_frame.f_locals.get("self")
        if id(layer) in names:
            found = f"layer {names[id(layer)]} ({type(layer).__name__})"
        trace = trace.tb_next
    return found
