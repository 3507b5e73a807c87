"""Labels folders, servers in processes of their own, and a headless browser, for the tests of the pages."""

import base64
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.labels.labelset import LabelSet
from ganfoundry.labels.schema import PartSchema
from ganfoundry.labels.synthesis import images_and_features
from pipeline.artifacts import Gan

ROOT = Path(__file__).resolve().parents[2]
SIDE = 16
SCHEMA = PartSchema(
    name="shades",
    parts=("background", "dim", "mid", "bright", *(f"extra_{i}" for i in range(4, 12))),
    levels={"two": ("background", *["light"] * 3, *["other"] * 8)},
    keypoints=("nose", "left_ear", "right_ear"),
)


def plain_labels(folder: Path, count: int = 3, *, keypoints: bool = True) -> LabelSet:
    """Labels of random pictures; no generator is needed."""
    rng = np.random.default_rng(0)
    points = np.zeros((count, 3, 3), np.float32)
    points[:, 0] = (4, 5, 2)
    labels = LabelSet(
        tuple(f"sample-{i}" for i in range(count)),
        rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8),
        np.zeros((count, SIDE, SIDE), np.uint8),
        np.zeros((count, 8), np.float32),
        "0" * 64,
        SCHEMA,
        {"labels": "none", "corrected": []},
        keypoints=points if keypoints else None,
    )
    labels.save(folder)
    return labels


def shaded_labels(folder: Path, gan: Gan, count: int = 6) -> LabelSet:
    """Samples whose parts 0 to 3 are quarters of the range of a mean feature: learnable."""
    loaded = load_gan(gan.path)
    w = content_codes(loaded.generator, list(range(count)), 0.7)
    last = list(loaded.generator.synthesis.feature_dims)[-1]
    images, features = images_and_features(loaded.generator.synthesis, w, [last])
    shade = features[last].mean(1).numpy()
    masks = np.searchsorted(np.quantile(shade, [0.25, 0.5, 0.75]), shade).astype(np.uint8)
    names = tuple(f"sample-{i}" for i in range(count))
    labels = LabelSet(names, images, masks, w.numpy(), loaded.sha256, SCHEMA, {"labels": "by features"})
    labels.save(folder)
    return labels


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """`python cli.py annotate-parts --open FOLDER`, or another command that serves a page."""

    def __init__(self, *arguments: object, port: int = 0) -> None:
        command = [sys.executable, "cli.py", *map(str, arguments), "--port", str(port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            found = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", line)
            if found:
                self.url = found.group()
                return
        self._wait()
        raise AssertionError("".join(lines))

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json", **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return {"status": answer.status, **json.loads(answer.read())}
        except urllib.error.HTTPError as error:
            with error:
                return {"status": error.code, **json.loads(error.read())}

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self._wait()

    def stop(self) -> str:
        """End it as Ctrl-C does, which a process in the background may ignore; returns what else it printed."""
        self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> str:
        out, _ = self.process.communicate(timeout=60)
        return out


def labels_gan(folder: Path) -> Gan:
    """Something whose sha256 is that of the plain labels' generator: enough where nothing is drawn."""
    folder.mkdir()
    (folder / "generator.safetensors").write_bytes(b"")
    return Gan(folder)


def body(mask: np.ndarray, revision: int, *, keypoints: object = None, done: bool = False) -> dict[str, object]:
    """What the page sends to save."""
    points = [[0, 0, 0]] * 3 if keypoints is None else keypoints
    return {
        "revision": revision,
        "mask": base64.b64encode(mask.tobytes()).decode(),
        "keypoints": points,
        "done": done,
    }


def until(condition, seconds: float = 30) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def find_chromium() -> str | None:
    """Path of an installed Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)
