"""Places that no view shows: which they are, and what is painted there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganfoundry.images import network_images
from ganfoundry.render.cameras import Cameras
from ganfoundry.shape.assets import assets_of
from ganfoundry.shape.camera_table import CameraTable
from ganfoundry.shape.hidden import paint_hidden, painted_from, shown_share
from ganfoundry.shape.inverse_graphics import read
from ganfoundry.shape.inverse_model import InverseModel, save_model
from ganfoundry.shape.inverse_training import InverseTrainer, InverseTraining
from ganfoundry.shape.multiview import MultiView
from ganfoundry.shape.networks import InverseGraphicsNetwork, NetworkConfig
from tests.ganfoundry.shape.carhelp import WHEEL, toy_network
from tests.ganfoundry.shape.toys import toy_views

NETWORK = NetworkConfig(num_parts=3, num_keypoints=2, level=2, width=8, code=32, basis=4)
HEIGHT, WIDTH = NETWORK.texture


@pytest.fixture(scope="module")
def views() -> MultiView:
    return toy_views()


def lower_half_hidden() -> torch.Tensor:
    return (torch.arange(HEIGHT) < HEIGHT // 2)[:, None].expand(HEIGHT, WIDTH)


@given(st.integers(0, 2**16 - 1), st.integers(0, 1000))
def test_a_hidden_texel_takes_the_nearest_that_is_shown(pattern: int, seed: int) -> None:
    shown = torch.tensor([bool(pattern >> bit & 1) for bit in range(16)]).view(2, 8)
    points = torch.from_numpy(np.random.default_rng(seed).random((2, 8, 3), np.float32))
    source, flat = painted_from(shown, points), points.view(-1, 3)
    for texel in range(16):
        found = int(source.view(-1)[texel])
        if shown.view(-1)[texel] or not shown.any():
            assert found == texel
            continue
        distances = {other: float((flat[other] - flat[texel]).norm()) for other in range(16) if shown.view(-1)[other]}
        assert distances[found] == pytest.approx(min(distances.values()), abs=1e-6)


def test_what_is_shown_keeps_its_paint_and_the_rest_takes_the_named_part() -> None:
    """Row 0 is shown: two texels of class 1 (red and dark red), two of class 0 (blue); row 1 is hidden."""
    colours = torch.zeros(1, 3, 2, 4)
    colours[0, 0, 0, :2] = torch.tensor([1.0, 0.5])
    colours[0, 2, 0, 2:] = 1.0
    colours[0, :, 1] = -1.0
    parts = torch.zeros(1, 2, 2, 4)
    parts[0, 1, 0, :2] = 3.0
    parts[0, 0, 0, 2:] = 3.0
    parts[0, 1, 1] = 5.0  # what the network says of hidden places does not count
    source = torch.tensor([[0, 1, 2, 3], [0, 0, 2, 3]])
    found, labels = paint_hidden(colours, parts, source, None)
    assert torch.equal(found[0, :, 1], colours[0, :, 0, [0, 0, 2, 3]])
    assert torch.equal(labels[0, :, 1], parts[0, :, 0, [0, 0, 2, 3]])
    found, labels = paint_hidden(colours, parts, source, 1)
    assert labels[0, :, 1].argmax(0).tolist() == [1, 1, 1, 1]
    assert torch.allclose(found[0, :, 1], torch.tensor([0.75, 0.0, 0.0])[:, None].expand(3, 4))
    for values, given_values in ((found, colours), (labels, parts)):
        assert torch.equal(values[:, :, 0], given_values[:, :, 0])
    parts[0, 1] = -9.0  # nothing of class 1 is shown: the colours of the nearest
    found, labels = paint_hidden(colours, parts, source, 1)
    assert torch.equal(found[0, :, 1], colours[0, :, 0, [0, 0, 2, 3]])
    assert labels[0, :, 1].argmax(0).tolist() == [1, 1, 1, 1]


def test_views_from_one_side_show_that_side(views: MultiView) -> None:
    """Cameras at +30 and +330 degrees see the front; none sees the back or, from this low, the bottom."""
    front = views.take(np.isin(views.codes, (0,)))
    config = replace(NETWORK, symmetric_texture=False)
    network = InverseGraphicsNetwork(config)
    table = CameraTable(views.azimuths, 0, config.distance, config.fov, fixed=True)
    share = shown_share(network, table, front)
    assert share.shape == (HEIGHT, WIDTH)
    assert 0 <= float(share.min()) <= float(share.max()) <= 1
    middle = share[HEIGHT // 2]
    assert float(middle[WIDTH // 2 - 8 : WIDTH // 2 + 8].min()) > 0.9  # u = 1/2 is the front
    assert float(middle[:8].max()) == float(middle[-8:].max()) == 0
    assert float(share[-4:].max()) == 0
    side = shown_share(network, table, views.take(views.codes == 1))  # azimuth 60: more of the left side
    mirrored = shown_share(InverseGraphicsNetwork(NETWORK), table, views.take(views.codes == 1))
    assert float(side[HEIGHT // 2, WIDTH // 4]) != float(side[HEIGHT // 2, 3 * WIDTH // 4 - 1])
    assert torch.equal(mirrored, mirrored.flip(1))


def test_a_network_paints_hidden_places_as_it_was_told(views: MultiView) -> None:
    network = InverseGraphicsNetwork(replace(NETWORK, hidden_part=2))
    images = network_images(views.images[:2])
    camera = Cameras.from_angles([0.0, 60.0], 5.0, 4.0)
    with torch.no_grad():
        before = read(network, images, camera).surface
        assert not network.hidden.any()
        shown = lower_half_hidden()
        network.hide(shown)
        after = read(network, images, camera).surface
    assert torch.equal(network.hidden, ~shown)
    assert torch.equal(before.colours[:, :, : HEIGHT // 2], after.colours[:, :, : HEIGHT // 2])
    assert torch.equal(before.parts[:, :, : HEIGHT // 2], after.parts[:, :, : HEIGHT // 2])
    assert (after.parts[:, :, HEIGHT // 2 :].argmax(1) == 1).all()


def test_hidden_places_are_kept_in_the_file(views: MultiView, tmp_path: Path) -> None:
    """8,192 texels: their numbers would not survive half precision."""
    trainer = InverseTrainer(NETWORK, InverseTraining(steps=1, objects=2, bf16=False), views)
    trainer.find_hidden()
    hidden = trainer.network.hidden
    assert 0.1 < float(hidden.float().mean()) < 0.9
    assert hidden[-1].all()
    palette = np.zeros((3, 3), np.uint8)
    save_model(tmp_path, trainer, palette, {})
    network = InverseModel.load(tmp_path).network
    assert torch.equal(network.paint_source, trainer.network.paint_source)
    assert network.config.hidden_part is None


def test_wheels_are_not_looked_for_in_hidden_places(tmp_path: Path) -> None:
    """The underside is said to be of the wheels' class: four wheels are found all the same, and it is not lost."""
    model = InverseModel.load(toy_network(tmp_path / "network"))
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    (plain,) = assets_of(model, model.read(images))
    model.network.config = replace(model.network.config, hidden_part=WHEEL)
    rows = torch.arange(model.network.paint_source.shape[0])
    model.network.hide((rows < 0.7 * len(rows))[:, None].expand_as(model.network.paint_source))
    (found,) = assets_of(model, model.read(images))
    assert plain.rig is not None
    assert found.rig is not None
    assert found.rig.wheels.front == pytest.approx(plain.rig.wheels.front, abs=0.05)
    assert found.rig.wheels.radius == pytest.approx(plain.rig.wheels.radius, rel=0.1)
    assert (found.face_parts == WHEEL).sum() > (plain.face_parts == WHEEL).sum()
