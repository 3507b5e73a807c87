"""Parts of faces, wheels rigged, OBJ files that say what the GLB says, and both read back by trimesh."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ganfoundry.render.cameras import Cameras
from ganfoundry.render.renderer import render
from ganfoundry.shape.assets import assets_of, drawing, face_parts, painted_body, turntable, typical_length, write_obj
from ganfoundry.shape.glb import Asset, glb_bytes, write_glb
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.rigging import Wheels
from ganfoundry.shape.template import sphere_template
from ganfoundry.shape.wheels import Rig
from tests.ganfoundry.shape.carhelp import AXLES, PARTS, WHEEL, boxy, painted, toy_asset, toy_network

WHEELS = Wheels(front=0.55, rear=-0.5, height=-0.14, outer=0.42, radius=0.15, width=0.1)
RIG = Rig(WHEELS, {"tyre": (0.1, 0.1, 0.1), "rim": (0.7, 0.7, 0.7)}, WHEEL)


def test_a_face_has_the_part_painted_at_its_middle() -> None:
    """Part 1 on the left half of the body, 2 on the right, 3 on top of both."""
    template = sphere_template(3)
    parts = np.full((32, 64), 2)
    parts[:, 32:] = 1  # u > 0.5: the left side, +X
    parts[:4] = 3  # v < 1/8
    found = face_parts(parts, template.uv[template.face_uv])
    middle = template.vertices[template.faces].mean(1)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    angle = np.arccos(middle[:, 1])
    clear = (np.abs(angle - np.pi / 8) > 0.1) & (np.abs(middle[:, 0]) > 0.05)
    expected = np.where(angle < np.pi / 8, 3, np.where(middle[:, 0] > 0, 1, 2))
    assert np.array_equal(found[clear], expected[clear])
    assert set(found) == {1, 2, 3}


def test_parts_follow_the_paint_more_closely_where_they_meet() -> None:
    template, vertices = sphere_template(3), boxy()
    parts = painted(vertices)
    body = painted_body(vertices, template, parts)
    coarse = toy_asset()

    def wrong(uv: np.ndarray, face_uv: np.ndarray, found: np.ndarray) -> float:
        """Share of random points of the texture space that have another part than their face."""
        corners = uv[face_uv].astype(float)
        weights = np.random.default_rng(0).dirichlet([1, 1, 1], (len(corners), 50))
        places = np.einsum("fkc,fcd->fkd", weights, corners)
        at = parts[(places[..., 1] * 64).astype(int).clip(0, 63), np.floor(places[..., 0] * 128).astype(int) % 128]
        sides = corners[:, 1:] - corners[:, :1]
        area = np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0])
        return float(((at != found[:, None]).mean(1) * area).sum() / area.sum())

    fine = wrong(body.uv, body.face_uv, body.face_parts)
    assert fine < 0.65 * wrong(coarse.uv, coarse.face_uv, coarse.face_parts)
    assert len(body.faces) < 3 * len(template.faces)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> InverseModel:
    return InverseModel.load(toy_network(tmp_path_factory.mktemp("toy") / "network"))


def test_assets_are_in_metres_with_wheels_at_their_places(model: InverseModel) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    reading = model.read(images)
    metres = 4.42 / typical_length(model)
    for asset, vertices in zip(assets_of(model, reading), reading.shape.vertices.numpy(), strict=True):
        assert np.ptp(asset.vertices[:, 2]) == pytest.approx(metres * np.ptp(vertices[:, 2]), rel=1e-5)
        assert asset.extras["wheels"] == "rigged"
        assert asset.rig is not None
        assert abs(asset.rig.wheels.front / metres - AXLES[0]) < 0.05
        assert abs(asset.rig.wheels.rear / metres - AXLES[1]) < 0.05
        assert len(glb_bytes(asset)) < 300_000
    small = assets_of(model, reading, length=1.0)[0]
    assert np.ptp(small.vertices[:, 2]) == pytest.approx(np.ptp(vertices[:, 2]) * metres / 4.42, rel=0.05)


def test_networks_without_wheels_give_assets_without(model: InverseModel) -> None:
    renamed = replace(model, part_names=(*PARTS[:WHEEL], "paw"))
    reading = renamed.read(np.zeros((1, 64, 64, 3), np.uint8))
    (asset,) = assets_of(renamed, reading)
    assert asset.rig is None
    assert "wheels" not in asset.extras


def rows_of(path: Path) -> dict[str, list[list[str]]]:
    rows: dict[str, list[list[str]]] = {}
    for line in path.read_text().splitlines():
        kind, *values = line.split()
        rows.setdefault(kind, []).append(values)
    return rows


def test_obj_holds_the_same_mesh(tmp_path: Path) -> None:
    asset = toy_asset()
    write_obj(tmp_path / "car.obj", asset)
    rows = rows_of(tmp_path / "car.obj")
    assert np.allclose(np.array(rows["v"], float), asset.vertices, atol=1e-6)
    uv = np.array(rows["vt"], float)
    assert np.allclose(np.stack([uv[:, 0], 1 - uv[:, 1]], 1), asset.uv, atol=1e-6)
    pairs = np.array([[corner.split("/") for corner in face] for face in rows["f"]], int) - 1
    order = np.argsort(asset.face_parts, kind="stable")  # part by part
    assert np.array_equal(pairs[..., 0], asset.faces[order])
    assert np.array_equal(pairs[..., 1], asset.face_uv[order])
    material = (tmp_path / "car.mtl").read_text()
    assert material.count("map_Kd car.png") == 4
    assert material.count("d 0.7") == 1
    assert (tmp_path / "car.png").exists()


def test_wheels_are_groups_in_obj(tmp_path: Path) -> None:
    asset = toy_asset(rig=RIG)
    write_obj(tmp_path / "car.obj", asset)
    rows = rows_of(tmp_path / "car.obj")
    assert {name for (name,) in rows["g"] if name.startswith("wheel_")} == {f"wheel_{name}" for name in WHEELS.hubs}
    vertices = np.array(rows["v"], float)[len(asset.vertices) :].reshape(4, -1, 3)
    for places, hub in zip(vertices, WHEELS.hubs.values(), strict=True):
        assert np.allclose((places.min(0) + places.max(0)) / 2, hub, atol=1e-5)
    assert max(int(corner.split("/")[0]) for face in rows["f"] for corner in face) == len(rows["v"])
    assert "newmtl rim\nKd 0.7000 0.7000 0.7000" in (tmp_path / "car.mtl").read_text()


def picture(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, face_uv: np.ndarray, texture: np.ndarray):
    """By our renderer, from in front and above, (2, 96, 96, 3) in 0..255."""
    found = render(
        torch.from_numpy(np.asarray(vertices, np.float32)),
        torch.from_numpy(np.asarray(faces, np.int64)),
        Cameras.from_angles([40.0, 190.0], 20.0, 5.0),
        96,
        texture=torch.from_numpy(texture.copy()).permute(2, 0, 1).float(),
        uv=torch.from_numpy(np.asarray(uv, np.float32)),
        uv_faces=torch.from_numpy(np.asarray(face_uv, np.int64)),
        wrap_u=True,
    )
    assert found.image is not None
    return found.image.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("ending", ["glb", "obj"])
def test_trimesh_reads_textures_that_render_the_same(ending: str, tmp_path: Path) -> None:
    """What another library makes of the file, drawn by our renderer, is what we drew before: within 1/255."""
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed (pip install -e '.[dev]')")
    asset = toy_asset(rig=RIG)
    path = tmp_path / f"car.{ending}"
    if ending == "glb":
        write_glb(path, asset)
    else:
        write_obj(path, asset)
    scene = trimesh.load_scene(path)
    parts, names, texture = [], set(), None
    for node in scene.graph.nodes_geometry:
        place, geometry = scene.graph[node]
        mesh = scene.geometry[geometry]
        material = mesh.visual.material
        names.add(getattr(material, "name", ""))
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        if image is None:
            continue
        found = np.asarray(image.convert("RGB"))
        assert np.array_equal(found, asset.texture)
        uv = np.asarray(mesh.visual.uv) * [1, -1] + [0, 1]  # trimesh's v grows upwards
        vertices = trimesh.transform_points(mesh.vertices, place)
        parts.append((vertices, np.asarray(mesh.faces), uv))
        texture = found
    assert names >= {"side", "windscreen", "headlamp", "wheel", "tyre", "rim"}
    assert texture is not None
    starts = np.cumsum([0, *(len(vertices) for vertices, _, _ in parts)])
    faces = np.concatenate([faces + start for (_, faces, _), start in zip(parts, starts[:-1], strict=True)])
    vertices = np.concatenate([vertices for vertices, _, _ in parts])
    uv = np.concatenate([uv for _, _, uv in parts])
    _, first, welded = np.unique(np.round(vertices, 5), axis=0, return_index=True, return_inverse=True)
    read = picture(vertices[first], welded.reshape(-1)[faces], uv, faces, texture)
    made = picture(asset.vertices, asset.faces, asset.uv, asset.face_uv, asset.texture)
    assert made.max() > 150
    assert np.abs(read - made).max() <= 1.0


def test_glb_wheels_stand_where_trimesh_puts_them(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed (pip install -e '.[dev]')")
    write_glb(tmp_path / "car.glb", toy_asset(rig=RIG))
    scene = trimesh.load_scene(tmp_path / "car.glb")
    for name, hub in WHEELS.hubs.items():
        assert np.allclose(scene.graph[f"wheel_{name}"][0][:3, 3], hub, atol=1e-6)


def test_pictures_show_the_body_and_the_wheels() -> None:
    rigged, plain = toy_asset(rig=RIG), toy_asset()
    assert drawing(plain).texture.shape == (64, 128, 3)
    assert len(drawing(rigged).vertices) > len(plain.vertices)
    shown = turntable(rigged, 128)
    assert shown.shape == (8, 128, 128, 3)
    assert (shown[:, :2] == 255).all()  # white around it
    side = shown[2].astype(int)
    rims = (np.abs(side - 178).max(2) < 25).sum()  # .7 of 255, seen at both axles
    assert rims > 20
    assert (np.abs(turntable(plain, 128)[2].astype(int) - 178).max(2) < 25).sum() < rims / 2


def test_colours_of_the_drawing_are_those_of_the_asset() -> None:
    asset: Asset = toy_asset(rig=RIG)
    drawn = drawing(asset)
    body = picture(asset.vertices, asset.faces, asset.uv, asset.face_uv, asset.texture)
    again = picture(drawn.vertices, drawn.faces, drawn.uv, drawn.face_uv, drawn.texture)
    roof = slice(20, 35)
    assert np.abs(body[0, roof] - again[0, roof]).max() <= 1.0
