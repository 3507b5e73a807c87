"""Pre-labels for a page: what the annotator network, the run's interpreter and one trained from these labels would say.

Correcting is quicker than painting: each of the three proposes a mask for a sample, which a person takes over and
mends. Training runs in the background and can be stopped; the interpreter that it makes is a preview, smaller than that
of train-interpreter, and stays in the page's hidden folder.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from pages.label_store import LabelStore, Sample
from pages.refine import refine

if TYPE_CHECKING:
    from ganfoundry.gan.generator import StyleSynthesis
    from ganfoundry.labels.interpreter import StyleInterpreter
    from ganfoundry.worlds.annotator import Annotator

MEMBERS = 4
STEPS = 200
_FILE = "interpreter.safetensors"


@dataclass(frozen=True)
class Networks:
    """What can propose labels.

    Attributes
    ----------
    synthesis : StyleSynthesis, of the generator that made the images
    annotator : Annotator or None
    interpreter : StyleInterpreter or None, the run's
    level : str, level of the schema that the interpreter knows
    """

    synthesis: "StyleSynthesis"
    annotator: "Annotator | None" = None
    interpreter: "StyleInterpreter | None" = None
    level: str = "fine"


@dataclass(frozen=True)
class Proposal:
    """Labels that a person may take over.

    Attributes
    ----------
    mask : (R, R) uint8 fine part ids
    keypoints : (K, 3) float32 or None, as in `Sample`
    """

    mask: NDArray[np.uint8]
    keypoints: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Training:
    """How far a training is: state "none", "running", "done", "stopped" or "failed"."""

    state: str = "none"
    step: int = 0
    steps: int = STEPS
    samples: int = 0
    message: str = ""


class _StoppedError(Exception):
    """The person asked the training to stop."""


class Assistant:
    """Proposes labels, and trains an interpreter from those of a store.

    Parameters
    ----------
    store : LabelStore
    load : callable
        Loads the networks; called once, when they are first needed, since that takes seconds.
    sources : names of the sources that `load` will give, of "annotator" and "interpreter"
    """

    def __init__(self, store: LabelStore, load: Callable[[], Networks], sources: tuple[str, ...] = ()) -> None:
        self._store, self._load, self._sources = store, load, sources
        self._lock = threading.Lock()  # one network computes at a time
        self._networks: Networks | None = None
        self._trained: StyleInterpreter | None = None
        self._progress = Training()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._path = store.own_folder / _FILE

    @property
    def sources(self) -> list[str]:
        """What can propose now: "trained", "interpreter", "annotator"."""
        trained = ("trained",) if self._trained is not None or self._path.exists() else ()
        return [*trained, *self._sources]

    @property
    def progress(self) -> Training:
        """How far the training is."""
        return self._progress

    def propose(self, source: str, name: str) -> Proposal:
        """Labels of a sample by one of `sources`.

        Raises
        ------
        InputError
            If there is no such source or sample, or the interpreter does not fit the generator.
        """
        sample = self._store.get(name)
        if source not in self.sources:
            raise InputError(f"nothing proposes labels by the name {source!r}; reload the page")
        with self._lock:
            networks = self._loaded()
            if source == "annotator":
                if networks.annotator is None:
                    raise InputError("no annotator network knows this generator's images; give one with --annotator")
                found = networks.annotator.annotate(self._store.image(name)[None])
                return Proposal(found.parts[0], found.keypoints[0])
            if source == "trained":
                return self._interpreted(self._trained_interpreter(), "fine", sample)
            assert networks.interpreter is not None
            return self._interpreted(networks.interpreter, networks.level, sample)

    def train(self) -> Training:
        """Start to train from the current labels: of the samples marked as done, or of all while there is none.

        Raises
        ------
        InputError
            If a training runs already.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise InputError("a training runs already; stop it or wait for it")
            samples = self._store.samples()
            used = [sample for sample in samples if sample.done] or samples
            self._stop.clear()
            self._progress = Training("running", samples=len(used))
            self._thread = threading.Thread(target=self._train, args=(used,), daemon=True)
            self._thread.start()
            return self._progress

    def stop(self) -> Training:
        """Ask the training to stop and wait for it; what was trained before stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        return self._progress

    def _train(self, used: list[Sample]) -> None:
        try:
            interpreter = self._fit(used)
            temporary = self._path.with_name(f".tmp-{os.getpid()}-{_FILE}")
            interpreter.save(temporary)
            os.replace(temporary, self._path)
            self._trained = interpreter
            self._progress = replace(self._progress, state="done", step=STEPS)
        except _StoppedError:
            self._progress = replace(self._progress, state="stopped")
        except Exception as error:  # it must reach the person, and the server must live on
            self._progress = replace(self._progress, state="failed", message=str(error) or type(error).__name__)

    def _fit(self, used: list[Sample]) -> "StyleInterpreter":
        import torch

        from ganfoundry.labels.interpreter import StyleInterpreter
        from ganfoundry.labels.interpreter import Training as Settings
        from ganfoundry.labels.keypoints import visible_only
        from ganfoundry.labels.synthesis import images_and_features

        with self._lock:
            networks = self._loaded()
        synthesis, known = networks.synthesis, networks.interpreter
        rows = [self._store.names.index(sample.name) for sample in used]
        w = torch.from_numpy(self._store.latents[rows])
        _, features = images_and_features(synthesis, w, list(synthesis.feature_dims))
        points = visible_only(np.stack([sample.keypoints for sample in used]))

        def advance() -> None:
            if self._stop.is_set():
                raise _StoppedError
            self._progress = replace(self._progress, step=min(self._progress.step + 1, STEPS))

        return StyleInterpreter.fit(
            features,
            np.stack([sample.mask for sample in used]),
            len(self._store.schema.parts),
            members=MEMBERS,
            keypoints=points if (points[..., 2] > 0).any() else None,
            training=Settings(steps=STEPS),
            advance=advance,
            direction=None if known is None else known.direction,  # labels do not change it
        )

    def _interpreted(self, interpreter: "StyleInterpreter", level: str, sample: Sample) -> Proposal:
        import torch

        from ganfoundry.labels.synthesis import images_and_features

        w = torch.from_numpy(self._store.latents[[self._store.names.index(sample.name)]])
        _, features = images_and_features(self._loaded().synthesis, w, interpreter.reads)
        prediction = interpreter.predict(features)
        mask = refine(prediction.label[0].numpy(), sample.mask, self._store.schema.merge(level))
        if prediction.keypoints is None:
            return Proposal(mask)
        points = np.clip(prediction.keypoints[0].numpy(), 0, self._store.resolution)
        seen = points[:, 2] >= 0.5
        points[:, 2] = 2
        return Proposal(mask, np.where(seen[:, None], points, sample.keypoints).astype(np.float32))

    def _loaded(self) -> Networks:
        if self._networks is None:
            self._networks = self._load()
        return self._networks

    def _trained_interpreter(self) -> "StyleInterpreter":
        from ganfoundry.labels.interpreter import StyleInterpreter

        if self._trained is None:
            self._trained = StyleInterpreter.load(Path(self._path))
        return self._trained
