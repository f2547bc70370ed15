import pytest

import efflab.registry as registry


@pytest.fixture(autouse=True)
def fresh_registry():
    """Plug-in look-ups are cached per process; tests that drop in plug-ins need them afresh."""
    yield
    registry.sources.cache_clear()
    registry.load.cache_clear()


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """A working directory of the test's own, with its store in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EFFLAB_STORE", raising=False)
    return tmp_path
