"""The raw samples of a study: scores of single examples and times of single calls, each array once in one file.

Times are whole nanoseconds. In memory and in studies of schema 1 they stand in the records, as text.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MOST_UNPACKED = 1_000_000_000  # bytes
NS = 1e6  # nanoseconds of a millisecond
WRITTEN = (1980, 1, 1, 0, 0, 0)  # the date of every entry: the same samples give the same file


def pack_scores(scores: np.ndarray) -> dict[str, Any]:
    """Encode per-example scores as JSON: a bit each where all are 0 or 1, else float32."""
    import numpy as np

    if scores.ndim == 1 and np.isin(scores, (0, 1)).all():
        return {"bits": base64.b64encode(np.packbits(scores.astype(np.uint8)).tobytes()).decode(), "n": len(scores)}
    data = base64.b64encode(np.ascontiguousarray(scores, dtype="<f4").tobytes()).decode()
    return {"float32": data, "shape": list(scores.shape)}


def unpack_scores(packed: dict[str, Any]) -> np.ndarray:
    """Decode what `pack_scores` encoded."""
    import numpy as np

    if "bits" in packed:
        bits = np.frombuffer(base64.b64decode(packed["bits"]), dtype=np.uint8)
        return np.unpackbits(bits, count=packed["n"])
    return np.frombuffer(base64.b64decode(packed["float32"]), dtype="<f4").reshape(packed["shape"])


def mean_score(packed: dict[str, Any]) -> float | None:
    """Return the mean of packed scores, None where an example has several; raise ValueError for a wrong number of them."""
    if "bits" not in packed:
        if not all(type(one) is int and one > 0 for one in packed["shape"]):
            raise ValueError(f"scores of shape {packed['shape']!r:.60}")
        scores = unpack_scores(packed)
        return float(scores.mean(dtype=float)) if scores.ndim == 1 else None
    raw, n = base64.b64decode(packed["bits"], validate=True), packed["n"]
    if type(n) is not int or n < 1 or len(raw) != -(-n // 8):
        raise ValueError(f"{len(raw)} bytes for n = {n!r}")
    return int.from_bytes(raw).bit_count() / n


def put_samples(record: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return a copy of a record whose samples are named and not told; the arrays are added to `arrays` by these names."""
    told = dict(record)
    latency, quality = record.get("latency"), record.get("quality")
    if isinstance(latency, dict) and _are_times(latency.get("rounds_ms")):
        rest = {key: value for key, value in latency.items() if key != "rounds_ms"}
        told["latency"] = {**_put_times(latency["rounds_ms"], arrays), **rest}
    if isinstance(quality, dict) and isinstance(packed := quality.get("scores"), dict):
        told["quality"] = {**quality, "scores": _put_scores(packed, arrays)}
    return told


def take_samples(record: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Put the samples that a record names back into it.

    Raises KeyError for a name that `arrays` lacks, ValueError or TypeError for times that are none.
    """
    latency, quality = record.get("latency"), record.get("quality")
    if isinstance(latency, dict) and isinstance(named := latency.pop("rounds", None), dict):
        array, lengths = arrays[named["array"]], named["lengths"]
        if array.ndim != 1 or not all(type(one) is int and one >= 0 for one in lengths) or sum(lengths) != len(array):
            raise ValueError(f"{len(array)} times in rounds of {lengths!r:.60}")
        times, start = (array / NS if array.dtype.kind == "u" else array).tolist(), 0
        latency["rounds_ms"] = []
        for length in lengths:
            latency["rounds_ms"].append(times[start : start + length])
            start += length
    scores = quality.get("scores") if isinstance(quality, dict) else None
    if isinstance(quality, dict) and isinstance(scores, dict) and "array" in scores:
        array, rest = arrays[scores["array"]], {key: value for key, value in scores.items() if key != "array"}
        kind = "bits" if "n" in rest else "float32"
        quality["scores"] = {kind: base64.b64encode(array.tobytes()).decode(), **rest}


def samples_file(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as a .npz file, those of one element type end to end; the same arrays give the same bytes."""
    import numpy as np

    names = sorted(arrays)
    kinds = sorted({arrays[name].dtype.str for name in names})
    index = [(kinds.index(arrays[name].dtype.str), len(arrays[name])) for name in names]
    columns = {"names": np.array(names, "S"), "index": np.array(index, "<u4").reshape(len(names), 2)}
    for place, kind in enumerate(kinds):
        columns[f"values{place}"] = np.concatenate([arrays[name] for name in names if arrays[name].dtype.str == kind])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, column in columns.items():
            body = io.BytesIO()
            np.lib.format.write_array(body, column, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", WRITTEN), body.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return content.getvalue()


def read_samples(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a file that `samples_file` made, by name; raise ValueError for what is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_UNPACKED:
                raise ValueError(f"it unpacks to more than {MOST_UNPACKED:,} bytes")
            columns = {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(str(error)) from error
    found, start = {}, dict.fromkeys(columns, 0)
    for name, (kind, count) in zip(columns["names"].tolist(), columns["index"].tolist(), strict=True):
        column = f"values{kind}"
        found[name.decode()] = columns[column][start[column] : start[column] + count]
        start[column] += count
    return found


def _array(raw: bytes) -> np.ndarray:
    """Return an array as numpy writes it; its header cannot ask for more memory than its bytes take."""
    import numpy as np

    file = io.BytesIO(raw)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_columns, dtype = read[np.lib.format.read_magic(file)](file)
    if by_columns and len(shape) > 1:
        raise ValueError("an array lies column by column")
    return np.frombuffer(raw, dtype, offset=file.tell()).reshape(shape)


def _are_times(rounds: Any) -> bool:
    if not isinstance(rounds, list) or not all(isinstance(times, list) for times in rounds):
        return False
    return all(type(time) is float or (type(time) is int and 0 <= time < 2**52) for times in rounds for time in times)


def _put_times(rounds: list[list[float]], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Name the times of all rounds: whole nanoseconds where they all are, which clocks tell, else as they stand."""
    import numpy as np

    times = np.array([time for one in rounds for time in one], float)
    with np.errstate(invalid="ignore", over="ignore"):
        whole = np.rint(times * NS)
    if bool(np.isfinite(times).all()) and bool((times >= 0).all()) and bool((whole / NS == times).all()):
        times = whole.astype("<u4" if whole.max(initial=0) < 2**32 else "<u8")
    return {"rounds": {"array": _put("t", times, arrays), "lengths": [len(one) for one in rounds]}}


def _put_scores(packed: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    import numpy as np

    kind = next((one for one in ("bits", "float32") if isinstance(packed.get(one), str)), None)
    try:
        raw = base64.b64decode(packed[kind], validate=True) if kind else b""
    except ValueError:
        raw = b""  # damaged: it is written as it stands, and refused when it is read
    if not raw:
        return packed
    rest = {key: value for key, value in packed.items() if key != kind}
    return {"array": _put("s", np.frombuffer(raw, np.uint8), arrays), **rest}


def _put(kind: str, array: np.ndarray, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(array.dtype.str.encode() + array.tobytes()).hexdigest()
    name = f"{kind}{digest[:12]}"
    arrays[name] = array
    return name
