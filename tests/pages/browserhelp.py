"""The page for parts as a person meets it: clicks and keys at image pixels, and the files on disk."""

import numpy as np
from PIL import Image

from tests.pages.pagehelp import SIDE, until


class Person:
    """Works on one open page."""

    def __init__(self, context, url, folder):
        self.page = context.new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())
        self.folder = folder
        self.page.goto(url)
        self.page.wait_for_selector("#name:not(:empty)")
        self.settled()

    def settled(self):
        """Until the picture is drawn."""
        self.page.evaluate(
            "async () => { for (let i = 0; i < 3; i++) await new Promise((done) => requestAnimationFrame(done)); }"
        )

    def at(self, x, y):
        """Place on the screen of a place in the image."""
        place = self.page.evaluate(
            """() => { const canvas = document.getElementById("picture"), box = canvas.getBoundingClientRect();
            const { scale, x, y } = canvas.dataset;
            return [box.left + Number(x), box.top + Number(y), Number(scale)]; }"""
        )
        return place[0] + x * place[2], place[1] + y * place[2]

    def stroke(self, *places, button="left"):
        """Press at the first place, go through the others, release."""
        self.settled()
        mouse = self.page.mouse
        mouse.move(*self.at(*places[0]))
        mouse.down(button=button)
        for place in places[1:]:
            mouse.move(*self.at(*place), steps=4)
        mouse.up(button=button)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def choose(self, part):
        """Choose a part by its number, as typed."""
        self.press(*str(part))
        self.page.wait_for_timeout(750)  # else the next digit would belong to it

    def size(self, pixels):
        """Set the brush to a size by the keyboard."""
        for _ in range(20):
            self.press("[")
        while self.page.text_content("#size-text") != f"{pixels} px":
            self.press("]")

    def cut_off(self):
        """From now on no request of this tab reaches the server."""
        self.page.evaluate("() => { window.fetch = () => Promise.reject(new TypeError('cut off')); }")

    def saved(self):
        """Wait until the server has everything."""
        self.settled()
        self.page.wait_for_selector('#status[data-kind="good"]')
        assert self.errors == []

    def mask(self, name="sample-0"):
        """Mask on disk."""
        with Image.open(self.folder / "masks" / f"{name}.png") as picture:
            assert picture.mode == "P"
            return np.array(picture)

    def shown(self):
        return self.page.text_content("#name")

    def press_and_wait(self, key, name):
        self.press(key)
        until(lambda: self.shown() == name)
        self.settled()


def disc_path(points, radius):
    """Pixels within `radius` of a path by a naive loop over all pixels and many points of it; and those of its ends."""
    mask = np.zeros((SIDE, SIDE), bool)
    dense = [
        (a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]))
        for a, b in zip(points, points[1:] or points, strict=False)
        for t in np.linspace(0, 1, 400)
    ]
    for row in range(SIDE):
        for column in range(SIDE):
            mask[row, column] = any((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= radius**2 for x, y in dense)
    for x, y in (points[0], points[-1]):
        mask[int(y), int(x)] = True
    return mask
