"""From what a network reads off images to assets, OBJ files, and pictures from all sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ganfoundry.gan.train_data import write_atomically
from ganfoundry.images import stored_images
from ganfoundry.pictures import png_bytes
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.renderer import render
from ganfoundry.shape.glb import CAR_FINISHES, Asset, base_colour
from ganfoundry.shape.inverse_graphics import Reading
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.rigging import find_wheels
from ganfoundry.shape.template import Template, sphere_template
from ganfoundry.shape.uv import TexelMap
from ganfoundry.shape.wheels import Body, Colour, Rig, halve_around, open_body, wheel_pieces

LENGTH = 4.42
"""Metres: mean length of the cars of `ganfoundry.worlds.cars`."""
WHEEL = "wheel"  # name of the part that wheels are made of
TURNS = 8
_ELEVATION = 15.0
_DARKEST, _BRIGHTEST = 0.15, 0.95  # shares of the wheels' texels, by brightness: rubber and metal
_RUBBER = 0.16  # at most; what is brighter is glare
_METAL = 0.45  # at least, lest one cannot see the wheels turn


def face_parts(painted: NDArray[np.integer], uv: NDArray[np.floating]) -> NDArray[np.int64]:
    """Part of every face: the one painted at its middle.

    Parameters
    ----------
    painted : ndarray, int (H, W)
        Part of each texel.
    uv : ndarray, (F, 3, 2)
        Texture coordinates of the faces' corners; u goes round.

    Returns
    -------
    ndarray, int64 (F,)
    """
    return _painted_at(painted, uv.mean(1))


def _painted_at(painted: NDArray[np.integer], places: NDArray[np.floating]) -> NDArray[np.int64]:
    height, width = painted.shape
    column = np.floor(places[..., 0] * width).astype(np.int64) % width
    row = np.clip((places[..., 1] * height).astype(np.int64), 0, height - 1)
    found: NDArray[np.int64] = painted[row, column].astype(np.int64)
    return found


def painted_body(vertices: NDArray[np.floating], template: Template, painted: NDArray[np.integer]) -> Body:
    """A mesh of the template's topology with the parts of its faces; where parts meet, faces are four times smaller."""
    uv = template.uv[template.face_uv]
    parts = face_parts(painted, uv)
    inner = (2 * uv.mean(1, keepdims=True) + uv) / 3  # towards the corners
    mixed = (_painted_at(painted, inner) != parts[:, None]).any(1)
    body = halve_around(Body(vertices, template.faces, template.uv, template.face_uv, parts), mixed)
    return replace(body, face_parts=face_parts(painted, body.uv[body.face_uv]))


def assets_of(model: InverseModel, reading: Reading, length: float = LENGTH) -> list[Asset]:
    """One asset for each image that was read, parts and keypoints as the network knows them, wheels rigged.

    Parameters
    ----------
    model : InverseModel
    reading : Reading
        Of images that the model has read.
    length : float
        Metres from the front to the back of the model's typical shape. One factor scales all meshes, so that a long
        car stays longer than a short one.

    Returns
    -------
    list of Asset
        `extras["wheels"]` says "rigged", or why they are not; it is missing where the network knows no wheels.
    """
    template, texels = sphere_template(model.network.config.level), model.network.texels
    scale = length / typical_length(model)
    painted = 1 + reading.surface.parts.argmax(1).numpy()
    shown = ~model.network.hidden.numpy()  # an underside may be said to be of the wheels' class
    textures = stored_images(reading.surface.colours)
    vertices, points = scale * reading.shape.vertices.numpy(), scale * reading.shape.keypoints.numpy()
    assets = []
    for index in range(len(textures)):
        body = painted_body(vertices[index], template, painted[index])
        asset = Asset(
            **vars(body),
            texture=textures[index],
            part_names=model.part_names,
            keypoints={name: place.tolist() for name, place in zip(model.keypoint_names, points[index], strict=True)},
            finishes=CAR_FINISHES,
            extras={"generator_sha256": model.description.get("generator_sha256", "")},
        )
        if WHEEL in model.part_names:
            wheel = (painted[index] == list(model.part_names).index(WHEEL)) & shown
            places, areas = _surface(vertices[index], template, texels, wheel)
            asset = rigged(asset, places, areas, asset.texture[wheel])
        assets.append(asset)
    return assets


@torch.inference_mode()
def typical_length(model: InverseModel) -> float:
    """Length along z of the shape that a code of zeros stands for, in the model's unit."""
    config = model.network.config
    z = model.network.shape(torch.zeros(1, config.code)).vertices[0, :, 2]
    return float(z.max() - z.min())


def _surface(
    vertices: NDArray[np.floating], template: Template, texels: TexelMap, chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Surface points (M, 3) of chosen texels (H, W), and the area that each stands for."""
    face, weights = texels.face.numpy(), texels.barycentric.numpy()[chosen]
    corners = vertices[template.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    shared = areas / np.maximum(np.bincount(face.ravel(), minlength=len(areas)), 1)
    return (corners[face[chosen]] * weights[..., None]).sum(1), shared[face[chosen]]


def rigged(asset: Asset, points: NDArray[np.floating], areas: NDArray[np.floating], texels: NDArray[np.uint8]) -> Asset:
    """The asset with wheels of their own, where four are found.

    Parameters
    ----------
    asset : Asset
        One of its parts is `WHEEL`.
    points, areas : ndarray, (M, 3) and (M,)
        Where a wheel is painted; see `find_wheels`.
    texels : ndarray, uint8 (M, 3)
        In which colours.
    """
    keypoints = {name: np.asarray(place) for name, place in asset.keypoints.items()}
    wheels, reason = find_wheels(points, areas, asset.vertices, keypoints)
    if wheels is None:
        return replace(asset, extras={**asset.extras, "wheels": f"not rigged: {reason}"})
    part = list(asset.part_names).index(WHEEL)
    body = Body(asset.vertices, asset.faces, asset.uv, asset.face_uv, asset.face_parts)
    rig = Rig(wheels, wheel_colours(texels), part)
    opened = open_body(body, wheels, part)
    return replace(asset, **vars(opened), rig=rig, extras={**asset.extras, "wheels": "rigged"})


def wheel_colours(texels: NDArray[np.uint8]) -> dict[str, Colour]:
    """Colours of tyre and rim from the texels (M, 3) on which a wheel is painted: their darkest and brightest."""
    order = texels[np.argsort(texels.sum(1, dtype=int), kind="stable")] / 255
    found = [order[int(share * (len(order) - 1))] for share in (_DARKEST, _BRIGHTEST)]
    dark, bright = (0.3 * colour + 0.7 * colour.mean() for colour in found)  # wheels are grey; the rest is paint nearby
    return {
        "tyre": _triple(dark * min(1.0, _RUBBER / max(float(dark.max()), 1e-6))),
        "rim": _triple(np.maximum(bright, _METAL)),
    }


def _triple(colour: NDArray[np.floating]) -> Colour:
    return float(colour[0]), float(colour[1]), float(colour[2])


@dataclass(frozen=True, eq=False)
class Drawing:
    """A mesh as a renderer takes it: body and wheels in one, their colours in one texture."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int64]
    uv: NDArray[np.float32]
    face_uv: NDArray[np.int64]
    texture: NDArray[np.uint8]


def drawing(asset: Asset) -> Drawing:
    """Everything that an asset shows, for our renderer, which knows one texture and no materials.

    Rows are added below the texture, black for the insides of the wheel wells and plain for tyres and rims.
    """
    vertices, faces = [np.asarray(asset.vertices, np.float32)], [np.asarray(asset.faces, np.int64)]
    if asset.rig is None:
        uv, face_uv = np.asarray(asset.uv, np.float32), np.asarray(asset.face_uv, np.int64)
        return Drawing(vertices[0], faces[0], uv, face_uv, asset.texture)
    height = asset.texture.shape[0]
    rows = {"tyre": height + 4, "rim": height + 12}  # middles of two bands, eight rows high
    bands = [np.full((8, asset.texture.shape[1], 3), 255 * np.asarray(asset.rig.colours[kind])) for kind in rows]
    total = height + 16
    places = np.concatenate([asset.uv * [1, height / total], [[0.5, row / total] for row in rows.values()]])
    corners = [np.where((asset.face_parts == asset.rig.part)[:, None], len(asset.uv), asset.face_uv)]
    for place in asset.rig.wheels.hubs.values():
        for index, piece in enumerate(wheel_pieces(asset.rig.wheels.radius, asset.rig.wheels.width).values()):
            faces.append(piece.faces + sum(len(part) for part in vertices))
            vertices.append(piece.vertices + np.asarray(place, np.float32))
            corners.append(np.full(piece.faces.shape, len(asset.uv) + index))
    texture = np.concatenate([asset.texture, *(np.round(band).astype(np.uint8) for band in bands)])
    return Drawing(
        np.concatenate(vertices),
        np.concatenate(faces),
        places.astype(np.float32),
        np.concatenate(corners),
        texture,
    )


def write_obj(path: Path, asset: Asset) -> None:
    """Write NAME.obj, NAME.mtl and NAME.png: the same mesh, a group and a material a part, a group a wheel.

    OBJ's texture coordinates start in the lower left corner, so v is turned over. Its wheels stand still: it knows no
    nodes and no animations.

    Raises
    ------
    RunError
        If a file cannot be written.
    """
    lines = [f"mtllib {path.stem}.mtl", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in asset.vertices)]
    lines += [f"vt {u:.6f} {1 - v:.6f}" for u, v in asset.uv]
    materials = []
    for part in np.unique(np.asarray(asset.face_parts)):
        name = asset.part_names[int(part)]
        lines += [f"g {name}", f"usemtl {name}"]
        chosen = np.asarray(asset.face_parts) == part
        corners = np.stack([asset.faces[chosen], asset.face_uv[chosen]], 2).reshape(-1, 6) + 1
        lines += [f"f {a}/{d} {b}/{e} {c}/{f}" for a, d, b, e, c, f in corners.tolist()]
        red, green, blue, opacity = base_colour(asset.finishes.get(name, "matt"))
        materials += [f"newmtl {name}", f"Kd {red:g} {green:g} {blue:g}", f"d {opacity:g}", f"map_Kd {path.stem}.png"]
    if asset.rig is not None:
        lines += _obj_wheels(asset.rig, len(asset.vertices))
        for kind, (red, green, blue) in asset.rig.colours.items():
            materials += [f"newmtl {kind}", f"Kd {red:.4f} {green:.4f} {blue:.4f}"]
    write_atomically(path.with_suffix(".png"), png_bytes(asset.texture, optimize=False))
    write_atomically(path.with_suffix(".mtl"), ("\n".join(materials) + "\n").encode())
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def _obj_wheels(rig: Rig, count: int) -> list[str]:
    """Lines of the wheels; `count` vertices stand before them."""
    lines = []
    pieces = wheel_pieces(rig.wheels.radius, rig.wheels.width)
    for name, place in rig.wheels.hubs.items():
        for kind, piece in pieces.items():
            lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in (piece.vertices + np.asarray(place)).tolist()]
            lines += [f"g wheel_{name}", f"usemtl {kind}"]
            lines += [f"f {a} {b} {c}" for a, b, c in (piece.faces + count + 1).tolist()]
            count += len(piece.vertices)
    return lines


@torch.inference_mode()
def turntable(asset: Asset, size: int = 128) -> NDArray[np.uint8]:
    """Pictures of an asset from eight sides, front first, on white, (8, size, size, 3) uint8."""
    drawn = drawing(asset)
    span = float(np.ptp(drawn.vertices, axis=0)[[0, 2]].max())
    cameras = Cameras.from_angles([360.0 / TURNS * turn for turn in range(TURNS)], _ELEVATION, 2.4 * span, 30.0)
    texture = torch.from_numpy(drawn.texture).permute(2, 0, 1).float() / 255
    found = render(
        torch.from_numpy(drawn.vertices),
        torch.from_numpy(drawn.faces),
        cameras,
        size,
        texture=texture,
        uv=torch.from_numpy(drawn.uv),
        uv_faces=torch.from_numpy(drawn.face_uv),
        wrap_u=True,
    )
    assert found.image is not None
    composed = (found.image + 1 - found.mask[:, None]).clamp(0, 1)
    return (composed * 255).round().byte().permute(0, 2, 3, 1).numpy()
