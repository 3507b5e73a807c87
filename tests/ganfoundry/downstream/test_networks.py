from dataclasses import replace

import pytest
import torch

from ganfoundry.downstream import NetConfig, build_net
from ganfoundry.downstream.model import load_net, save_net
from ganfoundry.errors import InputError
from ganfoundry.gan import imagenet
from tests.ganfoundry.downstream.toys import toy_net


def outputs(net, side, count=2):
    net.eval()
    with torch.no_grad():
        return net(torch.zeros(count, 3, side, side))


def test_shapes_of_the_small_networks():
    assert outputs(build_net(toy_net("parts")), 32).shape == (2, 3, 32, 32)
    heat, visibility = outputs(build_net(toy_net("keypoints")), 32)
    assert (heat.shape, visibility.shape) == ((2, 2, 16, 16), (2, 2))


@pytest.mark.slow
@pytest.mark.parametrize(("side", "cells"), [(64, 32), (256, 64)])
def test_resnet101_keeps_the_resolution_of_small_images(side, cells):
    assert outputs(build_net(NetConfig("parts", ("a", "b"), "resnet101", resolution=side)), side, 1).shape[2:] == (
        side,
        side,
    )
    net = build_net(NetConfig("keypoints", ("a",), "resnet101", resolution=side))
    assert outputs(net, side, 1).heatmaps.shape == (1, 1, cells, cells)


def test_imagenet_features_at_a_quarter_of_the_side():
    pytest.importorskip("efficientnet_lite_pytorch")
    net = build_net(replace(toy_net("parts"), backbone="imagenet"))
    with torch.no_grad():
        assert net.backbone(torch.zeros(2, 3, 32, 32)).shape == (2, 152, 8, 8)
    reference = imagenet.load_efficientnet(64)
    found = dict(net.backbone.stem[0].named_parameters())["weight"]
    assert torch.equal(found, reference._conv_stem.weight)
    assert found.requires_grad


def test_without_the_optional_packages(monkeypatch):
    def missing(resolution):
        raise InputError("install them")

    monkeypatch.setattr(imagenet, "load_efficientnet", missing)
    with pytest.raises(InputError, match="install them"):
        build_net(replace(toy_net("parts"), backbone="imagenet"))


@pytest.mark.parametrize(
    "wrong", [{"task": "depth"}, {"backbone": "vgg"}, {"outputs": ()}, {"resolution": 20}, {"width": 0}]
)
def test_networks_that_cannot_be_built(wrong):
    with pytest.raises(InputError):
        replace(toy_net("parts"), **wrong)


def test_saved_and_loaded(tmp_path):
    net = build_net(toy_net("keypoints"), seed=3)
    save_net(tmp_path / "a.safetensors", net)
    save_net(tmp_path / "b.safetensors", net)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = load_net(tmp_path / "a.safetensors")
    assert again.config == net.config
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(again(x).heatmaps, net.eval()(x).heatmaps)


def test_files_that_are_no_network(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(InputError, match="cannot read"):
        load_net(path)
    save_net(path, build_net(toy_net("parts")))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="train it again"):
        load_net(path)
