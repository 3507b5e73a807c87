"""One step of StyleGAN2 training: generator, path length, discriminator, R1.

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN". The generator and the discriminator take
turns, or both follow gradients taken at the same weights and on the same generated images (`simultaneous_phase`), which
saves a pass through each network. Everything random in a step is drawn from
(seed, step) for the whole batch, and each process takes its rows of it: a run is the same however often it is
interrupted, and, up to rounding, whatever the number of processes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganfoundry.data.seeds import TRAIN, sample_integer
from ganfoundry.gan import losses
from ganfoundry.gan.augment import NUM_UNIFORMS, augment, mirror, parse_policy, steer
from ganfoundry.gan.stylegan2 import Generator
from ganfoundry.gan.train_config import GROUP_SIZE, TrainingConfig
from ganfoundry.gan.train_data import BatchOrder, Images
from ganfoundry.gan.train_distributed import Group
from ganfoundry.gan.train_state import TrainingState
from ganfoundry.images import network_images

GENERATOR, PATH, REAL, DISCRIMINATOR, R1 = range(5)  # phases; part of the seeds, never renumber
NUM_PHASES = 8
STEER_STEPS = 4  # steps whose real logits are averaged before the augmentations' probability moves (arXiv:2006.06676)

Stats = dict[str, Tensor]


@dataclass(frozen=True)
class Fakes:
    """What the generator is given for one phase, this process's rows of the batch."""

    z: Tensor  # (n, z_dim)
    z_mix: Tensor  # (n, z_dim), the code of the layers from `crossover` on
    crossover: Tensor  # (n,) int, num_ws where nothing is mixed
    noise: dict[str, Tensor]  # layer -> (n, 1, r, r)


def phase_generator(seed: int, step: int, phase: int, device: torch.device) -> torch.Generator:
    """Random generator of one phase of one step."""
    return torch.Generator(device).manual_seed(sample_integer(seed, TRAIN, step * NUM_PHASES + phase))


def process_rows(batch: int, rank: int, size: int) -> Tensor:
    """Rows (batch / size,) of the batch that belong to one process.

    The discriminator compares rows n, n + N/4, n + N/2, n + 3N/4 of its N images (minibatch standard deviation); such
    a group stays together, so that the logits do not depend on the number of processes.
    """
    return torch.arange(batch).reshape(GROUP_SIZE, size, -1)[:, rank].reshape(-1)


def draw_fakes(config: TrainingConfig, network: Generator, rows: Tensor, random: torch.Generator) -> Fakes:
    """Draw latents, mixing and noise for the whole batch and take the given rows."""
    device = random.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(config.batch, *shape, generator=random, device=device)[rows]

    z, z_mix = normal(config.z_dim), normal(config.z_dim)
    cut = torch.randint(1, network.num_ws, (config.batch,), generator=random, device=device)
    mixed = torch.rand(config.batch, generator=random, device=device) < config.style_mixing
    crossover = torch.where(mixed, cut, network.num_ws)[rows]
    sides = {name: network.synthesis.feature_dims[name][1] for name in network.synthesis.noise_names}
    return Fakes(z, z_mix, crossover, {name: normal(1, side, side) for name, side in sides.items()})


def map_fakes(network: Generator, fakes: Fakes) -> Tensor:
    """Style codes (n, num_ws, w_dim): the first code up to the crossover, the second from there."""
    w, w_mix = network.mapping(fakes.z), network.mapping(fakes.z_mix)
    first = torch.arange(network.num_ws, device=w.device) < fakes.crossover[:, None]
    return torch.where(first[:, :, None], w[:, None], w_mix[:, None])


def real_batch(config: TrainingConfig, images: Images, order: BatchOrder, rows: Tensor, step: int) -> Tensor:
    """Take this process's real images of a step, (n, 3, R, R) float32 in [-1, 1] on the CPU, half of them mirrored."""
    random = phase_generator(config.seed, step, REAL, torch.device("cpu"))
    flips = (torch.rand(config.batch, generator=random) < 0.5)[rows]
    reals = network_images(images[order.rows(step)[rows.numpy()]])
    return mirror(reals, flips) if config.mirror else reals


@dataclass(frozen=True)
class Step:
    """What the phases of one step share: the state they change, this process's rows, and who else takes part."""

    state: TrainingState
    group: Group
    rows: Tensor  # (n,) rows of the batch that belong to this process

    @property
    def config(self) -> TrainingConfig:
        """Recipe of the run."""
        return self.state.config

    def random(self, phase: int) -> torch.Generator:
        """Random generator of one phase."""
        return phase_generator(self.config.seed, self.state.step, phase, self.state.device)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the feature maps where no second derivative is taken."""
        return torch.bfloat16 if self.config.precision == "bf16" else torch.float32

    def augment(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """Augment this process's images as the recipe says."""
        config, policy, device = self.config, parse_policy(self.config.augment), draws.device
        uniforms = torch.rand(config.batch, NUM_UNIFORMS, generator=draws, device=device)[self.rows]
        if not config.augment_target:
            return augment(images, policy, uniforms)
        chances = torch.rand(config.batch, len(policy), generator=draws, device=device)[self.rows]
        return augment(images, policy, uniforms, chances < self.state.augment_p)


def training_step(state: TrainingState, reals: Tensor, group: Group, *, stop: bool = False) -> tuple[Stats, bool]:
    """Take one step of the generator and of the discriminator, with the regularisers that are due.

    Parameters
    ----------
    state : TrainingState
        Changed in place.
    reals : (n, 3, R, R) float32 in [-1, 1]
        This process's real images, on the state's device.
    group : Group
    stop : bool
        Whether this process wants to end after the step.

    Returns
    -------
    stats : dict of () Tensor
        Losses and scores of this process's images; `r1` only when it was computed.
    stop : bool
        Whether any process wants to end.

    Raises
    ------
    RunError
        If a gradient is not finite; it has not been applied.
    """
    config = state.config
    step = Step(state, group, process_rows(config.batch, group.rank, group.size).to(state.device))
    if config.update == "simultaneous":
        stats, stop = simultaneous_phase(step, reals, stop=stop)
    else:
        stats = generator_phase(step)
    if config.path_weight and state.step % config.path_interval == 0:
        stats |= path_length_phase(step)
    if config.update == "alternating":
        discriminator_stats, stop = discriminator_phase(step, reals, stop=stop)
        stats |= discriminator_stats
    if config.penalised and state.step % config.r1_interval == 0:
        stats |= r1_phase(step, reals)
    state.step += 1
    state.images += config.batch
    update_average(state)
    return stats, stop


def generator_phase(step: Step) -> Stats:
    """Make images that the discriminator takes for real."""
    state, draws = step.state, step.random(GENERATOR)
    state.discriminator.requires_grad_(False)
    fakes = draw_fakes(step.config, state.generator, step.rows, draws)
    images = state.generator.synthesis(map_fakes(state.generator, fakes), noise=fakes.noise, dtype=step.dtype)
    logits = state.discriminator(step.augment(images, draws), dtype=step.dtype)
    loss = _generator_loss(step, logits)
    _descend(step, loss, state.generator, state.generator_adam, "generator")
    state.discriminator.requires_grad_(True)
    return {"generator_loss": loss.detach()}


def path_length_phase(step: Step) -> Stats:
    """Make a step of fixed size in w change the image by a fixed amount; on half the batch, in float32."""
    state, config, draws = step.state, step.config, step.random(PATH)
    half = len(step.rows) // 2
    fakes = draw_fakes(config, state.generator, step.rows, draws)
    ws = map_fakes(state.generator, fakes)[:half]
    images = state.generator.synthesis(ws, noise={name: noise[:half] for name, noise in fakes.noise.items()})
    probe = torch.randn(config.batch, *images.shape[1:], generator=draws, device=state.device)[step.rows][:half]
    lengths = losses.path_lengths(images, ws, probe)
    state.path_length.lerp_(step.group.mean_(lengths.detach().mean()), config.path_decay)
    penalty = losses.path_length_penalty(lengths, state.path_length)
    loss = penalty * (config.path_weight * config.path_interval)
    _descend(step, loss, state.generator, state.generator_adam, "path length")
    return {"path_length": state.path_length.clone()}


def discriminator_phase(step: Step, reals: Tensor, *, stop: bool) -> tuple[Stats, bool]:
    """Tell real images from generated ones."""
    state, draws = step.state, step.random(DISCRIMINATOR)
    fakes = draw_fakes(step.config, state.generator, step.rows, draws)
    with torch.no_grad():
        images = state.generator.synthesis(map_fakes(state.generator, fakes), noise=fakes.noise, dtype=step.dtype)
    real_logits = state.discriminator(step.augment(reals, draws), dtype=step.dtype)
    fake_logits = state.discriminator(step.augment(images, draws), dtype=step.dtype)
    loss = _discriminator_loss(step, real_logits, fake_logits)
    stop = _descend(step, loss, state.discriminator, state.discriminator_adam, "discriminator", stop=stop)
    return {"discriminator_loss": loss.detach(), **_scores(step, real_logits, fake_logits)}, stop


def simultaneous_phase(step: Step, reals: Tensor, *, stop: bool) -> tuple[Stats, bool]:
    """Both at once: the generator's images serve both losses, and pass the discriminator once.

    The gradients are those that each phase would take alone at these weights (simultaneous instead of alternating
    gradient descent; Mescheder et al. 2018, arXiv:1801.04406, study both), and travel together.
    """
    state, draws = step.state, step.random(GENERATOR)
    fakes = draw_fakes(step.config, state.generator, step.rows, draws)
    images = state.generator.synthesis(map_fakes(state.generator, fakes), noise=fakes.noise, dtype=step.dtype)
    shown = images.detach().requires_grad_(True)
    fake_logits = state.discriminator(step.augment(shown, draws), dtype=step.dtype)
    real_logits = state.discriminator(step.augment(reals, draws), dtype=step.dtype)
    generator_loss = _generator_loss(step, fake_logits)
    discriminator_loss = _discriminator_loss(step, real_logits, fake_logits)
    (wish,) = torch.autograd.grad(generator_loss, shown, retain_graph=True)
    networks = {state.generator: state.generator_adam, state.discriminator: state.discriminator_adam}
    for adam in networks.values():
        adam.zero_grad()
    discriminator_loss.backward(inputs=list(state.discriminator.parameters()))
    images.backward(wish)
    parameters = [parameter for network in networks for parameter in network.parameters()]
    stop = step.group.mean_gradients(parameters, "generator or the discriminator", flag=stop)
    for adam in networks.values():
        adam.step()
    found = {"generator_loss": generator_loss.detach(), "discriminator_loss": discriminator_loss.detach()}
    return found | _scores(step, real_logits, fake_logits), stop


def _generator_loss(step: Step, fake_logits: Tensor) -> Tensor:
    if step.config.discriminator == "projected":
        return losses.hinge_generator_loss(fake_logits)
    return losses.generator_loss(fake_logits)


def _discriminator_loss(step: Step, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    if step.config.discriminator == "projected":
        return losses.hinge_discriminator_loss(real_logits, fake_logits)
    return losses.discriminator_loss(real_logits, fake_logits)


def _scores(step: Step, real_logits: Tensor, fake_logits: Tensor) -> Stats:
    """Mean logits; and, where the augmentations adapt, their probability, moved when it is due."""
    state, config = step.state, step.config
    scores = {"real_score": real_logits.detach().mean(), "fake_score": fake_logits.detach().mean()}
    if not config.augment_target:
        return scores
    state.real_sign += step.group.mean_(real_logits.detach().float().sign().mean())
    if (state.step + 1) % STEER_STEPS == 0:
        sign = state.real_sign / STEER_STEPS
        state.augment_p.copy_(steer(state.augment_p, sign, config.augment_target, STEER_STEPS * config.batch))
        state.real_sign.zero_()
    return scores | {"augment_p": state.augment_p.clone()}


def r1_phase(step: Step, reals: Tensor) -> Stats:
    """Keep the discriminator flat around real images."""
    state, config = step.state, step.config
    inputs = step.augment(reals, step.random(R1)).detach().requires_grad_(True)
    dtype = torch.bfloat16 if config.r1_precision == "bf16" else torch.float32
    penalty = losses.r1_penalty(state.discriminator(inputs, dtype=dtype), inputs)
    loss = penalty * (config.r1_gamma / 2 * config.r1_interval)
    _descend(step, loss, state.discriminator, state.discriminator_adam, "R1")
    return {"r1": penalty.detach()}


def _descend(
    step: Step, loss: Tensor, network: nn.Module, adam: torch.optim.Adam, phase: str, *, stop: bool = False
) -> bool:
    """Follow the gradient of the loss, averaged over the processes; returns whether any of them wants to stop."""
    adam.zero_grad()
    loss.backward()
    stop = step.group.mean_gradients(list(network.parameters()), phase, flag=stop)
    adam.step()
    return stop


@torch.no_grad()
def update_average(state: TrainingState) -> None:
    """Move the averaged generator towards the trained one; buffers are copied."""
    config = state.config
    decay = losses.ema_decay(config.batch, state.images, config.ema_kimg, config.ema_rampup)
    for average, weight in zip(state.average.parameters(), state.generator.parameters(), strict=True):
        average.lerp_(weight, 1 - decay)
