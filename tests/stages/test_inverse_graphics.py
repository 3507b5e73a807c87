"""label-views and train-inverse-graphics on a random generator: rows, bytes, resuming, refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ganfoundry.data.shards import ShardFolder, ShardReader, write_shard
from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.latents import compose_styles
from ganfoundry.labels.interpreter import StyleInterpreter
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.views import ViewCodeSet
from pipeline.artifacts import (
    FilteredViews,
    Gan,
    Interpreter,
    InverseGraphics,
    ViewCodes,
    ViewLabels,
    ViewSet,
    Writer,
)
from pipeline.errors import UserError
from pipeline.stage import Context
from stages import generate_views, label_views, train_inverse_graphics
from tests.stages.labelhelp import shades_gan, shades_interpreter, shades_labels
from tests.stages.viewhelp import view_codes

OBJECTS, VIEWS = 3, 12
QUICK = {"steps": 3, "objects": 2, "level": 1, "texture": 16, "held_out": 0.34, "precision": "fp32", "processes": 1}


class Chain:
    """All inputs of train-inverse-graphics."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.gan: Gan = shades_gan(folder / "gan")
        self.views: ViewCodes = view_codes(folder / "views", self.gan)
        labels = shades_labels(folder / "labels", self.gan)
        self.interpreter = Interpreter(shades_interpreter(folder / "interpreter", self.gan, labels).path)
        self.view_set = ViewSet(folder / "set")
        config = generate_views.Config(num_objects=OBJECTS)
        generate_views.run(config, self.gan, self.views, Writer(self.view_set.path), Context())
        self.filtered = self.filter(folder / "filtered")
        self.labels = self.label(folder / "view-labels")

    def filter(self, folder: Path, rows: int = OBJECTS * VIEWS) -> FilteredViews:
        """Discs for masks; row 5 is dropped."""
        y, x = np.mgrid[:16, :16] + 0.5
        disc = (np.hypot(x - 8, y - 8) < 5).astype(np.uint8)
        keep = np.ones(rows, np.uint8)
        keep[5] = 0
        arrays = {"mask": np.repeat(disc[None], rows, 0), "keep": keep}
        with ShardFolder(folder / "shards", rows, rows, "toy") as shards:
            shards.acknowledge(write_shard(folder / "shards", 0, arrays, 0))
            shards.finish()
        return FilteredViews(folder)

    def label(self, folder: Path, rows_per_shard: int = 20) -> ViewLabels:
        out: Writer[ViewLabels] = Writer(folder)
        config = label_views.Config(rows_per_shard=rows_per_shard)
        label_views.run(config, self.gan, self.views, self.view_set, self.interpreter, out, Context())
        return ViewLabels(folder)

    def train(self, folder: Path, labels: ViewLabels | None = None, **options: object) -> Writer[InverseGraphics]:
        out: Writer[InverseGraphics] = Writer(folder)
        config = train_inverse_graphics.Config(**{**QUICK, **options})  # type: ignore[arg-type]
        train_inverse_graphics.run(
            config, self.gan, self.views, self.view_set, self.filtered, labels, out, Context(quiet=True)
        )
        return out


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return Chain(tmp_path_factory.mktemp("chain"))


def test_labels_are_those_of_the_images_own_feature_maps(chain: Chain) -> None:
    loaded, codes = load_gan(chain.gan.path), ViewCodeSet.load(chain.views.path)
    interpreter = StyleInterpreter.load(chain.interpreter.path / "interpreter.safetensors")
    rows, found = ShardReader(chain.view_set.path / "shards"), ShardReader(chain.labels.path / "shards")
    assert len(found) == len(rows) == OBJECTS * VIEWS
    for row in (0, 13, 35):
        content = torch.from_numpy(rows.read("w_content", row, row + 1))
        view = torch.from_numpy(codes.w[rows.read("view", row, row + 1)])
        styles = compose_styles(loaded.generator.synthesis, content, view, codes.layers)
        names = [name for name, _ in interpreter.config.layers]
        image, features = loaded.generator.synthesis(styles=styles, noise="const", features=names)
        stored = ((image.clamp(-1, 1) + 1) * 127.5).round().byte()[0].permute(1, 2, 0).numpy()
        assert np.array_equal(stored, rows.read("image", row, row + 1)[0])  # these features made this image
        expected = interpreter.predict(features).label[0].numpy()
        assert (expected == found.read("label", row, row + 1)[0]).mean() > 0.99
    certainty = found.read("certainty")
    assert 0 <= certainty.min() <= certainty.max() <= 1
    table = json.loads((chain.labels.path / "labels.json").read_text())
    assert table["classes"][0] == "background"


def test_the_size_of_shards_does_not_change_the_labels(chain: Chain, tmp_path: Path) -> None:
    whole = ShardReader(chain.label(tmp_path / "one", rows_per_shard=36).path / "shards")
    parts = ShardReader(chain.labels.path / "shards")
    assert np.array_equal(whole.read("label"), parts.read("label"))


def test_train_writes_a_network_that_reads_images(chain: Chain, tmp_path: Path) -> None:
    out = chain.train(tmp_path / "out", chain.labels)
    model = InverseModel.load(out.path)
    assert model.part_names == ("background", "dim", "mid", "bright")
    images = ShardReader(chain.view_set.path / "shards").read("image", 0, 2)
    reading = model.read(images)
    assert reading.shape.vertices.shape == (2, 42, 3)
    assert reading.surface.parts.shape[1] == 3
    assert model.description["generator_sha256"] == chain.gan.generator_sha256
    assert len(model.description["cameras"]) == VIEWS
    figures = model.description["figures"]
    assert {"iou2d_input", "iou2d_novel", "part_miou", "camera_error"} <= figures.keys()
    assert figures["images"] + figures["held_out_images"] == OBJECTS * VIEWS - 1
    assert (out.path / "sheet.png").exists()
    assert "Losses" in (out.path / "report.html").read_text()
    with pytest.raises(InputError, match=r"16, 16, 3"):
        model.read(np.zeros((1, 32, 32, 3), np.uint8))


def test_without_labels_there_are_meshes_but_no_parts(chain: Chain, tmp_path: Path) -> None:
    model = InverseModel.load(chain.train(tmp_path / "out", preset="paper", fixed_cameras=True).path)
    assert model.part_names == ("background", "object")
    assert model.description["training"]["objective"]["movement"] == 2.5
    assert [row[0] for row in model.description["cameras"]] == [30.0 * k for k in range(12)]


def test_the_part_of_hidden_places_is_one_of_the_labels(chain: Chain, tmp_path: Path) -> None:
    model = InverseModel.load(chain.train(tmp_path / "out", chain.labels, hidden_part="mid").path)
    assert model.network.config.hidden_part == 2
    hidden = model.network.hidden
    assert hidden.any()
    parts = model.read(np.zeros((1, 16, 16, 3), np.uint8)).surface.parts
    assert (parts.argmax(1)[0][hidden] == 1).all()
    for name in ("background", "wheel"):
        with pytest.raises(UserError, match=rf"no part '{name}'; --hidden-part is one of dim, mid, bright"):
            chain.train(tmp_path / name, chain.labels, hidden_part=name)
        assert not (tmp_path / name / "track").exists(), "told before any work"


def test_cameras_start_where_the_pictures_say_without_bins(chain: Chain, tmp_path: Path) -> None:
    model = InverseModel.load(chain.train(tmp_path / "out", chain.labels, cameras="self", fixed_cameras=True).path)
    azimuths = np.array([row[0] for row in model.description["cameras"]])
    assert np.isfinite(azimuths).all()
    assert not np.allclose(azimuths, 30.0 * np.arange(VIEWS))


def test_a_generator_of_no_world_has_no_pose_network(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names no world.*choose other --cameras"):
        chain.train(tmp_path / "out", cameras="annotator")
    figures = InverseModel.load(chain.train(tmp_path / "bins").path).description["figures"]
    assert "camera_table_error" not in figures


def test_the_camera_tables_error_is_the_pose_networks(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start and end are measured after one turn; cameras that start there keep its azimuths."""
    poses = np.linspace(0, 330, VIEWS) + 50 + 4 * (np.arange(VIEWS) % 2)
    monkeypatch.setattr(train_inverse_graphics, "_pose_azimuths", lambda source, data: poses)
    options = {"fixed_cameras": True, "steps": 1}
    bins = InverseModel.load(chain.train(tmp_path / "bins", **options).path).description["figures"]
    assert bins["camera_table_error"] == bins["camera_start_error"] == pytest.approx(2, abs=2)
    asked = InverseModel.load(chain.train(tmp_path / "asked", cameras="annotator", **options).path).description
    assert [row[0] for row in asked["cameras"]] == pytest.approx(poses.tolist())
    assert asked["figures"]["camera_table_error"] == pytest.approx(0, abs=1e-3)


@pytest.mark.slow
def test_two_processes_write_a_network_too(chain: Chain, tmp_path: Path) -> None:
    out = chain.train(tmp_path / "out", chain.labels, processes=2)
    assert InverseModel.load(out.path).read(np.zeros((1, 16, 16, 3), np.uint8)).shape.vertices.shape == (1, 42, 3)
    assert (out.path / "track" / "sheets" / "000003.jpg").exists()
    with pytest.raises(InputError, match="2 objects a step cannot be shared evenly by 3 processes"):
        chain.train(tmp_path / "three", chain.labels, processes=3)


def test_the_same_seed_gives_the_same_bytes(chain: Chain, tmp_path: Path) -> None:
    first, second = (chain.train(tmp_path / name, chain.labels).path for name in "ab")
    assert (first / "network.safetensors").read_bytes() == (second / "network.safetensors").read_bytes()


def test_folders_of_other_sets_are_refused(chain: Chain, tmp_path: Path) -> None:
    other = chain.filter(tmp_path / "other", rows=30)
    mine, chain.filtered = chain.filtered, other
    try:
        with pytest.raises(InputError, match="36 images, the filter's result 30"):
            chain.train(tmp_path / "out", None)
    finally:
        chain.filtered = mine


def test_damaged_networks_are_refused(chain: Chain, tmp_path: Path) -> None:
    folder = chain.train(tmp_path / "out").path
    (folder / "network.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="train it again"):
        InverseModel.load(folder)
    (folder / "network.json").write_text("{}")
    with pytest.raises(InputError):
        InverseModel.load(folder)


def test_codes_of_the_same_number_but_of_another_set_are_refused(chain: Chain, tmp_path: Path) -> None:
    record = {"kind": "view-set", "inputs": {"views": {"fingerprint": "0" * 64}}}
    folder = tmp_path / "set"
    shutil.copytree(chain.view_set.path, folder)
    (folder / "run.json").write_text(json.dumps(record))
    mine, chain.view_set = chain.view_set, ViewSet(folder)
    try:
        with pytest.raises(UserError, match="was not made with the viewpoint codes"):
            chain.label(tmp_path / "labels")
        with pytest.raises(UserError, match="was not made with the viewpoint codes"):
            chain.train(tmp_path / "out")
    finally:
        chain.view_set = mine
