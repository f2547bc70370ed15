"""A group whose baseline is of two speeds when it is timed twice: what the table, the page and a gate say of it."""

import pytest
from worlds import efflab, make_card, make_recipe

TWO_SPEEDS = '''
"""A scripted clock on which the second session of each start, the A/A row, is slower by `slower`."""

import os

from efflab.backends.fake import Fake, FakeSession


class Doubtful(Fake):
    log: str
    sessions: int = 3
    slower: float = 1.3

    def prepare(self, artefact, example, threads):
        session = super().prepare(artefact, example, threads)
        session.__class__ = DoubtfulSession
        session.backend = self
        return session


class DoubtfulSession(FakeSession):
    factor = None

    def run(self, loaded):
        before = self.now_ns
        answer = super().run(loaded)
        if len(loaded[0]) > 1:  # it is scored
            return answer
        if self.factor is None:  # sessions are warmed up one after the other, in their order
            with open(self.backend.log, "ab", buffering=0) as file:
                file.write(b".")
                second = (os.fstat(file.fileno()).st_size - 1) % self.backend.sessions == 1
            self.factor = self.backend.slower if second else 1.0
        self.now_ns = before + round((self.now_ns - before) * self.factor)
        return answer
'''
QUICK = "batch_sizes: [1], min_runs: 12, min_seconds: 0.001, max_seconds: 0.01, rounds: 6, threads: 1, processes: 3"


@pytest.fixture
def study(in_folder, monkeypatch, request):
    make_card(in_folder, "tiny", 4)
    (in_folder / "backends").mkdir()
    (in_folder / "backends" / "doubtful.py").write_text(TWO_SPEEDS)
    monkeypatch.setenv("EFFLAB_PLUGINS", str(in_folder))
    backend = f"{{doubtful: {{slower: {request.param}, base_ms: 0.5, ns_per_byte: 20.0, log: {in_folder / 'log'}}}}}"
    make_recipe(
        in_folder, "half:\n  - prune_channels: {ratio: 0.5, round_to: 1}", measure=QUICK, backends=f"[{backend}]",
        extra="",
    )  # fmt: skip
    text = (
        (in_folder / "r.yaml")
        .read_text()
        .replace("  - prune_channels", "  controls: false\n    steps:\n    - prune_channels")
    )
    (in_folder / "r.yaml").write_text(text)
    ran = efflab("run", "r.yaml", cwd=in_folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return in_folder


@pytest.mark.parametrize("study", [1.3], indirect=True)
def test_nothing_is_said_of_speed_where_the_control_failed(study):
    shown = efflab("compare", "r", "--columns", "variant,role,speedup,speed_verdict", "--format", "csv", cwd=study)
    verdicts = dict(line.split(",")[0::3] for line in shown.stdout.splitlines()[1:])
    assert verdicts == {"tiny": "", "tiny (again)": "control failed", "half": "control failed"}

    table = efflab("compare", "r", cwd=study)
    assert "control failed" in table.stdout
    assert "Control failed in 1 of 1 groups" in " ".join(table.stdout.split())

    for gate in ("speedup < 0.1", "speed_verdict == 'slower'", "shift_latency < 0.1 or size_ratio < 0"):
        gated = efflab("compare", "r", "--where", "variant == 'half'", "--fail-if", gate, cwd=study)
        assert gated.returncode == 1
        assert "not judged, the control of its group failed" in gated.stderr
        assert "gate failed: a control failed" in gated.stderr
    free = efflab("compare", "r", "--where", "variant == 'half'", "--fail-if", "size_ratio < 1", cwd=study)
    assert free.returncode == 0  # a gate that needs no time

    assert efflab("report", "r", "--out", "out", cwd=study).returncode == 0
    lines = (study / "out" / "report.md").read_text().splitlines()
    first = next(line for line in lines if line.startswith("- "))
    assert first.startswith("- Control failed in 1 of 1 groups")
    assert not any(line.startswith("- Fastest") for line in lines)


@pytest.mark.parametrize("study", [1.0], indirect=True)
def test_a_good_control_lets_the_same_rows_be_judged(study):
    gated = efflab("compare", "r", "--where", "variant == 'half'", "--fail-if", "speedup_low < 1", cwd=study)
    assert gated.returncode == 0, gated.stderr
    shown = efflab("compare", "r", "--columns", "variant,role,starts,speed_verdict", "--format", "csv", cwd=study)
    assert {tuple(line.split(",")) for line in shown.stdout.splitlines()[1:]} == {
        ("tiny", "baseline", "3", ""),
        ("tiny (again)", "repeat", "3", "no difference"),
        ("half", "variant", "3", "faster"),
    }
