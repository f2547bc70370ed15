import pytest

from efflab.profiling import energy


def zone(root, name, energy_uj, span):
    (root / name).mkdir(exist_ok=True)
    (root / name / "energy_uj").write_text(str(energy_uj))
    (root / name / "max_energy_range_uj").write_text(str(span))


def test_packages_are_summed_and_their_parts_are_not(tmp_path):
    zone(tmp_path, "intel-rapl:0", 1_000_000, 10_000_000)
    zone(tmp_path, "intel-rapl:1", 9_000_000, 10_000_000)
    zone(tmp_path, "intel-rapl:0:0", 500_000, 10_000_000)
    before = energy.rapl_counters(tmp_path)
    zone(tmp_path, "intel-rapl:0", 3_500_000, 10_000_000)
    zone(tmp_path, "intel-rapl:1", 500_000, 10_000_000)  # started again: 1.0 J to the end, 0.5 J after
    assert energy.rapl_joules(before, energy.rapl_counters(tmp_path)) == pytest.approx(2.5 + 1.5)


def test_unreadable_counters_are_none(tmp_path):
    assert energy.rapl_counters(tmp_path / "nothing") == {}
    (tmp_path / "intel-rapl:0").mkdir()
    assert energy.rapl_counters(tmp_path) == {}


def test_a_reading_goes_before_the_estimate_and_the_estimate_says_so():
    assert energy.energy_of_call(0.01, 2, "cpu", 0.7, None) == (0.7, "measured: RAPL, whole package")
    joules, method = energy.energy_of_call(0.01, 2, "cpu", None, None)
    assert joules == pytest.approx(0.01 * 2 * 5.0)
    assert method.startswith("estimate: 5 W TDP a core x 2")


def test_a_gpu_without_a_reading_gets_no_number():
    assert energy.energy_of_call(0.01, 2, "cuda", None, 300.0)[0] == pytest.approx(3.0)
    assert energy.energy_of_call(0.01, 2, "cuda", 0.7, None)[0] is None
    assert energy.energy_of_call(0.01, 2, "fake", 0.7, 300.0)[0] is None
