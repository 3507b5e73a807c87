"""Gathered pixels against the tall tensor; half precision; batches, subsets, and what is refused."""

import itertools

import pytest
import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.labels.factorised import Mode, concatenated
from ganfoundry.labels.feature_table import FeatureTable

torch.set_num_threads(1)


def maps(images: int = 3) -> dict[str, Tensor]:
    """Maps of unlike scales, two of one side; a channel that only the last image uses."""
    random = torch.Generator().manual_seed(0)
    features = {
        "b4": 5 + torch.randn(images, 6, 4, 4, generator=random),
        "b8a": 30 * torch.randn(images, 5, 8, 8, generator=random),
        "b8b": 1e5 * torch.rand(images, 2, 8, 8, generator=random),
        "b32": torch.randn(images, 3, 32, 32, generator=random),
    }
    features["b4"][:-1, 0] = 0
    return features


def tall(features: dict[str, Tensor], resolution: int, mode: Mode) -> Tensor:
    """Every pixel's vector, (n * R * R, D)."""
    images = range(len(features["b4"]))
    stack = torch.stack([concatenated([f[n] for f in features.values()], resolution, mode) for n in images])
    return stack.permute(0, 2, 3, 1).flatten(0, 2)


@pytest.mark.parametrize(
    ("mode", "resolution", "dtype"),
    list(itertools.product(["bilinear", "nearest"], [16, 12, 32], [torch.float32, torch.float16])),
)
def test_gathered_pixels_are_those_of_the_tall_tensor(mode: Mode, resolution: int, dtype: torch.dtype) -> None:
    features = maps()
    table = FeatureTable.build([features], 3, resolution, mode, dtype=dtype)
    pixels = torch.randint(0, 3 * resolution**2, (2, 40), generator=torch.Generator().manual_seed(0))
    expected = (tall(features, resolution, mode)[pixels] - table.mean) / table.deviation
    tolerance = 1e-4 if dtype == torch.float32 else 6e-3
    assert (table.gather(pixels) - expected).abs().max() < tolerance


def test_batches_make_the_same_table_as_one() -> None:
    features = maps()
    one = FeatureTable.build([features], 3, 16)
    parts = FeatureTable.build(({k: f[i : i + 1] for k, f in features.items()} for i in range(3)), 3, 16)
    for table in (one, parts):
        means = torch.cat([f.mean((0, 2, 3)) for f in features.values()])
        deviations = torch.cat([f.std((0, 2, 3), correction=0) for f in features.values()])
        assert torch.allclose(table.mean, means, rtol=1e-3, atol=2e-3)
        assert torch.allclose(table.deviation, deviations, rtol=2e-3)
    pixels = torch.arange(3 * 256)
    assert (one.gather(pixels) - parts.gather(pixels)).abs().max() < 1e-2


def test_half_precision_halves_the_memory_and_keeps_large_numbers() -> None:
    features = maps()
    table = FeatureTable.build([features], 3, 16)
    stored = sum(run.numel() * run.element_size() for run in table.runs)
    assert stored * 2 == sum(f.numel() * f.element_size() for f in features.values())
    raw = table.features(2)
    assert list(raw) == list(features)
    for name, feature in features.items():
        assert (raw[name] - feature[2:3]).abs().max() < 2e-3 * feature.abs().max()


def test_a_subset_shows_some_images_and_copies_nothing() -> None:
    table = FeatureTable.build([maps()], 3, 16)
    part = table.subset([2, 0])
    assert len(part) == 2
    assert part.runs is table.runs
    pixels = torch.arange(256)
    assert torch.equal(part.gather(pixels), table.gather(pixels + 2 * 256))
    assert torch.equal(part.subset([1]).gather(pixels), table.gather(pixels))
    assert torch.equal(part.features(0)["b32"], table.features(2)["b32"])


def test_raw_numbers_can_be_kept() -> None:
    features = {"b4": maps()["b4"]}
    table = FeatureTable.build([features], 3, 4, standardise=False)
    expected = features["b4"].permute(0, 2, 3, 1).flatten(0, 2)
    assert (table.gather(torch.arange(48)) - expected).abs().max() < 6e-3
    assert table.mean.eq(0).all()
    assert table.deviation.eq(1).all()


def test_bad_features_are_refused() -> None:
    features = maps()
    with pytest.raises(InputError, match="2 label maps, but feature map b4 holds 3 images"):
        FeatureTable.build([features], 2, 16)
    with pytest.raises(InputError, match="4 label maps, but feature maps of 3 images"):
        FeatureTable.build([features], 4, 16)
    with pytest.raises(InputError, match="0 images"):
        FeatureTable.build([], 1, 16)
    with pytest.raises(InputError, match="b8a holds 2 images, another one 3"):
        FeatureTable.build([features | {"b8a": features["b8a"][:2]}], 3, 16)
    features["b8a"][1, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        FeatureTable.build([features], 3, 16)
