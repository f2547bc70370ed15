"""Techniques say themselves that they only convert, or only prepare and repair."""

from dataclasses import replace

import pytest
from studies import record, study_of

from efflab.comparison.compare import rows
from efflab.contracts.technique_roles import converter, converts, supports
from efflab.foundation import registry
from efflab.foundation.errors import RequestError
from efflab.reporting.charts.panel import technique_of

PLUGIN = '''
"""Turns a module into a graph."""

from typing import ClassVar

from efflab import Result, Technique


class AlsoExports(Technique):
    """Turn a module into a graph."""

    takes: ClassVar[str] = "module"
    gives: ClassVar[str] = "onnx"
    converts: ClassVar[bool] = True
    supports: ClassVar[bool] = True

    def apply(self, model, context):
        """Do nothing."""
        return Result(model)
'''


def test_the_export_is_found_by_what_it_says():
    assert converter("module", "onnx") == "export_onnx"
    assert [name for name in registry.names("techniques") if converts(name)] == ["export_onnx"]
    with pytest.raises(RequestError, match="no technique turns the form 'onnx' into 'module'"):
        converter("onnx", "module")


def test_steps_that_prepare_or_repair_name_no_variant():
    (row,) = rows(study_of([record("a", 1e6, 0.2)]))

    def told(*steps):
        return technique_of(replace(row, role="variant", steps=steps))

    every = ("prune_channels", "reestimate_norms", "finetune", "export_onnx", "unknown_here")
    assert told(*every) == "prune_channels + unknown_here"
    assert told("finetune", "export_onnx") == "finetune + export_onnx"
    assert not supports("distill")


def test_a_plug_in_can_be_one_and_does_not_take_the_place_of_efflabs_own(tmp_path, monkeypatch):
    (tmp_path / "techniques").mkdir()
    (tmp_path / "techniques" / "also_exports.py").write_text(PLUGIN)
    monkeypatch.setenv("EFFLAB_PLUGINS", str(tmp_path))
    registry.sources.cache_clear()
    try:
        assert converts("also_exports")
        assert supports("also_exports")
        assert converter("module", "onnx") == "export_onnx"
    finally:
        monkeypatch.delenv("EFFLAB_PLUGINS")
        registry.sources.cache_clear()
