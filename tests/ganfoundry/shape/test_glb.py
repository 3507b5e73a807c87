"""GLB files: read back byte by byte, by another library, and by the Khronos validator where it is installed."""

import io
import json
import os
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganfoundry.errors import InputError, RunError
from ganfoundry.shape.glb import Asset, glb_bytes, write_glb
from ganfoundry.shape.rigging import Wheels
from ganfoundry.shape.template import sphere_template
from ganfoundry.shape.wheels import Rig
from tests.ganfoundry.shape.carhelp import WHEEL, toy_asset

PARTS = ("background", "body", "windscreen", "wheel", "headlamp")
VALIDATE = """
const validator = require('gltf-validator');
const data = new Uint8Array(require('fs').readFileSync(process.argv[1]));
validator.validateBytes(data, {maxIssues: 100}).then(r => console.log(JSON.stringify(r.issues)));
"""


@pytest.fixture
def asset() -> Asset:
    template = sphere_template(2)
    height = template.vertices[template.faces].mean(1)[:, 1]
    rng = np.random.default_rng(0)
    return Asset(
        vertices=template.vertices * np.array([0.9, 0.7, 2.1]),
        faces=template.faces,
        uv=template.uv,
        face_uv=template.face_uv,
        texture=rng.integers(0, 256, (32, 64, 3), dtype=np.uint8),
        face_parts=np.digitize(height, [-0.6, 0.3, 0.8]) + 1,
        part_names=PARTS,
        keypoints={"front": (0.0, 0.1, 2.1), "top": (0.0, 0.7, 0.0)},
        finishes={"windscreen": "glass", "wheel": "rubber", "headlamp": "lamp"},
        extras={"generator_sha256": "ab" * 32},
    )


def parse(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack("<I4s", data[12:20])
    assert (kind, size % 4) == (b"JSON", 0)
    start = 20 + size
    rest, kind = struct.unpack("<I4s", data[start : start + 8])
    assert kind == b"BIN\0"
    assert start + 8 + rest == len(data)
    return json.loads(data[20:start]), data[start + 8 :]


def array(document: dict[str, Any], binary: bytes, index: int) -> np.ndarray:
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    kind = {5126: np.float32, 5123: np.uint16, 5125: np.uint32}[accessor["componentType"]]
    columns = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
    data = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    return np.frombuffer(data, kind).reshape(accessor["count"], columns)


def test_every_face_comes_back_with_its_place_texture_and_part(asset: Asset) -> None:
    document, binary = parse(glb_bytes(asset))
    primitives = document["meshes"][0]["primitives"]
    names = [document["materials"][p["material"]]["name"] for p in primitives]
    assert names == ["body", "windscreen", "wheel", "headlamp"]
    for primitive, name in zip(primitives, names, strict=True):
        part = PARTS.index(name)
        found = {key: array(document, binary, index) for key, index in primitive["attributes"].items()}
        corners = array(document, binary, primitive["indices"]).ravel()
        chosen = asset.face_parts == part
        assert np.array_equal(
            found["POSITION"][corners], asset.vertices[asset.faces[chosen].ravel()].astype(np.float32)
        )
        assert np.array_equal(found["TEXCOORD_0"][corners], asset.uv[asset.face_uv[chosen].ravel()])
        assert (found["_PART"] == part).all()
        assert np.abs(np.linalg.norm(found["NORMAL"], axis=1) - 1).max() < 1e-5
        outwards = (found["NORMAL"] * found["POSITION"]).sum(1)
        assert (outwards > 0).all()
        bounds = document["accessors"][primitive["attributes"]["POSITION"]]
        assert bounds["min"] == found["POSITION"].min(0).tolist()
        assert bounds["max"] == found["POSITION"].max(0).tolist()


def test_texture_keypoints_and_materials(asset: Asset) -> None:
    document, binary = parse(glb_bytes(asset, "car"))
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    stored = Image.open(io.BytesIO(binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]))
    assert np.array_equal(np.asarray(stored), asset.texture)
    root, *points = document["nodes"]
    assert root["name"] == "car"
    assert [points[i - 1]["name"] for i in root["children"]] == ["kp:front", "kp:top"]
    assert np.allclose(points[0]["translation"], [0.0, 0.1, 2.1])
    assert points[0]["extras"] == {"keypoint": "front"}
    materials = {m["name"]: m for m in document["materials"]}
    assert materials["windscreen"]["alphaMode"] == "BLEND"
    assert materials["windscreen"]["pbrMetallicRoughness"]["baseColorFactor"][3] < 1
    assert materials["headlamp"]["emissiveFactor"] == [1, 1, 1]
    assert max(materials["wheel"]["pbrMetallicRoughness"]["baseColorFactor"][:3]) < 0.5
    assert "alphaMode" not in materials["body"]
    assert [name for name, material in materials.items() if not material.get("doubleSided")] == ["windscreen"]
    assert materials["headlamp"]["emissiveTexture"] == {"index": 0}
    assert "emissiveFactor" not in materials["body"]
    assert document["asset"]["extras"]["generator_sha256"] == "ab" * 32
    assert document["samplers"][0]["wrapS"] == 10497


def test_the_same_asset_gives_the_same_bytes(asset: Asset) -> None:
    assert glb_bytes(asset) == glb_bytes(replace(asset))


def test_large_meshes_have_wide_indices(asset: Asset) -> None:
    count = 70_000
    rng = np.random.default_rng(0)
    faces = np.arange(count * 3).reshape(-1, 3)
    large = replace(
        asset, vertices=rng.random((count * 3, 3)), faces=faces, uv=rng.random((count * 3, 2)), face_uv=faces,
        face_parts=np.ones(count, int),
    )  # fmt: skip
    document, binary = parse(glb_bytes(large))
    indices = array(document, binary, document["meshes"][0]["primitives"][0]["indices"])
    assert indices.dtype == np.uint32
    assert indices.max() == count * 3 - 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"faces": np.zeros((0, 3), int)}, "no faces"),
        ({"vertices": np.full((162, 3), np.nan)}, "not finite"),
        ({"face_parts": np.zeros(3, int)}, "parts for 3"),
        ({"face_parts": np.full(320, 9)}, "part 9 has no name"),
    ],
)
def test_bad_meshes_are_refused(asset: Asset, change: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        replace(asset, **change)


def test_a_file_that_cannot_be_written_is_a_sentence(asset: Asset, tmp_path: Path) -> None:
    write_glb(tmp_path / "car.glb", asset)
    assert parse((tmp_path / "car.glb").read_bytes())[0]["nodes"][0]["name"] == "car"
    with pytest.raises(RunError, match="cannot write"):
        write_glb(tmp_path / "none" / "car.glb", asset)


@pytest.fixture
def rigged_asset() -> Asset:
    wheels = Wheels(front=0.55, rear=-0.5, height=-0.14, outer=0.38, radius=0.15, width=0.1)
    return toy_asset(rig=Rig(wheels, {"tyre": (0.1, 0.1, 0.1), "rim": (0.7, 0.7, 0.7)}, WHEEL))


def turned(node: dict[str, Any], document: dict[str, Any], binary: bytes, name: str, key: int) -> np.ndarray:
    """Rotation matrix of a node at a key of an animation."""
    animation = next(a for a in document["animations"] if a["name"] == name)
    number = document["nodes"].index(node)
    channel = next(c for c in animation["channels"] if c["target"] == {"node": number, "path": "rotation"})
    x, y, z, w = array(document, binary, animation["samplers"][channel["sampler"]]["output"])[key].astype(float)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_wheels_are_nodes_that_roll_forwards_and_steer(rigged_asset: Asset) -> None:
    document, binary = parse(glb_bytes(rigged_asset, "car"))
    nodes = {node["name"]: node for node in document["nodes"]}
    assert rigged_asset.rig is not None
    wheels = rigged_asset.rig.wheels
    for name, hub in wheels.hubs.items():
        assert np.allclose(nodes[f"hub_{name}"]["translation"], hub)
        (child,) = nodes[f"hub_{name}"]["children"]
        assert document["nodes"][child] is nodes[f"wheel_{name}"]
        assert document["nodes"].index(nodes[f"hub_{name}"]) in nodes["car"]["children"]
    assert len({nodes[f"wheel_{name}"]["mesh"] for name in wheels.hubs}) == 1  # one mesh for all four
    quarter = turned(nodes["wheel_rear_left"], document, binary, "spin", 1)
    assert np.allclose(quarter @ [0, 1, 0], [0, 0, 1], atol=1e-6)  # the top moves to the front
    left = turned(nodes["hub_front_right"], document, binary, "steer", 1)
    assert (left @ [0, 0, 1])[0] > 0.4  # +X is the left
    steered = next(a for a in document["animations"] if a["name"] == "steer")
    assert len(steered["channels"]) == 2
    turns = array(document, binary, document["animations"][0]["samplers"][0]["output"])
    assert np.abs(np.linalg.norm(turns, axis=1) - 1).max() < 1e-6
    mesh = document["meshes"][nodes["wheel_front_left"]["mesh"]]
    places = np.concatenate([array(document, binary, p["attributes"]["POSITION"]) for p in mesh["primitives"]])
    assert np.abs(places.max(0) + places.min(0)).max() < 1e-6  # about the hub
    assert np.hypot(places[:, 1], places[:, 2]).max() == pytest.approx(wheels.radius, abs=1e-6)
    colours = {
        m["name"]: m["pbrMetallicRoughness"]["baseColorFactor"] for m in document["materials"] if m["name"] == "rim"
    }
    assert colours["rim"][:3] == pytest.approx([0.448] * 3, abs=0.001)  # sRGB .7, as factors are linear


@pytest.mark.parametrize("kind", ["plain", "rigged"])
def test_the_khronos_validator_finds_nothing(kind: str, asset: Asset, rigged_asset: Asset, tmp_path: Path) -> None:
    """Needs node and `npm install gltf-validator` where NODE_PATH points."""
    node = shutil.which("node")
    check = node and subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True, env=os.environ)
    if not check or check.returncode:
        pytest.skip("node with gltf-validator is not installed")
    write_glb(tmp_path / "car.glb", asset if kind == "plain" else rigged_asset)
    found = subprocess.run(
        [str(node), "-e", VALIDATE, str(tmp_path / "car.glb")], capture_output=True, check=True, text=True
    )
    issues = json.loads(found.stdout)
    assert [issues[key] for key in ("numErrors", "numWarnings", "numInfos", "numHints")] == [0] * 4, issues
