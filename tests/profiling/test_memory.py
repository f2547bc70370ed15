import subprocess
import sys

import pytest

from efflab.profiling import memory

HOLD_AND_FREE = """
from efflab.profiling import memory
first = bytearray(b"x") * (64 << 20)
del first
mark = memory.resident_bytes()
could_reset = memory.reset_peak()
second = bytearray(b"x") * (32 << 20)
del second
print(could_reset, memory.above(mark))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_peak_is_what_was_held_after_the_mark():
    command = [sys.executable, "-c", HOLD_AND_FREE]
    could_reset, above = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    most = 40 if could_reset == "True" else 72  # without a reset the earlier peak is seen too
    assert 31 << 20 <= int(above) <= most << 20


def test_status_lines_are_kibibytes(tmp_path):
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n")
    assert memory.peak_bytes(tmp_path) == 2 << 20
    assert memory.resident_bytes(tmp_path) == 1 << 20
    assert memory.above(1 << 20, tmp_path) == 1 << 20


def test_without_proc_the_peak_comes_from_rusage_and_nothing_is_invented(tmp_path):
    nowhere = tmp_path / "nothing"
    assert memory.peak_bytes(nowhere) > 1 << 20
    assert memory.resident_bytes(nowhere) is None
    assert memory.above(None, nowhere) is None
    assert not memory.reset_peak(nowhere)
