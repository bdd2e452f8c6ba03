"""How a batch is shared out over processes."""

import pytest

from backbones.base.errors import UserError
from backbones.base.micro_batches import micro_batches


def test_the_global_batch_holds_on_fewer_devices():
    assert [micro_batches(64, 2, n) for n in (32, 8, 1)] == [1, 4, 32]


@pytest.mark.parametrize(("size", "number", "words"), [(2, 3, "3 processes"), (6, 1, "one proc")])
def test_a_batch_that_cannot_be_shared_out_is_refused(size, number, words):
    with pytest.raises(UserError, match=f"64 images cannot be shared out over {words}.* {size} im"):
        micro_batches(64, size, number)
