"""report on a small run: every section is there, and what it shows is what the artifacts hold."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganfoundry.data.shards import ShardFolder, ShardReader, write_shard
from ganfoundry.pictures import png_bytes
from pipeline.artifacts import Assets, FilteredViews, Gan, Interpreter, LabelledSet, ViewCodes, ViewSet, Writer
from pipeline.errors import UserError
from pipeline.stage import Context
from stages.generate_views import Config as ViewsConfig
from stages.generate_views import run as generate_views
from stages.report import Config, run
from tests.stages.viewhelp import tiny_gan, view_codes

CLASSES = ["background", "body", "<b>wheel</b>"]


def labelled_set(folder: Path) -> LabelledSet:
    """Ten rows of two classes; rows 3 and 7 dropped."""
    random = np.random.default_rng(0)
    label = np.zeros((10, 32, 32), np.uint8)
    label[:, :16] = 1
    label[[3, 7]] = 2  # in dropped rows only: it must not count
    arrays = {
        "image": random.integers(0, 256, (10, 32, 32, 3), np.uint8),
        "label": label,
        "uncertainty": random.random((10, 32, 32)).astype(np.float16),
    }
    with ShardFolder(folder / "shards", 10, 10, "key") as shards:
        shards.acknowledge(write_shard(folder / "shards", 0, arrays, 0))
        shards.finish()
    dropped = [{"row": row, "score": 0.5, "reason": "uncertain"} for row in (3, 7)]
    selection = {"rows": 10, "kept": 8, "filter_fraction": 0.2, "threshold": 0.4, "dropped": dropped}
    (folder / "selection.json").write_text(json.dumps(selection))
    facts = {"classes": CLASSES, "palette": [[0, 0, 0], [255, 0, 0], [0, 255, 0]]}
    (folder / "labels.json").write_text(json.dumps(facts))
    return LabelledSet(folder)


def filtered_views(folder: Path) -> FilteredViews:
    """A verdict of three rows."""
    folder.mkdir()
    facts = {"rows": 3, "kept": 2, "reasons": {"kept": 2, "no instance": 1, "mask too small": 0}}
    (folder / "reasons.json").write_text(json.dumps(facts))
    (folder / "kept.png").write_bytes(png_bytes(np.full((5, 6, 3), 9, np.uint8)))
    return FilteredViews(folder)


def assets(folder: Path) -> Assets:
    """Two meshes, one of them doubtful."""
    folder.mkdir()
    rows = [{"name": "a", "doubt": ""}, {"name": "b", "doubt": "no such object was found in it"}]
    (folder / "assets.json").write_text(json.dumps({"assets": rows}))
    (folder / "gallery.png").write_bytes(png_bytes(np.full((8, 24, 3), 77, np.uint8)))
    (folder / "run.json").write_text(json.dumps({"stage": "reconstruct", "figures": {"rigged": 2}}))
    return Assets(folder)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("report")
    gan = tiny_gan(folder / "gan")
    views = view_codes(folder / "views", gan)
    generate_views(ViewsConfig(num_objects=3), gan, views, Writer(folder / "set", "key"), Context())
    (folder / "interpreter").mkdir()
    record = {"kind": "interpreter", "stage": "train-interpreter", "figures": {"miou": 0.71}}
    (folder / "interpreter" / "run.json").write_text(json.dumps(record))
    out: Writer = Writer(folder / "out")
    run(
        Config(num_objects=2, num_examples=4),
        gan,
        views,
        ViewSet(folder / "set"),
        filtered_views(folder / "filtered"),
        Interpreter(folder / "interpreter"),
        labelled_set(folder / "labelled"),
        assets(folder / "assets"),
        out,
        Context(),
    )
    return folder, (out.path / "report.html").read_text("utf-8")


def pictures(text: str) -> dict[str, np.ndarray]:
    """Embedded pictures by caption."""
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', text)
    return {alt: np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))) for code, alt in found}


def test_sections(page: tuple[Path, str]):
    headings = re.findall(r"<h2>(.*?)</h2>", page[1])
    assert headings == ["Views", "Filter", "Labelled images", "Classes", "Meshes", "Figures"]


def test_view_grid_shows_the_view_set(page: tuple[Path, str]):
    folder, text = page
    picture = next(value for alt, value in pictures(text).items() if "viewpoint code" in alt)
    image = ShardReader(folder / "set" / "shards").read("image")
    np.testing.assert_array_equal(picture[:32, :32], image[0])
    np.testing.assert_array_equal(picture[34:66, 34:66], image[13])  # second object, second code
    assert "3 objects from 12 viewpoint codes make 36 images" in text


def test_filter_counts_and_examples(page: tuple[Path, str]):
    text = page[1]
    assert "2 of 3 images kept" in text
    assert "no instance" in text
    assert "mask too small" not in text
    assert any((value == 9).all() for value in pictures(text).values())


def test_class_shares(page: tuple[Path, str]):
    assert page[1].count("50.00 %") == 2
    assert "0.00 %" in page[1]
    assert "&lt;b&gt;wheel&lt;/b&gt;" in page[1]
    assert "<b>wheel" not in page[1]


def test_figures_of_the_stages(page: tuple[Path, str]):
    assert re.search(r"train-interpreter</td><td>miou</td><td>0\.71", page[1])


def test_meshes_are_shown_and_doubtful_ones_counted(page: tuple[Path, str]):
    assert "2 pictures read as textured meshes (GLB, OBJ), 1 doubtful." in page[1]
    (code,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="[^"]*gallery.html', page[1])
    with Image.open(io.BytesIO(base64.b64decode(code))) as picture:
        assert picture.size == (24, 8)
    assert re.search(r"reconstruct</td><td>rigged</td><td>2", page[1])


def test_a_run_without_meshes_has_no_such_section(page: tuple[Path, str]):
    folder = page[0]
    out: Writer = Writer(folder / "without")
    views, made = ViewCodes(folder / "views"), ViewSet(folder / "set")
    filtered, interpreter = FilteredViews(folder / "filtered"), Interpreter(folder / "interpreter")
    labelled = LabelledSet(folder / "labelled")
    run(Config(), Gan(folder / "gan"), views, made, filtered, interpreter, labelled, None, out, Context())
    assert "Meshes" not in (out.path / "report.html").read_text("utf-8")


def test_overview_is_a_picture_of_six_rows(page: tuple[Path, str]):
    with Image.open(page[0] / "out" / "overview.png") as overview:
        assert overview.size == (12 * 66 - 2, 6 * 66 - 2)


def test_a_run_with_labels_alone_has_a_report_too(tmp_path: Path) -> None:
    gan, out = tiny_gan(tmp_path / "gan"), Writer(tmp_path / "out")
    made = labelled_set(tmp_path / "labelled")
    run(Config(num_examples=4), gan, None, None, None, None, made, None, out, Context())
    text = (out.path / "report.html").read_text("utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Labelled images", "Classes", "Figures"]
    with Image.open(out.path / "overview.png") as overview:
        assert overview.height < 4 * 2 * 34, "three rows: images, labels, uncertainty"


def test_nothing_to_report_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no views, no labelled images and no meshes"):
        run(Config(), tiny_gan(tmp_path / "gan"), *[None] * 6, Writer(tmp_path / "out"), Context())
