"""The gallery of reconstruct in a real browser, opened as a file, with a real model-viewer."""

import io

import numpy as np
import pytest
from PIL import Image

from ganfoundry.shape.assets import turntable
from ganfoundry.shape.gallery import Shown, gallery_page
from ganfoundry.shape.glb import glb_bytes
from ganfoundry.shape.rigging import Wheels
from ganfoundry.shape.viewer import PACKAGE, copy_viewer, find_viewer
from ganfoundry.shape.wheels import Body, Rig, open_body
from tests.ganfoundry.shape.carhelp import WHEEL, toy_asset

pytestmark = pytest.mark.browser

WHEELS = Wheels(front=0.55, rear=-0.5, height=-0.14, outer=0.4, radius=0.15, width=0.1)


def assets():
    plain = toy_asset()
    body = Body(plain.vertices, plain.faces, plain.uv, plain.face_uv, plain.face_parts)
    rig = Rig(WHEELS, {"tyre": (0.1, 0.1, 0.1), "rim": (0.7, 0.7, 0.7)}, WHEEL)
    return {"rigged": toy_asset(**vars(open_body(body, WHEELS, WHEEL)), rig=rig), "plain": plain}


def write_page(folder, *, viewer):
    image = np.full((64, 64, 3), 120, np.uint8)
    shown = [
        Shown(name, image, turntable(asset, 96), glb_bytes(asset, name), (), (f"{name}.glb",))
        for name, asset in assets().items()
    ]
    page = folder / "gallery.html"
    page.write_text(gallery_page(shown, len(shown), viewer=viewer), encoding="utf-8")
    return page


def open_page(chromium, path):
    context = chromium.new_context(viewport={"width": 480, "height": 640}, reduced_motion="reduce")
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.goto(path.as_uri())
    return page, errors


def test_the_page_is_complete_without_a_viewer(chromium, tmp_path):
    page, errors = open_page(chromium, write_page(tmp_path, viewer=False))
    assert (
        page.evaluate("() => [...document.images].map((one) => one.complete && one.naturalWidth > 500)") == [True] * 2
    )
    assert page.get_by_role("link", name="rigged.glb").get_attribute("href") == "rigged.glb"
    assert errors == []


def test_meshes_turn_in_a_page_opened_as_a_file(chromium, tmp_path):
    package = find_viewer("auto")
    if package is None:
        pytest.skip(f"{PACKAGE} is neither in node_modules nor on NODE_PATH")
    path = write_page(tmp_path, viewer=True)
    copy_viewer(package, tmp_path)
    page, errors = open_page(chromium, path)
    loaded = (
        "(name) => document.getElementById('viewer').loaded && document.getElementById('name').textContent === name"
    )
    page.wait_for_function(loaded, arg="rigged", timeout=120_000)
    viewer = page.locator("#viewer")
    assert viewer.evaluate("(one) => one.availableAnimations") == ["spin", "steer"]
    assert viewer.evaluate("(one) => one.paused")  # the person asked for less motion
    names = {"side", "windscreen", "headlamp", "wheel", "tyre", "rim"}
    assert set(viewer.evaluate("(one) => one.model.materials.map((material) => material.name)")) == names
    assert viewer.evaluate("(one) => one.model.getMaterialByName('windscreen').getAlphaMode()") == "BLEND"
    size = viewer.evaluate("(one) => { const d = one.getDimensions(); return [d.x, d.y, d.z]; }")
    assert size == pytest.approx([0.8, 0.59, 2.0], abs=0.03)

    bytes_of = "async (one) => [...new Uint8Array(await (await one.toBlob({mimeType: 'image/png'})).arrayBuffer())]"
    viewer.evaluate("(one) => { one.cameraOrbit = '90deg 85deg 3m'; one.jumpCameraToGoal(); }")
    page.wait_for_timeout(1000)
    picture = np.asarray(Image.open(io.BytesIO(bytes(viewer.evaluate(bytes_of)))).convert("RGBA")).astype(int)
    red = (picture[..., 0] > picture[..., 1] + 60) & (picture[..., 3] > 250)
    assert red.mean() > 0.02  # the painted side is seen

    page.locator("[data-animation=steer]").evaluate("(one) => one.click()")
    page.wait_for_function("() => !document.getElementById('viewer').paused", timeout=60_000)
    assert viewer.evaluate("(one) => one.animationName") == "steer"
    page.locator("[data-animation='']").evaluate("(one) => one.click()")
    page.wait_for_function("() => document.getElementById('viewer').paused", timeout=60_000)
    page.locator("[data-name=plain]").evaluate("(one) => one.click()")
    page.wait_for_function(loaded, arg="plain", timeout=120_000)
    page.wait_for_function("() => document.querySelector('[data-animation=spin]').disabled", timeout=60_000)
    assert errors == []
