"""The checks of the behaviour suite: one function a check, whose first line is the promise; it returns what is wrong."""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from efflab.artefacts.artefact import Artefact
from efflab.profiling import memory
from efflab.profiling.quality import leaves
from efflab.validation.backends.bench import Bench, fallbacks_in_words
from efflab.validation.backends.probes import apart, gap, processors_wanted, refusal_words, run
from efflab.validation.verdict import Verdict

LOADS, FEWEST_LOADS, LOADING_S = 200, 20, 90.0
GROWTH_BYTES = 32 << 20  # over the loads after the first ten; allocators keep some memory for themselves
MORE_THAN_ONE = 1.3  # processors that a single thread, or one that waits, can never want
LAZY = 3.0  # fetching an output takes longer than so many times all the work before it: that was no work


class Subject(NamedTuple):
    """What a check is given: a backend, a float model with free batch size, and 131 rows of input."""

    bench: Bench
    artefact: Artefact
    inputs: tuple[np.ndarray, ...]

    def rows(self, start: int, stop: int) -> tuple[np.ndarray, ...]:
        """Return copies of rows of the inputs, again from the first where there are too few."""
        return tuple(array[np.arange(start, stop) % len(array)] for array in self.inputs)


Found = tuple[Verdict, str]
PASS: Found = ("pass", "")


def repeatable(subject: Subject) -> Found:
    """The same input gives the same output, bit for bit, ten times."""
    rows = subject.rows(0, 16)
    session = subject.bench.prepare(subject.artefact, rows)
    first = run(session, rows)
    for time_ in range(2, 11):
        difference = gap(run(session, rows), first)
        if difference:
            return "wrong", f"call {time_} with the same input differs from the first by up to {difference:.3g}"
    return PASS


def inputs_untouched(subject: Subject) -> Found:
    """The arrays that a caller gives are the same afterwards."""
    rows = subject.rows(0, 16)
    kept = tuple(array.copy() for array in rows)
    session = subject.bench.prepare(subject.artefact, rows)
    run(session, rows)
    same = all(np.array_equal(a, b) for a, b in zip(rows, kept, strict=True))
    return PASS if same else ("wrong", "the caller's input arrays were changed")


def outputs_are_kept(subject: Subject) -> Found:
    """Fetched outputs stay as they are when the next call runs, and another input gives another output."""
    one, two = subject.rows(0, 16), subject.rows(16, 32)
    session = subject.bench.prepare(subject.artefact, one)
    first = session(one)
    kept = [leaf.copy() for leaf in leaves(first)]
    second = [leaf.copy() for leaf in leaves(session(two))]
    if gap([*leaves(first)], kept):
        return "wrong", "fetched outputs changed when the next call ran: they are the runtime's own buffer"
    alone = run(subject.bench.prepare(subject.artefact, two), two)
    if apart(second, alone):
        return "wrong", "a second call with other input gives an output that is not that input's: a stale buffer"
    return PASS


def waiting_waits(subject: Subject) -> Found:
    """After `run` and `wait` the work is done: outputs are right at once, and fetching them is no work."""
    rows = subject.rows(0, 128)
    session = subject.bench.prepare(subject.artefact, rows)
    right = run(session, rows)
    loaded = session.load(rows)
    work, fetch = [], []
    for _ in range(5):
        started = time.perf_counter()
        outputs = session.run(loaded)
        session.wait()
        done = time.perf_counter()
        found = session.fetch(outputs)
        fetch.append(time.perf_counter() - done)
        work.append(done - started)
        if apart([*leaves(found)], right):
            return "wrong", "outputs fetched right after `wait` are not those of this input: `wait` does not wait"
    if min(fetch) > LAZY * min(work) and min(fetch) > 2e-3:
        return "wrong", (
            f"`run` and `wait` take {1e3 * min(work):.2f} ms, and fetching the outputs then {1e3 * min(fetch):.2f} ms: the "
            "work is done there, and no timing would see it"
        )
    return PASS


def threads_obeyed(subject: Subject) -> Found:
    """With one thread asked for, no more than one processor's time goes by while it runs."""
    if type(subject.bench.backend).device != "cpu":
        return "skipped", f"the backend's device is {type(subject.bench.backend).device}"
    rows = subject.rows(0, 128)
    session = subject.bench.backend.prepare(subject.artefact, rows, 1)
    share = processors_wanted(session, rows)
    return (
        PASS
        if share < MORE_THAN_ONE
        else ("wrong", f"one thread was asked for, and {share:.1f} processors were wanted")
    )


def sessions_side_by_side(subject: Subject) -> Found:
    """Four sessions, used in turn and from four threads at once, answer as each does alone."""
    parts = [subject.rows(8 * index, 8 * index + 8) for index in range(4)]
    alone = []
    for part in parts:
        session = subject.bench.prepare(subject.artefact, part)
        alone.append(run(session, part))
        del session
    sessions = [subject.bench.prepare(subject.artefact, part) for part in parts]
    for _ in range(3):
        for session, part, right in zip(sessions, parts, alone, strict=True):
            if apart(run(session, part), right):
                return "wrong", "used in turn, sessions give other outputs than alone"
    with ThreadPoolExecutor(4) as pool:
        for found, right in zip(pool.map(run, sessions, parts), alone, strict=True):
            if apart(found, right):
                return "wrong", "used from several threads at once, sessions give other outputs than alone"
    return PASS


def rows_are_apart(subject: Subject) -> Found:
    """An odd batch gives each row what it gives alone, and NaN or infinity in one row stays in that row."""
    rows = subject.rows(0, 7)
    session = subject.bench.prepare(subject.artefact, rows)
    clean = run(session, rows)
    singles = subject.bench.prepare(subject.artefact, subject.rows(0, 1))
    alone = [run(singles, subject.rows(row, row + 1)) for row in range(7)]
    stacked = [np.concatenate([one[leaf] for one in alone]) for leaf in range(len(clean))]
    if apart(clean, stacked):
        return "wrong", "rows of a batch of 7 differ from the same rows one by one"
    for value in (np.nan, np.inf):
        spoilt = tuple(array.copy() for array in rows)
        spoilt[0][3] = value
        found = run(session, spoilt)
        others = [np.delete(leaf, 3, axis=0) for leaf in found]
        if apart(others, [np.delete(leaf, 3, axis=0) for leaf in clean]):
            return "wrong", f"{value} in one row changes other rows"
    return PASS


def nan_is_carried(subject: Subject) -> Found:
    """A row of NaN gives no finite answer that looks like one."""
    rows = subject.rows(0, 4)
    session = subject.bench.prepare(subject.artefact, rows)
    rows[0][1] = np.nan
    found = run(session, rows)
    carried = any(np.isnan(leaf[1]).any() for leaf in found)
    return PASS if carried else ("wrong", "a row of NaN gives finite outputs: a broken input would go unseen")


def empty_batch(subject: Subject) -> Found:
    """A batch of no rows gives no rows, or is refused in words."""
    session = subject.bench.prepare(subject.artefact, subject.rows(0, 4))
    try:
        found = run(session, subject.rows(0, 0))
    except Exception as error:
        return "unsupported", f"refused: {refusal_words(error)}"
    return PASS if all(len(leaf) == 0 for leaf in found) else ("wrong", f"no rows in, {len(found[0])} rows out")


def huge_batch(subject: Subject) -> Found:
    """4,096 rows at once give each row what it gives in a small batch."""
    size = 4096
    rows = subject.rows(0, size)
    try:
        found = run(subject.bench.prepare(subject.artefact, rows), rows)
    except MemoryError as error:
        return "unsupported", f"refused: {refusal_words(error)}"
    small = subject.rows(size - 16, size)
    right = run(subject.bench.prepare(subject.artefact, small), small)
    return PASS if not apart([leaf[-16:] for leaf in found], right) else ("wrong", "the last rows of 4,096 are wrong")


def loads_without_growth(subject: Subject) -> Found:
    """Loading, calling and unloading a model 200 times (or for 90 s) does not make the process grow."""
    rows = subject.rows(0, 2)
    start: int | None = None
    began, turn = time.monotonic(), 0
    while turn < LOADS and (turn < FEWEST_LOADS or time.monotonic() - began < LOADING_S):
        session = subject.bench.prepare(subject.artefact, rows)
        run(session, rows)
        del session
        turn += 1
        if turn == FEWEST_LOADS // 2:
            gc.collect()
            start = memory.resident_bytes()
    gc.collect()
    end = memory.resident_bytes()
    if start is None or end is None:
        return "skipped", "this system does not tell the size of a process"
    grown = end - start
    loads = turn - FEWEST_LOADS // 2
    told = f"the process grew by {grown / 1e6:.0f} MB over {loads} loads, {grown / 1e3 / loads:.0f} kB a load"
    return PASS if grown < GROWTH_BYTES else ("wrong", told)


def corrupt_file(subject: Subject) -> Found:
    """A file that is cut off, empty or noise is an error in words; the whole one runs."""
    rows = subject.rows(0, 2)
    run(subject.bench.prepare(subject.artefact, rows), rows)
    for name, spoil in _SPOILS.items():
        with tempfile.TemporaryDirectory() as folder:
            broken = Path(folder) / "model"
            shutil.copytree(subject.artefact.folder, broken)
            for file in broken.iterdir():
                if file.suffix != ".json":
                    file.write_bytes(spoil(file.read_bytes()))
            try:
                found = run(subject.bench.prepare(Artefact(broken, subject.artefact.form), rows), rows)
            except Exception:  # any is an answer; a crash is not
                continue
            return "wrong", f"a model file that is {name} is run all the same, giving {len(found)} outputs"
    return PASS


def unknown_operator(subject: Subject) -> Found:
    """A graph with an operator that nobody has is an error in words."""
    if subject.artefact.form != "onnx":
        return "skipped", "the backend takes modules, not graphs"
    known = subject.rows(0, 2)
    run(subject.bench.prepare(subject.artefact, known), known)
    from onnx import TensorProto, helper, save

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    node = helper.make_node("NobodyHasThis", ["x"], ["y"], domain="org.example")
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("org.example", 1)]
    rows = (np.ones((2, 4), np.float32),)
    with tempfile.TemporaryDirectory() as folder:
        save(helper.make_model(graph, opset_imports=opsets, ir_version=10), Path(folder) / "model.onnx")
        try:
            run(subject.bench.prepare(Artefact(Path(folder), "onnx"), rows), rows)
        except Exception:
            return PASS
    return "wrong", "a graph with an unknown operator is run all the same"


def runs_where_it_says(subject: Subject) -> Found:
    """Operators run on the backend's own device, as far as the runtime and the processor's clock tell."""
    device = type(subject.bench.backend).device
    rows = subject.rows(0, 128)
    session = subject.bench.prepare(subject.artefact, rows)
    run(session, rows)
    told = fallbacks_in_words(session)
    if told:
        return "fell back", told
    if device in ("cpu", "fake"):
        return PASS
    if subject.bench.threads < 2:
        return "skipped", "the session tells of none, and with one thread, waiting for a device looks like work"
    share = processors_wanted(session, rows)
    if share < MORE_THAN_ONE:
        return PASS
    return "fell back", (
        f"the device is {device}, but {share:.1f} processors are wanted while it runs, and waiting takes one at most: "
        "operators run on the processor, and the session does not say which"
    )


_SPOILS: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[: len(data) * 2 // 3],
    "empty": lambda data: b"",
    "noise": lambda data: np.random.default_rng(0).bytes(len(data)),
}
