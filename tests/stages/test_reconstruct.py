"""reconstruct on a toy network: pictures of all kinds, as typed, doubtful ones, failures that lose nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganfoundry import weights
from ganfoundry.errors import InputError, RunError
from ganfoundry.shape import assets as assets_module
from ganfoundry.shape import glb
from ganfoundry.shape.inverse_model import InverseModel
from pipeline.artifacts import Assets, InverseGraphics, Writer
from pipeline.errors import UserError
from pipeline.stage import Context
from stages import reconstruct
from tests.ganfoundry.shape.carhelp import toy_network

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> InverseGraphics:
    return InverseGraphics(toy_network(tmp_path_factory.mktemp("toy") / "network"))


@pytest.fixture(autouse=True)
def no_viewer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NODE_PATH", raising=False)
    monkeypatch.chdir(tmp_path)


def noise(path: Path, shape: tuple[int, ...] = (64, 64, 3), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)).save(path)
    return path


def made(
    trained: InverseGraphics | None, folder: Path, *images: Path, fingerprint: str = "", **options: object
) -> Writer[Assets]:
    out: Writer[Assets] = Writer(folder, fingerprint)
    config = reconstruct.Config(images=images, **options)  # type: ignore[arg-type]
    reconstruct.run(config, trained, out, Context(quiet=True))
    return out


def table(folder: Path) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads((folder / "assets.json").read_text("utf-8"))
    return found


def test_pictures_of_any_kind_become_meshes(network: InverseGraphics, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    noise(photos / "car.jpg", (40, 60, 3))
    noise(photos / "more" / "car.png", (16, 16))
    noise(photos / "my clear car.png", (30, 20, 4))
    deep = np.random.default_rng(0).integers(0, 65535, (70, 64), dtype=np.uint16)
    Image.fromarray(deep).save(photos / "deep.png")
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    folder = tmp_path / "out"
    out = made(network, folder, photos, noise(tmp_path / "one.png"))
    names = {"car", "car-2", "my_clear_car", "deep", "one"}
    assert {path.name for path in folder.glob("*.glb")} == {f"{name}.glb" for name in names}
    assert out.figures == {
        "meshes": 5, "left_out": 1, "doubtful": 0, "rigged": 5, "ms_per_picture": out.figures["ms_per_picture"],
    }  # fmt: skip
    page = (folder / "gallery.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 5
    assert "<script" not in page
    rows = table(folder)
    assert [row["picture"] for row in rows["left_out"]] == ["broken.png"]
    for row in rows["assets"]:
        assert all((folder / str(name)).is_file() for name in row["files"])  # type: ignore[union-attr]
        assert row["wheels"] == "rigged"
        assert 0 <= float(str(row["azimuth"])) < 360
    assert "mtllib my_clear_car.mtl" in (folder / "my_clear_car.obj").read_text()
    assert max(path.stat().st_size for path in folder.glob("*.glb")) < 300_000


def test_as_a_user_types_it(network: InverseGraphics, tmp_path: Path) -> None:
    noise(tmp_path / "a.png")
    noise(tmp_path / "photos" / "b.png")
    command = [sys.executable, str(ROOT / "cli.py"), "reconstruct", "a.png", "photos", "-o", "meshes"]
    command += ["--inverse-graphics", str(network.path), "--no-check", "--no-obj"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "meshes").iterdir() if not path.name.startswith(".")} == {
        "a.glb", "b.glb", "assets.json", "gallery.html", "gallery.png", "run.json",
    }  # fmt: skip
    (tmp_path / "bad.png").write_bytes(b"no picture")
    wrong = subprocess.run([*command[:3], "bad.png", *command[5:]], capture_output=True, text=True, cwd=tmp_path)
    assert wrong.returncode == 2
    assert "holds no readable picture" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert (tmp_path / "meshes" / "a.glb").is_file()  # the earlier meshes are still there


def test_bad_pictures_are_told(network: InverseGraphics, tmp_path: Path) -> None:
    good = noise(tmp_path / "good.png")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    assert made(network, tmp_path / "out", good, bad).figures["left_out"] == 1
    with pytest.raises(InputError, match=r"bad\.png"):
        made(network, tmp_path / "out", good, bad, damaged="refuse")
    with pytest.raises(InputError, match="none of the 2 sources"):
        made(network, tmp_path / "out", bad, bad)
    with pytest.raises(InputError, match="does not exist"):
        made(network, tmp_path / "out", good, tmp_path / "nothing.png")
    with pytest.raises(InputError, match="holds no model-viewer"):
        made(network, tmp_path / "out", good, viewer=str(tmp_path))
    with pytest.raises(UserError, match="train one with train-inverse-graphics"):
        made(None, tmp_path / "out", good, network="no-such-network")


def test_a_shipped_network_reads_where_no_other_is_named(
    network: InverseGraphics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "names", lambda: ["toy-inverse-graphics"])
    monkeypatch.setattr(weights, "path", lambda name: network.path)
    monkeypatch.setattr(weights, "read_card", lambda name: {})
    out = made(None, tmp_path / "out", noise(tmp_path / "a.png"), network="toy-inverse-graphics")
    assert out.figures["meshes"] == 1


def test_pictures_of_something_else_are_doubtful(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the shipped detector of the world whose generator the network learnt from."""
    network = InverseGraphics(toy_network(tmp_path / "network", sha256=str(weights.read_card("cars-64")["sha256"])))
    grey = tmp_path / "grey.png"
    Image.new("RGB", (64, 64), (255, 255, 255)).save(grey)
    out: Writer[Assets] = Writer(tmp_path / "out")
    config = reconstruct.Config(images=(noise(tmp_path / "noise.png"), grey))
    reconstruct.run(config, network, out, Context(quiet=False))
    assert out.figures["doubtful"] == 2
    rows = {row["name"]: row for row in table(tmp_path / "out")["assets"]}
    assert rows["grey"]["doubt"] == "no such object was found in it"
    assert "overlap" in str(rows["noise"]["doubt"])
    assert "Doubtful: grey.png: no such object" in " ".join(capsys.readouterr().err.split())
    assert "Doubtful: no such object was found in it." in (tmp_path / "out" / "gallery.html").read_text()
    assert made(network, tmp_path / "other", grey, check=False).figures["doubtful"] == 0


def test_a_mesh_is_the_same_alone_and_in_a_folder(network: InverseGraphics, tmp_path: Path) -> None:
    for index in range(3):
        noise(tmp_path / "photos" / f"{index}.png", seed=index)
    made(network, tmp_path / "one", tmp_path / "photos" / "1.png")
    made(network, tmp_path / "all", tmp_path / "photos")

    def vertices(folder: Path) -> np.ndarray:
        lines = (folder / "1.obj").read_text().splitlines()
        return np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)

    assert np.abs(vertices(tmp_path / "one") - vertices(tmp_path / "all")).max() < 1e-3  # only rounding differs


def fails_at(monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[[], None]:
    """A disk that is full when a certain mesh is written; the result mends it."""
    write = glb.write_glb

    def full(path: Path, asset: glb.Asset) -> None:
        if path.stem == name:
            raise RunError(f"cannot write {path}: no space left")
        write(path, asset)

    monkeypatch.setattr(glb, "write_glb", full)
    return lambda: monkeypatch.setattr(glb, "write_glb", write)


def test_a_failure_loses_no_earlier_mesh_and_foreign_files_stay(
    network: InverseGraphics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    made(network, folder, noise(tmp_path / "first.png"), fingerprint="1")
    (folder / "letter.txt").write_text("dear")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    mend = fails_at(monkeypatch, "third")
    pictures = noise(tmp_path / "second.png"), noise(tmp_path / "third.png")
    with pytest.raises(RunError, match="no space left"):
        made(network, folder, *pictures, fingerprint="2")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    mend()
    made(network, folder, *pictures, fingerprint="2", obj=False)
    names = {path.name for path in folder.iterdir()}
    assert names == {"second.glb", "third.glb", "assets.json", "gallery.html", "gallery.png", "letter.txt"}


def test_an_interrupted_run_goes_on_with_the_batch_in_work(
    network: InverseGraphics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruct, "BATCH", 2)
    monkeypatch.setattr(reconstruct, "SHOWN", 2)
    pictures = [noise(tmp_path / f"{index}.png", seed=index) for index in range(7)]
    whole = tmp_path / "whole"
    made(network, whole, *pictures, fingerprint="1")
    mend = fails_at(monkeypatch, "5")
    with pytest.raises(RunError):
        made(network, tmp_path / "out", *pictures, fingerprint="1")
    mend()
    reads: list[int] = []
    read = InverseModel.read
    monkeypatch.setattr(
        InverseModel, "read", lambda self, images, **rest: (reads.append(len(images)), read(self, images, **rest))[1]
    )
    made(network, tmp_path / "out", *pictures, fingerprint="1")
    assert reads == [2, 2, 1]  # the shown batch, the one in work, the last; not the one that was whole
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {path.name: path.read_bytes() for path in whole.iterdir()}


def test_names_of_files() -> None:
    names = ["a/car.png", "b\\car.jpg", "Car.png", "my  car.png", "car-2.png", "läufer.png", "gallery.jpg"]
    stems = ["car", "car-2", "Car-3", "my_car", "car-2-2", "läufer", "gallery-2"]  # gallery.png is the stage's own
    assert reconstruct.file_names(names) == stems


def test_only_files_that_a_table_names_are_replaced(tmp_path: Path) -> None:
    rows = [{"files": ["a.glb", "../b.glb", "/c.glb", 7]}]
    (tmp_path / "assets.json").write_text(json.dumps({"assets": rows}))
    assert reconstruct.earlier_files(tmp_path) == ["a.glb"]
    (tmp_path / "assets.json").write_text("{}")
    assert reconstruct.earlier_files(tmp_path) == []
    assert reconstruct.earlier_files(tmp_path / "nothing") == []


def test_what_is_installed_counts_as_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = reconstruct.Config(images=(tmp_path,))
    assert "viewer" not in reconstruct.depends(config)
    built = tmp_path / "node_modules" / "@google" / "model-viewer" / "dist" / "model-viewer-umd.min.js"
    built.parent.mkdir(parents=True)
    built.write_text("viewer")
    assert len(reconstruct.depends(config)["viewer"]) == 64
    assert reconstruct.Config(images=()).length == assets_module.LENGTH
