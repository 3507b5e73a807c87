"""synthesize-3d: labelled views of objects, whose labels agree because one mesh makes them.

The generator makes an object from some of its viewpoint codes; the network of train-inverse-graphics reads one of these
pictures; the mesh then labels every view: parts, keypoints in 2D and 3D and which of them are hidden, mask, depth,
normals, texture coordinates, camera. At viewpoint codes the picture is the generator's own; from cameras at random it
is the drawn mesh. Meshes are stored once an object.

The shipped detector of the generator's class outlines the object in every generated picture. Objects whose mesh does
not cover the picture that it was read from are dropped, and single views where it does not cover theirs; change the two
limits and only that decision is made anew. Look at sheet.png.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.artifacts import Gan, InverseGraphics, LabelledSet3D, ViewCodes, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.data.shards import ShardReader
    from ganfoundry.labels.filtering import Selection
    from ganfoundry.shape.inverse_model import InverseModel
    from ganfoundry.shape.labelled_objects import ObjectFactory, Recipe

VERSION = 2
SHEET_OBJECTS = 4
SHEET_VIEWS = 4  # of each object, evenly spread over its rows
JUDGED_OBJECTS = 20  # for the figure label_consistency


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of synthesize-3d."""

    num_objects: int = param(100, "Objects to make, before poor ones are dropped.", min=1)
    code_views: int = param(
        8, "Viewpoint codes that show each object, evenly spread; pictures by the generator.", min=0
    )
    random_views: int = param(4, "Further cameras at random; pictures of the drawn mesh.", min=0)
    drawn: bool = param(False, "Show the drawn mesh at viewpoint codes, too, instead of the generator's picture.")
    min_iou: float = param(
        0.8,
        "Drop objects whose mesh and mask have a lower IoU in the picture that was read.",
        min=0,
        max=1,
        resumes=True,
    )
    min_view_iou: float = param(
        0.7, "Drop single generated views whose mesh and mask have a lower IoU.", min=0, max=1, resumes=True
    )
    detector: str = param(
        "", "Detector weights: a shipped name, a file or a folder; empty: that of the generator's world.", content=True
    )
    truncation: float = param(0.7, "Truncation psi of the content latents.", min=0.0, max=1.0)
    objects_per_shard: int = param(8, "Objects in one file; one worker makes one file at a time.", min=1)
    seed: int = param(1, "Root seed; objects are not those of generate-views with another seed.", min=0)


class Sources(NamedTuple):
    """Folders of what makes the rows, and a key that a worker that lives on tells them apart by."""

    gan: str
    views: str
    network: str
    detector: str
    key: str


@dataclass(frozen=True)
class Task:
    """Objects [first, stop), which make shard `index` of rows and of meshes: all that a worker needs to know."""

    sources: Sources
    out: str
    recipe: "Recipe"
    index: int
    first: int
    stop: int


def run(
    config: Config,
    gan: Gan,
    views: ViewCodes,
    inverse_graphics: InverseGraphics,
    out: Writer[LabelledSet3D],
    ctx: Context,
) -> None:
    """Make and label the objects, then decide which are kept.

    Payload: shards/ (a row a view), meshes/ (a row an object), topology/ (one row: faces and texture coordinates, the
    same for all meshes), labels.json, selection.json, sheet.png, report.html; see docs/formats.md.
    """
    from ganfoundry.errors import InputError
    from ganfoundry.shape.labelled_objects import Recipe

    codes = inverse_graphics.record.get("inputs", {}).get("views", {}).get("fingerprint", views.fingerprint)
    if codes != views.fingerprint:
        raise UserError(
            f"the network in {inverse_graphics.path} was trained with other viewpoint codes than "
            f"those in {views.path}: give those, or train it again."
        )
    recipe = Recipe(**{field.name: getattr(config, field.name) for field in fields(Recipe)})
    if recipe.views == 0:
        raise InputError("there is no view to label; raise --code-views or --random-views")
    key = _key(config, recipe, gan, views, inverse_graphics)
    detector = _detector_name(config, gan)
    sources = Sources(str(gan.path), str(views.path), str(inverse_graphics.path), detector, key)
    factory = _factory(sources)  # what does not fit together is reported before any work
    if config.code_views > factory.codes.views:
        raise InputError(f"{config.code_views} code views are too many; each shape has {factory.codes.views} codes")
    _make_rows(config, recipe, sources, out, ctx)
    _write_topology(factory.model, out, key)
    _describe(config, gan, inverse_graphics, factory.model, out)
    _summarise(config, factory.model, out)


def _key(config: Config, recipe: "Recipe", gan: Gan, views: ViewCodes, network: InverseGraphics) -> str:
    """Digest of what the rows follow from: not of the limits, nor of the number of objects."""
    from pipeline import manifest

    sources = [gan.generator_sha256, views.fingerprint, network.fingerprint]
    own = [manifest.content_digest(Path(config.detector))] if Path(config.detector or "-").exists() else []
    identity = [VERSION, *sources, config.detector, *own, *_shipped_digests(config).values(), asdict(recipe)]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _detector_name(config: Config, gan: Gan) -> str:
    from ganfoundry import weights

    if config.detector:
        return config.detector
    world = weights.world_of(weights.card_of(gan.path))
    return weights.network_of(world, "detector", "give one with --detector").name


def _make_rows(config: Config, recipe: "Recipe", sources: Sources, out: Writer[LabelledSet3D], ctx: Context) -> None:
    """Make the shards of rows and of meshes that are missing; a task makes one of each."""
    from ganfoundry.data.shards import ShardFolder

    number, each = config.num_objects, config.objects_per_shard
    with (
        ShardFolder(out.path / "shards", number * recipe.views, each * recipe.views, sources.key) as rows,
        ShardFolder(out.path / "meshes", number, each, sources.key) as meshes,
    ):
        wanted = {task.index for folder in (rows, meshes) for task in folder.pending(ctx.verify)}
        tasks = [
            Task(sources, str(out.path), recipe, index, index * each, min((index + 1) * each, number))
            for index in sorted(wanted)
        ]
        for _, (row_receipt, mesh_receipt) in ctx.executor.map(label_objects, tasks, "Labelling objects"):
            rows.acknowledge(row_receipt)
            meshes.acknowledge(mesh_receipt)
        rows.finish()
        meshes.finish()


@lru_cache(maxsize=1)
def _factory(sources: Sources) -> "ObjectFactory":
    """Load the networks once a process."""
    from ganfoundry.shape.labelled_objects import ObjectFactory

    return ObjectFactory.load(sources.gan, sources.views, sources.network, sources.detector)


def label_objects(task: Task) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the objects of one shard; the receipts of their rows and of their meshes."""
    import numpy as np

    from ganfoundry.data.shards import write_shard
    from ganfoundry.labels.synthesis import single_thread

    factory, folder = _factory(task.sources), Path(task.out)
    with single_thread():
        made = [factory.make(number, task.recipe) for number in range(task.first, task.stop)]
    rows = {name: np.concatenate([one[name] for one, _ in made]) for name in made[0][0]}
    meshes = {name: np.stack([mesh[name] for _, mesh in made]) for name in made[0][1]}
    return (
        write_shard(folder / "shards", task.index, rows, task.first * task.recipe.views),
        write_shard(folder / "meshes", task.index, meshes, task.first),
    )


def _write_topology(model: "InverseModel", out: Writer[Any], key: str) -> None:
    """Write the one row that all meshes share."""
    from ganfoundry.data.shards import ShardFolder, write_shard
    from ganfoundry.shape.template import sphere_template

    template = sphere_template(model.network.config.level)
    names = ("faces", "uv", "face_uv")
    with ShardFolder(out.path / "topology", 1, 1, key) as shards:
        arrays = {name: getattr(template, name)[None] for name in names}
        shards.acknowledge(write_shard(shards.folder, 0, arrays, 0))
        shards.finish()


def _describe(config: Config, gan: Gan, network: InverseGraphics, model: "InverseModel", out: Writer[Any]) -> None:
    """labels.json: what the numbers in the rows mean."""
    from pipeline import manifest

    table = {
        "classes": list(model.part_names),
        "palette": model.palette.tolist(),
        "keypoints": list(model.keypoint_names),
        "generator_sha256": gan.generator_sha256,
        "interpreter_sha256": manifest.file_digest(network.path / "network.safetensors"),
        "template_level": model.network.config.level,
        "truncation": config.truncation,
        "noise": "const",
        "root_seed": config.seed,
    }
    (out.path / "labels.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _summarise(config: Config, model: "InverseModel", out: Writer[Any]) -> None:
    """selection.json, the figures, sheet.png and report.html."""
    import numpy as np

    from ganfoundry.data.shards import ShardReader
    from ganfoundry.shape.labelled_3d import select_rows

    rows, meshes = ShardReader(out.path / "shards"), ShardReader(out.path / "meshes")
    own, objects, view = meshes.read("iou"), rows.read("object"), rows.read("view")
    iou = 1 - rows.read("score")
    selection = select_rows(iou, own, objects, config.min_iou, config.min_view_iou)
    selection.save(out.path / "selection.json")
    kept = np.unique(objects[selection.kept])
    out.figure("objects", config.num_objects)
    out.figure("kept_objects", len(kept))
    out.figure("images", selection.rows)
    out.figure("kept", len(selection.kept))
    out.figure("iou_read", round(float(own.mean()), 4))
    if (view >= 0).any():
        out.figure("iou_views", round(float(iou[view >= 0].mean()), 4))
    out.figure("label_consistency", round(_consistency(rows, kept[:JUDGED_OBJECTS], objects, model), 4))
    _report(out, rows, model, selection, own)


def _consistency(
    rows: "ShardReader", chosen: "NDArray[np.int32]", objects: "NDArray[np.int32]", model: "InverseModel"
) -> float:
    """Mean IoU of parts carried between the views of some objects."""
    import numpy as np
    import torch

    from ganfoundry.shape.label_consistency import cameras_of_matrices, mean_part_iou, view_confusion

    classes = len(model.part_names)
    total = np.zeros((classes, classes), np.int64)
    for number in chosen:
        found = rows.rows(np.flatnonzero(objects == number), ("label", "depth", "intrinsics", "extrinsics"))
        cameras = cameras_of_matrices(found["intrinsics"], found["extrinsics"], model.size)
        total += view_confusion(torch.from_numpy(found["depth"]), cameras, found["label"], classes=classes)
    return mean_part_iou(total)


def _report(
    out: Writer[Any], rows: "ShardReader", model: "InverseModel", selection: "Selection", own: "NDArray[np.float32]"
) -> None:
    """sheet.png, and report.html around it."""
    import numpy as np
    from PIL import Image

    from ganfoundry.pictures import spread
    from ganfoundry.report.page import Bar, Figure, Section, render_page
    from ganfoundry.shape.labelled_sheet import label_sheet

    objects = rows.read("object")
    kept = np.unique(objects[selection.kept])
    rows_of = {number: selection.kept[objects[selection.kept] == number] for number in spread(kept, SHEET_OBJECTS)}
    shown = [spread(kept_rows, SHEET_VIEWS) for kept_rows in rows_of.values()]
    sheet = label_sheet(rows.rows(np.concatenate(shown)), model.palette)
    Image.fromarray(sheet).save(out.path / "sheet.png")
    counts = np.histogram(own, np.linspace(0, 1, 11))[0].tolist()
    bars = [
        Bar(f"{low / 10:.1f} to {(low + 1) / 10:.1f}", count / max(max(counts), 1), f"{count:,}")
        for low, count in enumerate(counts)
    ]
    reasons = json.loads((out.path / "selection.json").read_text("utf-8"))["reasons"]
    facts = [[name.replace("_", " "), f"{value:,}"] for name, value in out.figures.items()]
    facts += [[f"rows dropped: {reason}", f"{count:,}"] for reason, count in reasons.items()]
    caption = "Rings are hidden keypoints. On a white background: drawn; else the generator's own pictures."
    sections = [
        Section("Views and their labels", figures=(Figure(sheet, caption, link="sheet.png"),)),
        Section("Numbers", header=("what", "number"), rows=facts),
        Section("Outlines", "IoU of mesh and mask in the picture that was read; objects.", bars=bars),
    ]
    page = render_page("Labelled 3D set", "Views of objects, labelled through their meshes.", sections)
    (out.path / "report.html").write_text(page, encoding="utf-8")


def _shipped_digests(config: Config) -> Mapping[str, str]:
    """Sha256 of the shipped detector that is named, or of those that the generator's world chooses from."""
    from ganfoundry import weights

    if not config.detector:
        return weights.digests_of("detector")
    if Path(config.detector).exists() or config.detector not in weights.names():
        return {}
    return {"detector": str(weights.read_card(config.detector).get("sha256"))}


command = stage_command(
    "synthesize-3d",
    Config,
    run,
    version=VERSION,
    depends=_shipped_digests,
    example="python cli.py synthesize-3d --run demo --num-objects 500 --code-views 8 --random-views 4",
)
