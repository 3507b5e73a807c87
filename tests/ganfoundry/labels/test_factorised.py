"""The factorised first layer gives the numbers of the concatenated form."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganfoundry.labels.factorised import Mode, bands, concatenated, project, project_tiles, resize_matrix

torch.set_num_threads(1)


def published(maps: list[Tensor], weight: Tensor, bias: Tensor, resolution: int, mode: Mode) -> Tensor:
    """Upsample with torch, stack, multiply: written without the module under test."""
    corners = {} if mode == "nearest" else {"align_corners": False}
    tall = torch.cat([F.interpolate(m[None], size=(resolution,) * 2, mode=mode, **corners)[0] for m in maps])
    return torch.einsum("uc,chw->uhw", weight, tall) + bias[:, None, None]


def layer(sides: list[int], units: int, seed: int) -> tuple[list[Tensor], Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    maps = [torch.randn(3 + i, side, side, generator=random) for i, side in enumerate(sides)]
    channels = sum(len(m) for m in maps)
    return maps, torch.randn(units, channels, generator=random) / channels**0.5, torch.randn(units, generator=random)


@settings(max_examples=60, deadline=None)
@given(
    sides=st.lists(st.integers(1, 24), min_size=1, max_size=6),
    resolution=st.integers(1, 24),
    mode=st.sampled_from(["bilinear", "nearest"]),
    tile=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_equals_the_concatenated_form(sides: list[int], resolution: int, mode: Mode, tile: int, seed: int) -> None:
    """Any sizes, growing and shrinking, repeated resolutions, any tile height."""
    maps, weight, bias = layer(sides, 5, seed)
    expected = published(maps, weight, bias, resolution, mode)
    tiles = list(project_tiles(maps, weight, bias, resolution, mode=mode, tile_rows=tile))
    assert [start for start, _ in tiles] == list(range(0, resolution, tile))
    ours = torch.cat([rows for _, rows in tiles]).permute(2, 0, 1)
    assert (ours - expected).abs().max() <= 1e-5
    assert (concatenated(maps, resolution, mode) - published(maps, *_identity(maps), resolution, mode)).abs().max() == 0


def _identity(maps: list[Tensor]) -> tuple[Tensor, Tensor]:
    channels = sum(len(m) for m in maps)
    return torch.eye(channels), torch.zeros(channels)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_stylegan_plan_at_128_pixels(mode: Mode) -> None:
    """Column blocks and row windows at real sizes; also a map larger than the output, which is reduced."""
    maps, weight, bias = layer([4, 8, 8, 16, 32, 64, 64, 128, 256], 16, 0)
    ours = project(maps, weight, bias, 128, mode=mode)
    assert (ours - published(maps, weight, bias, 128, mode)).abs().max() <= 1e-5


def test_bfloat16_is_close() -> None:
    maps, weight, bias = layer([4, 8, 16, 32], 16, 1)
    ours = project(maps, weight.bfloat16(), bias, 32)
    exact = published(maps, weight, bias, 32, "bilinear")
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize(("source", "target"), [(4, 512), (8, 64), (64, 128)])
def test_bilinear_weights_are_exact_in_bfloat16(source: int, target: int) -> None:
    matrix = resize_matrix(source, target)
    assert torch.equal(matrix.bfloat16().float(), matrix)
    assert torch.allclose(matrix.sum(1), torch.ones(target))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_bands_hold_the_whole_matrix(mode: Mode) -> None:
    rebuilt = torch.zeros(30, 7)
    for band in bands(7, 30, mode, 8):
        rebuilt[band.start : band.stop, band.low : band.high] = band.weights
        assert band.high - band.low <= 4  # 8 output rows see few of the 7 source rows
    assert torch.equal(rebuilt, resize_matrix(7, 30, mode))


def test_tiles_do_not_change_the_maps() -> None:
    maps, weight, bias = layer([4, 16], 4, 2)
    before = [m.clone() for m in maps]
    for _, tile in project_tiles(maps, weight, bias, 16, tile_rows=4):
        tile.zero_()  # a consumer may work in place
    assert all(torch.equal(a, b) for a, b in zip(maps, before, strict=True))
    again = project(maps, weight, bias, 16)
    assert (again - published(maps, weight, bias, 16, "bilinear")).abs().max() <= 1e-5
