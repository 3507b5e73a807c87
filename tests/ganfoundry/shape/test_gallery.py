"""The gallery as text: complete without scripts, whole with model-viewer, safe with hostile names."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.shape.gallery import Shown, gallery_page
from ganfoundry.shape.viewer import BUILT, LICENCE, PACKAGE, SCRIPT, copy_viewer, find_viewer

HOSTILE = '"><script>alert(1)</script>'


class Page(HTMLParser):
    """Tags with their attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def shown(name: str = "car", notes: tuple[str, ...] = ()) -> Shown:
    rng = np.random.default_rng(0)
    image, turns = rng.integers(0, 256, (32, 32, 3), np.uint8), rng.integers(0, 256, (8, 64, 64, 3), np.uint8)
    return Shown(name, image, turns, b"glTF-" + name.encode(), notes, (f"{name}.glb",))


def installed(folder: Path) -> Path:
    package = folder / "node_modules" / PACKAGE
    (package / BUILT).parent.mkdir(parents=True)
    (package / BUILT).write_text("customElements;")
    (package / "LICENSE").write_text("Apache")
    return package


def test_without_a_viewer_the_page_has_no_script_and_says_how_to_get_one() -> None:
    text = gallery_page([shown("one"), shown("two")], 5, viewer=False)
    page = Page(text)
    assert not page.all("script")
    assert len(page.all("img")) == 2
    assert [link["href"] for link in page.all("a")] == ["one.glb", "two.glb"]
    assert f"npm install {PACKAGE}" in text
    assert "5 meshes; the first 2 are shown" in text
    assert "model/gltf-binary" not in text


def test_with_a_viewer_the_page_holds_the_meshes() -> None:
    page = Page(gallery_page([shown("one"), shown("two")], 2, viewer=True))
    assert page.all("script")[0] == {"defer": None, "src": SCRIPT}
    models = [str(row["data-model"]) for row in page.all("button") if "data-model" in row]
    assert [base64.b64decode(model.split(",")[1]) for model in models] == [b"glTF-one", b"glTF-two"]
    assert len(page.all("model-viewer")) == 1


@pytest.mark.parametrize("viewer", [True, False])
def test_names_and_notes_stay_text(viewer: bool) -> None:
    plain, hostile = (Page(gallery_page([shown(name, (name,))], 1, viewer=viewer)) for name in ("car", HOSTILE))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]


def test_pictures_larger_and_smaller_than_the_views_fit() -> None:
    for side in (16, 48, 64):
        image = np.zeros((side, side, 3), np.uint8)
        assert Shown("a", image, np.zeros((8, 64, 64, 3), np.uint8), b"").strip.startswith("data:image/jpeg")


def test_where_the_viewer_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    package = installed(there)
    here.mkdir()
    monkeypatch.chdir(here)
    assert find_viewer("auto", {}) is None
    assert find_viewer("auto", {"NODE_PATH": f"/nowhere:{there / 'node_modules'}"}) == package
    assert find_viewer(str(there), {}) == find_viewer(str(package), {}) == package
    assert find_viewer("none", {"NODE_PATH": str(there / "node_modules")}) is None
    monkeypatch.chdir(there)
    assert find_viewer("auto", {}) == package.relative_to(there)
    with pytest.raises(InputError, match="npm install @google/model-viewer"):
        find_viewer(str(here), {})


def test_script_and_licence_are_copied(tmp_path: Path) -> None:
    copy_viewer(installed(tmp_path), tmp_path)
    assert (tmp_path / SCRIPT).read_text() == "customElements;"
    assert (tmp_path / LICENCE).read_text() == "Apache"
