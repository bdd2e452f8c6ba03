"""A folder of records, for tests of what is made of records."""

import pytest
from msgspec.structs import replace

from benchmarks.store.folders import Store


@pytest.fixture
def runs(tmp_path, make_record):
    """Return a folder of three records."""
    spec = make_record().spec
    store = Store(tmp_path / "runs")
    for seed in range(3):
        record = make_record(replace(spec, seed=seed), 10.0 + seed)
        store.folder(record.run_id).write_record(record)
    return store
