import json
from dataclasses import replace

import pytest
import torch

from ganfoundry.detect.mask_rcnn import (
    WEIGHTS_NAME,
    DetectorConfig,
    PyramidBackbone,
    build_detector,
    load_detector,
    save_detector,
)
from ganfoundry.errors import InputError

TINY = DetectorConfig(
    stem_channels=4, channels=(4, 8, 8), blocks=(1, 1, 1), pyramid_channels=8, side=32, box_features=8
)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    net = build_detector(TINY)
    digest = save_detector(tmp_path / "weights", net, TINY, {"data": "none"})
    return tmp_path / "weights", net, digest


def test_pyramid_strides():
    levels = PyramidBackbone(TINY).eval()(torch.zeros(2, 3, 64, 64))
    assert {name: tuple(level.shape[1:]) for name, level in levels.items()} == {
        "0": (8, 16, 16),
        "1": (8, 8, 8),
        "2": (8, 4, 4),
        "pool": (8, 2, 2),
    }


def test_bfloat16_stays_close_and_returns_float32():
    torch.manual_seed(0)
    backbone = PyramidBackbone(TINY).eval()
    x = torch.randn(1, 3, 64, 64)
    exact = backbone(x)["0"]
    backbone.precision = torch.bfloat16
    coarse = backbone(x)["0"]
    assert coarse.dtype == torch.float32
    assert 0 < (coarse - exact).abs().max() < 0.05 * exact.abs().max()


def test_saved_detector_comes_back_rounded_to_half(saved):
    folder, net, digest = saved
    loaded = load_detector(folder)
    assert loaded.config == TINY
    assert loaded.sha256 == digest == json.loads((folder / "card.json").read_text())["sha256"]
    assert not loaded.net.training
    before, after = net.state_dict(), loaded.net.state_dict()
    for name, value in before.items():
        if value.is_floating_point():
            assert torch.equal(after[name], value.half().float()), name


def test_saving_is_reproducible(saved, tmp_path):
    _, net, digest = saved
    assert save_detector(tmp_path / "again", net, TINY, {}) == digest


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
@pytest.mark.parametrize("with_card", [True, False])
def test_damaged_weights(saved, damage, with_card):
    folder, _, _ = saved
    file = folder / WEIGHTS_NAME
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[12] ^= 0x40  # in the header: without a card, a flip among the numbers cannot be seen
    file.write_bytes({"flip": bytes(content), "truncate": bytes(content[:-100]), "empty": b""}[damage])
    if not with_card:
        (folder / "card.json").unlink()
    with pytest.raises(InputError, match=WEIGHTS_NAME) as caught:
        load_detector(folder)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_refused(saved):
    folder, net, _ = saved
    save_detector(folder, net, replace(TINY, pyramid_channels=16), {})
    with pytest.raises(InputError, match="do not fit their own description"):
        load_detector(folder)


def test_weights_of_another_kind_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="does not hold a detector"):
        load_detector(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="there are no detector weights"):
        load_detector(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("text", ["{", "[1]", '{"colour": 1}'])
def test_unreadable_description(text):
    with pytest.raises(InputError, match="train it again"):
        DetectorConfig.from_json(text)
    assert DetectorConfig.from_json(TINY.to_json()) == TINY
