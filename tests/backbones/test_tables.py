import pytest
import torch
from timm.layers import resize_rel_pos_bias_table, resize_rel_pos_bias_table_simple

from backbones.timm_networks.tables import geometric_positions, resize_bias_table, resize_geometric


def smooth_table(side: int, heads: int, extra: int = 0) -> torch.Tensor:
    """A table that varies slowly, as trained ones do."""
    offsets = torch.arange(1 - side, side) / side
    plane = torch.exp(-(offsets[:, None] ** 2) - 0.5 * offsets[None, :] ** 2) + 0.3 * offsets
    flat = plane.reshape(-1, 1) * torch.linspace(1, 2, heads)
    return torch.cat([flat, torch.arange(float(extra * heads)).reshape(extra, heads)])


@pytest.mark.parametrize(("old", "new"), [(7, 14), (6, 7), (14, 7), (12, 8)])
def test_window_tables_are_resized_as_timm_does(old: int, new: int) -> None:
    table, rows = smooth_table(old, 3), (2 * new - 1) ** 2
    expected = resize_rel_pos_bias_table_simple(table, (new, new), (rows, 3))
    torch.testing.assert_close(resize_bias_table(table, rows), expected)


def test_a_table_of_its_own_size_is_untouched() -> None:
    table = smooth_table(7, 3)
    assert resize_bias_table(table, 169) is table
    assert resize_geometric(table, (7, 7), (7, 7)) is table


def test_tables_of_no_square_window_are_refused() -> None:
    with pytest.raises(ValueError, match="square window"):
        resize_bias_table(torch.zeros(170, 3), 169)
    with pytest.raises(ValueError, match="square window"):
        resize_bias_table(torch.zeros(169, 3), 200)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of timm's own interpolation
@pytest.mark.parametrize("new", [(24, 24), (20, 33), (16, 64)])
def test_beit_tables_are_resized_as_timm_does(new: tuple[int, int]) -> None:
    table = smooth_table(14, 2, extra=3)
    rows = (2 * new[0] - 1) * (2 * new[1] - 1) + 3
    expected = resize_rel_pos_bias_table(table, new, (rows, 2), old_window_size=(14, 14))
    torch.testing.assert_close(resize_geometric(table, (14, 14), new), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("new", [(24, 40), (9, 5), (1, 3), (14, 15)])
def test_beit_tables_keep_the_cls_rows_and_carry_gradients(new: tuple[int, int]) -> None:
    table = smooth_table(14, 2, extra=3).requires_grad_()
    resized = resize_geometric(table, (14, 14), new)
    assert resized.shape == ((2 * new[0] - 1) * (2 * new[1] - 1) + 3, 2)
    assert torch.equal(resized[-3:], table[-3:])
    resized.sum().backward()
    assert table.grad is not None
    torch.testing.assert_close(table.grad.sum(), torch.tensor(float(resized.numel())))


@pytest.mark.parametrize(("old", "new"), [(14, 64), (14, 5), (14, 14), (2, 9), (1, 4)])
def test_offsets_spread_symmetrically_with_near_ones_kept(old: int, new: int) -> None:
    positions = geometric_positions(old, new)
    assert len(positions) == 2 * new - 1
    assert positions[new - 1] == old - 1
    torch.testing.assert_close(
        positions + positions.flip(0), torch.full_like(positions, 2 * old - 2)
    )
    assert (positions.diff() >= 0).all()
    assert positions.min() >= 0
    if new > old > 2:  # the nearest neighbour keeps its own row
        torch.testing.assert_close(positions[new], torch.tensor(float(old), dtype=torch.float64))
