import errno

import pytest

from efflab.contracts.executor import Done
from efflab.execution.scheduler import _finish
from efflab.execution.watcher import Watcher
from efflab.foundation.errors import RequestError, disk_full
from efflab.records.store import LocalStore


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (RuntimeError('Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "x" }'), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("code: 281"), False),
    ],
)
def test_a_full_disk_is_known_through_what_libraries_wrap_around_it(error, full):
    assert disk_full(error) is full


def test_a_full_disk_ends_the_run_in_words_and_keeps_what_is_finished(in_folder):
    store = LocalStore.open()
    store.prepare()
    with pytest.raises(RequestError, match="the disk is full; what is finished is kept"):
        _finish(None, Done("a", "disk full"), store, None, Watcher())
    assert store.result("a") is None
