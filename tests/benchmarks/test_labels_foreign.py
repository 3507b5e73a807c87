"""Cars made by others: a car of boxes in the package's format, and the package itself where it is installed."""

import zipfile

import numpy as np
import pytest

from benchmarks import _labels_foreign as foreign
from ganfoundry.errors import InputError
from ganfoundry.render.camera import Camera
from ganfoundry.worlds.car_parts import CAR_SCHEMA

NAMES = CAR_SCHEMA.names("parts5")
BODY, GLASS, LAMP, WHEEL = (NAMES.index(name) for name in ("body", "glass", "lamp", "wheel"))
MTL = "newmtl paint\nKd 0.8 0.1 0.1\nnewmtl tires\nKd 0 0 0\n"
QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))


def obj_car() -> str:
    """4.4 long, in centimetres and facing -Z: box, cabin of glass, four tyres, lamps whose names tell the ends."""
    lines: list[str] = []
    count = 0

    def box(material: str, middle: tuple[float, float, float], size: tuple[float, float, float]) -> None:
        nonlocal count
        lines.append(f"usemtl {material}")
        for corner in np.ndindex(2, 2, 2):
            lines.append("v " + " ".join(str(m + (c - 0.5) * s) for m, c, s in zip(middle, corner, size, strict=True)))
        lines.extend("f " + " ".join(f"{index + 1 + count}/1/1" for index in quad) for quad in QUADS)
        count += 8

    box("paint", (0, 70, 0), (170, 60, 440))
    box("GLASS_window", (0, 120, 0), (150, 40, 200))
    for x in (-80, 80):
        for z in (-140, 140):
            box("tires", (x, 32, z), (20, 64, 64))
        box("Headlights", (0.7 * x, 80, -221), (30, 15, 4))
        box("Taillights", (0.7 * x, 80, 221), (30, 15, 4))
    return "\n".join(lines)


@pytest.fixture
def car(tmp_path):
    with zipfile.ZipFile(tmp_path / "cars.zip", "w") as files:
        files.writestr("a/car/car.obj", obj_car())
        files.writestr("a/car/car.mtl", MTL)
    with zipfile.ZipFile(tmp_path / "cars.zip") as files:
        return foreign.load_car(files, "a/car/car.obj", 4.4, CAR_SCHEMA)


def test_a_car_is_turned_measured_and_named(car):
    assert car.mesh.bounds[:, 2] == pytest.approx([-2.23, 2.23], abs=0.02)
    points = dict(zip(CAR_SCHEMA.keypoints, car.keypoints, strict=True))
    assert points["front_wheel_left"] == pytest.approx([0.9, -0.38, 1.4], abs=0.03)  # the outer face, as in the world
    assert points["rear_wheel_right"] == pytest.approx([-0.9, -0.38, -1.4], abs=0.03)
    assert points["headlamp_left"] == pytest.approx([0.56, 0.1, 2.21], abs=0.06)
    known = {name for name, told in zip(CAR_SCHEMA.keypoints, car.known, strict=True) if told}
    assert known == {
        f"{a}_{b}" for a in ("front_wheel", "rear_wheel", "headlamp", "tail_lamp") for b in ("left", "right")
    }
    centres = car.mesh.vertices[car.mesh.faces].mean(1)
    top = car.mesh.face_parts[centres[:, 1] > 0.55]
    assert set(top) == {GLASS}
    assert set(car.mesh.face_parts) == {BODY, GLASS, LAMP, WHEEL}
    assert car.materials[:, :3].max() == pytest.approx(0.8)


def test_its_picture_has_labels_where_it_is(car):
    sample = foreign.render_car(car, 3, 64, CAR_SCHEMA)
    assert sample.image.shape == (64, 64, 3)
    assert set(np.unique(sample.parts)) <= {0, BODY, GLASS, LAMP, WHEEL}
    assert 0.05 < (sample.parts > 0).mean() < 0.6
    again = foreign.render_car(car, 3, 64, CAR_SCHEMA)
    assert np.array_equal(sample.image, again.image)


def test_keypoints_of_the_near_side_are_visible_and_of_the_far_side_hidden(car, monkeypatch):
    camera = Camera(azimuth=90.0, elevation=10.0, distance=12.0, resolution=64)  # sees the car's left side
    monkeypatch.setattr(foreign, "sample_camera", lambda rng, resolution: camera)
    points = dict(zip(CAR_SCHEMA.keypoints, foreign.render_car(car, 3, 64, CAR_SCHEMA).keypoints[0], strict=True))
    for wheel in ("front_wheel", "rear_wheel"):
        assert points[f"{wheel}_left"][2] == 2
        assert points[f"{wheel}_right"][2] == 1


@pytest.mark.parametrize(
    ("material", "wanted"),
    [
        ("GLASS_headlights", LAMP),
        ("rear-lights", LAMP),
        ("glass", GLASS),
        ("cristales", GLASS),
        ("sweethome3d_window_mirror", BODY),
        ("GLASS_mirror", BODY),
        ("carPaint", BODY),
        ("car-number", BODY),
        ("interior", foreign.UNKNOWN),
        ("textured", foreign.UNKNOWN),
    ],
)
def test_materials(material, wanted):
    assert foreign.class_of(material, NAMES) == wanted


def test_without_the_package(tmp_path):
    assert not foreign.installed(tmp_path)
    with pytest.raises(InputError, match="install the Debian package"):
        foreign.load_cars(CAR_SCHEMA, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not foreign.installed(), reason="sweethome3d-furniture is not installed")
def test_the_package_itself():
    cars = foreign.load_cars(CAR_SCHEMA)
    assert len(cars) == 13
    assert all(car.known[:4].all() for car in cars)  # the wheels of all
    found = foreign.foreign_examples(CAR_SCHEMA, 26, 64)
    known = found.label[(found.label > 0) & (found.label < 255)]
    share = np.bincount(known, minlength=5)[1:] / len(known)
    assert share[BODY - 1] > 0.5
    assert share[GLASS - 1] > 0.08
    assert share[WHEEL - 1] > 0.04
    assert (found.label == 255).mean() < 0.03
    assert (found.keypoints[..., 2] > 0).sum(1).mean() > 3
