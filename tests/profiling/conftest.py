"""What the tests of the ledger share."""

import onnx
import pytest
from ledger_graphs import model_of


@pytest.fixture
def graph_file(tmp_path):
    def write(*parts, **settings):
        path = tmp_path / "m.onnx"
        onnx.save(model_of(*parts, **settings), path)
        return path

    return write
