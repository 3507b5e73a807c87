"""Training of an inverse-graphics network: steps, checkpoints, evaluation, pictures.

Everything drawn at random follows from (seed, step): a continued run takes the steps that an uninterrupted one takes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ganfoundry.data.seeds import TRAIN, sample_integer, sample_rng
from ganfoundry.errors import InputError, RunError
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.train_data import write_atomically
from ganfoundry.gan.train_distributed import DivergedError, Group
from ganfoundry.gan.train_log import append_line, forget_lines_after
from ganfoundry.images import network_images
from ganfoundry.labels.schema import mirror_order
from ganfoundry.shape.camera_table import CameraTable
from ganfoundry.shape.hidden import LEAST_SHARE, shown_share
from ganfoundry.shape.inverse_graphics import Batch, Objective, ObjectiveConfig
from ganfoundry.shape.multiview import MultiView, distances_outside
from ganfoundry.shape.networks import InverseGraphicsNetwork, NetworkConfig

FORMAT = "ganfoundry-inverse-graphics-1"
CHECKPOINT = "checkpoint.safetensors"
_WARMUP = 100
_LEAN = 4.0  # logits from the middle to the side
_FARTHEST = 4.0  # radii of the start: a mesh that reaches further has exploded
_LEAST_SPREAD = 0.02  # of the start's: a mesh that is smaller has collapsed


@dataclass(frozen=True, kw_only=True)
class InverseTraining:
    """How an inverse-graphics network is trained.

    Attributes
    ----------
    steps : int
    objects, views : int
        Of a batch; `objects * views` images.
    learning_rate, camera_rate : float
        Highest rates of Adam, for the network and the camera table; both fall in half a cosine.
    camera_from : int
        Step from which cameras move.
    turn_every : int
        Steps between looks from behind; codes that look better so are turned, until half of the run. 0: never.
    fixed_cameras : bool
        Keep the cameras at the azimuth bins' centres.
    bf16 : bool
    seed : int
    objective : ObjectiveConfig
    """

    steps: int = 10_000
    objects: int = 8
    views: int = 2
    learning_rate: float = 5e-4
    camera_rate: float = 3e-2
    camera_from: int = 100
    turn_every: int = 25
    fixed_cameras: bool = False
    bf16: bool = True
    seed: int = 0
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)


class InverseTrainer:
    """Network, camera table, optimiser and position of a run.

    Parameters
    ----------
    network_config : NetworkConfig
    training : InverseTraining
    data : MultiView
        Learnt from; images whose masks are empty or full are left out.
    discriminator : Discriminator or None
        For the perceptual loss.
    group : Group
        The processes that share every step's objects; see `ganfoundry.shape.inverse_processes`.

    Raises
    ------
    InputError
        If no object has enough usable images, or the processes cannot share the objects evenly.
    """

    def __init__(
        self,
        network_config: NetworkConfig,
        training: InverseTraining,
        data: MultiView,
        discriminator: Discriminator | None = None,
        group: Group | None = None,
    ) -> None:
        self.training, self.data = training, data.take(data.usable())
        self.group = group or Group()
        self.stopped = False
        if training.objects % self.group.size:
            raise InputError(
                f"{training.objects} objects a step cannot be shared evenly by {self.group.size} processes; "
                "change one of the two numbers"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.network = InverseGraphicsNetwork(_mirrored(network_config, data.keypoint_names))
            lean_keypoints(self.network, data.keypoint_names)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = 0 if training.fixed_cameras else len(self.data)
        self.table = CameraTable(
            data.azimuths,
            images,
            network_config.distance,
            network_config.fov,
            fixed=training.fixed_cameras,
            groups=self.data.code_groups,
        )
        if discriminator is not None:
            discriminator = discriminator.requires_grad_(False).eval()
        self.objective = Objective(training.objective, network_config.level, discriminator)
        self.distances = torch.from_numpy(distances_outside(self.data.masks))
        self.data.draw(np.random.default_rng(0), 1, training.views)  # too few images are reported before any work
        groups = [{"params": list(self.network.parameters())}]
        if images:
            groups.append({"params": list(self.table.parameters())})
        self.adam = torch.optim.Adam(groups, training.learning_rate, betas=(0.9, 0.99))
        self.step, self.seconds = 0, 0.0

    # ------------------------------------------------------------ steps

    def take_step(self, *, stop: bool = False) -> dict[str, float]:
        """One step; the unweighted losses of this process's share by name, and their weighted "total".

        Parameters
        ----------
        stop : bool
            Whether this process wants to end: `stopped` then becomes true in all of them.

        Raises
        ------
        RunError
            If the loss is not a finite number, or the meshes collapsed or exploded; the parameters are then unchanged
            since the last checkpoint that was saved.
        """
        start = time.perf_counter()
        rng = sample_rng(self.training.seed, TRAIN, self.step)
        rows = self.data.draw(rng, self.training.objects, self.training.views).ravel()
        own = self._share(len(rows))
        batch = self.batch(rows[own])
        self._set_rates()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sample_integer(self.training.seed, TRAIN, self.step) % 2**63)
            terms = self.objective(self.network, self.table, batch, self.step, bf16=self.training.bf16)
        total = self.objective.total(terms)
        if not bool(torch.isfinite(total)):
            raise RunError(self._diverged("the loss is not a finite number"))
        self.adam.zero_grad(set_to_none=True)
        total.backward()
        parameters = [p for group in self.adam.param_groups for p in group["params"]]
        try:
            self.stopped = self.group.mean_gradients(parameters, "losses", flag=stop)
        except DivergedError as error:
            raise RunError(self._diverged("the gradient is not a finite number")) from error
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        self.adam.step()
        if self._looks_behind():
            doubt = torch.zeros(2, len(rows))
            doubt[:, own] = torch.stack(self.objective.doubt(self.network, self.table, batch))
            self.group.mean_(doubt).mul_(self.group.size)
            self.table.observe(torch.from_numpy(self.data.codes[rows]), doubt[0], doubt[1])
            if self.step % (10 * self.training.turn_every) == 0:
                self.table.turn_doubtful()
        self.step += 1
        self.seconds += time.perf_counter() - start
        return {"total": float(total.detach()), **{name: float(value.detach()) for name, value in terms.items()}}

    def _share(self, rows: int) -> slice:
        """Rows of a step that this process works on."""
        each = rows // self.group.size
        return slice(self.group.rank * each, (self.group.rank + 1) * each)

    def batch(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Batch:
        """Rows of the data as tensors, with as many views an object as the run has."""
        data, index = self.data, torch.from_numpy(rows)

        def tensor(values: Any, kind: torch.dtype) -> Tensor | None:
            return None if values is None else torch.from_numpy(values[rows]).to(kind)

        return Batch(
            images=network_images(data.images[rows]),
            masks=torch.from_numpy(data.masks[rows]).float(),
            distances=self.distances[index],
            codes=torch.from_numpy(data.codes[rows]),
            rows=index,
            parts=tensor(data.parts, torch.int64),
            certainty=tensor(data.certainty, torch.float32),
            keypoints=tensor(data.keypoints, torch.float32),
            views=self.training.views,
        )

    def _set_rates(self) -> None:
        """Linear warm-up, then half a cosine; cameras stand still at first."""
        training, done = self.training, self.step / max(self.training.steps, 1)
        factor = min(1.0, (self.step + 1) / _WARMUP) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        rates = (training.learning_rate, training.camera_rate if self.step >= training.camera_from else 0.0)
        for group, rate in zip(self.adam.param_groups, rates, strict=False):
            group["lr"] = rate * factor

    def _looks_behind(self) -> bool:
        every = self.training.turn_every
        early = self.training.camera_from < self.step < self.training.steps // 2
        return bool(every) and early and self.step % every == 0 and not self.training.fixed_cameras

    @torch.no_grad()
    def check_meshes(self) -> None:
        """Refuse to go on with meshes that have collapsed or exploded.

        Raises
        ------
        RunError
        """
        rows = np.arange(min(8, len(self.data)))
        vertices = self.network.shape(self.network.encode(network_images(self.data.images[rows]))).vertices
        radius = max(self.network.config.radii)
        farthest, spread = float(vertices.norm(dim=2).max()), float(vertices.std(1).min())
        if not math.isfinite(farthest) or farthest > _FARTHEST * radius:
            raise RunError(self._diverged(f"meshes reach {farthest:.3g} m from their middle: they have exploded"))
        if spread < _LEAST_SPREAD * min(self.network.config.radii):
            raise RunError(self._diverged(f"meshes are {spread:.3g} m thin: they have collapsed"))

    def find_hidden(self) -> None:
        """Look which places the views show, at the end of training: the others are painted otherwise from now on."""
        self.network.hide(shown_share(self.network, self.table, self.data) >= LEAST_SHARE)

    def _diverged(self, what: str) -> str:
        return (
            f"{what} (step {self.step}); the last checkpoint is kept. Begin a new run with a lower --learning-rate "
            "or a larger --laplacian"
        )

    # ------------------------------------------------------------ checkpoints

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name."""
        found = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        found |= {f"table.{name}": value for name, value in self.table.state_dict().items()}
        for name, parameter in self._named_parameters():
            found |= {f"adam.{name}.{key}": value for key, value in self.adam.state[parameter].items()}
        return found

    def _named_parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        both = {"network": self.network, "table": self.table}
        return [(f"{key}.{name}", p) for key, module in both.items() for name, p in module.named_parameters()]

    def save(self, folder: Path) -> None:
        """Write the checkpoint whole or not at all.

        Raises
        ------
        RunError
            If it cannot be written; the earlier one is still there.
        """
        metadata = {"format": FORMAT, "recipe": self._recipe(), "step": str(self.step), "seconds": repr(self.seconds)}
        tensors = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.tensors().items()
        }
        write_atomically(folder / CHECKPOINT, save(tensors, metadata))

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint.

        Raises
        ------
        InputError
            If it is damaged, or of a run with another recipe.
        """
        path = folder / CHECKPOINT
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot read the checkpoint {path}: {error}; delete it to begin anew") from error
        if metadata.get("format") != FORMAT or metadata.get("recipe") != self._recipe():
            raise InputError(f"{path} is of a run with other options; use the same, or begin anew in another folder")
        self.network.load_state_dict(_below(tensors, "network."))
        self.table.load_state_dict(_below(tensors, "table."))
        for name, parameter in self._named_parameters():
            moments = _below(tensors, f"adam.{name}.")
            if moments:
                self.adam.state[parameter] = dict(moments)
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])

    def _recipe(self) -> str:
        training = dataclasses.asdict(self.training)
        return json.dumps({"network": dataclasses.asdict(self.network.config), "training": training}, sort_keys=True)


@torch.no_grad()
def lean_keypoints(network: InverseGraphicsNetwork, names: Sequence[str]) -> None:
    """Begin with keypoints named "left" on the mesh's left side (+X), those named "right" on its right.

    Labels that confuse left and right fit keypoints on either side nearly as well.
    """
    sides = torch.tensor([("left" in name) - ("right" in name) for name in names], dtype=torch.float32)
    across = network.start[:, 0] / network.start[:, 0].abs().max()
    network.keypoint_logits.add_(_LEAN / network.config.keypoint_gain * sides[:, None] * across)


def _mirrored(config: NetworkConfig, names: Sequence[str]) -> NetworkConfig:
    """The configuration with the keypoints' mirror images, told by "left" and "right" in their names."""
    if not config.symmetric_shape or config.keypoint_mirror:
        return config
    return dataclasses.replace(config, keypoint_mirror=tuple(mirror_order(names)))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def train(
    trainer: InverseTrainer,
    folder: Path,
    *,
    checkpoint_steps: int = 500,
    advance: Callable[[int], Any] | None = None,
    show: Callable[[InverseTrainer], Mapping[str, float]] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Take all remaining steps, from the folder's checkpoint if there is one.

    Parameters
    ----------
    trainer : InverseTrainer
    folder : Path
        Takes the checkpoint, and log.jsonl with the mean losses between checkpoints.
    checkpoint_steps : int
    advance : called with the number of steps done since it was last called
    show : called at each checkpoint; draws pictures, and returns figures for the log
    should_stop : once it is true, a checkpoint is written and the steps end

    Raises
    ------
    RunError
        If training diverged.
    """
    if (folder / CHECKPOINT).exists():
        trainer.load(folder)
    first = trainer.group.rank == 0  # writes the files
    if first:
        forget_lines_after(folder, trainer.step)
    if advance is not None and trainer.step:
        advance(trainer.step)
    sums: dict[str, list[float]] = {}
    while trainer.step < trainer.training.steps and not trainer.stopped:
        for name, value in trainer.take_step(stop=should_stop()).items():
            sums.setdefault(name, []).append(value)
        if advance is not None:
            advance(1)
        due = trainer.step % checkpoint_steps == 0 or trainer.step == trainer.training.steps
        if first and (due or trainer.stopped):
            trainer.check_meshes()
            trainer.save(folder)
        if first and due:
            figures = {name: float(np.mean(values)) for name, values in sums.items()}
            figures |= {} if show is None else dict(show(trainer))
            append_line(folder, {"step": trainer.step, "seconds": round(trainer.seconds, 1), **figures})
            sums.clear()
