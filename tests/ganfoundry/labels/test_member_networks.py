"""The batched members against ordinary torch networks: forward, gradients, batch normalisation, folding."""

import torch
from torch import Tensor, nn

from ganfoundry.labels.interpreter_config import Training
from ganfoundry.labels.member_networks import MemberNetworks, fold_affine, initial_parameters

torch.set_num_threads(1)
WIDTHS = (7, 6, 5, 4)


def reference(networks: MemberNetworks, member: int) -> nn.Sequential:
    """Ordinary modules with a member's weights."""
    modules: list[nn.Module] = []
    for index, (weight, bias) in enumerate(zip(networks.weights, networks.biases, strict=True)):
        linear = nn.Linear(weight.shape[2], weight.shape[1])
        linear.load_state_dict({"weight": weight[member].detach().clone(), "bias": bias[member].detach().clone()})
        modules.append(linear)
        if index < len(networks.weights) - 1:
            modules.append(nn.ReLU())
            if networks.batch_norm:
                modules.append(nn.BatchNorm1d(weight.shape[1]))
    return nn.Sequential(*modules)


def plain(parameters: tuple[list[Tensor], list[Tensor]], member: int, rows: Tensor) -> Tensor:
    """Outputs of folded layers."""
    for index, (weight, bias) in enumerate(zip(*parameters, strict=True)):
        rows = (rows.relu() if index else rows) @ weight[member].T + bias[member]
    return rows


def test_steps_of_published_networks_are_those_of_torch() -> None:
    """Three Adam steps with batch normalisation: same losses, same gradients, same folded network."""
    random = torch.Generator().manual_seed(0)
    training = Training(batch_norm=True, dropout=0.0, initialisation="normal")
    ours = MemberNetworks(WIDTHS, 2, training, random)
    theirs = [reference(ours, m) for m in range(2)]
    optimiser = torch.optim.Adam(ours.parameters(), 1e-2)
    others = [torch.optim.Adam(n.parameters(), 1e-2) for n in theirs]
    for _ in range(3):
        rows, target = torch.randn(2, 9, 7, generator=random), torch.randint(0, 4, (2, 9), generator=random)
        losses = [nn.functional.cross_entropy(o, t) for o, t in zip(ours(rows, random), target, strict=True)]
        optimiser.zero_grad()
        torch.autograd.backward(torch.stack(losses).sum())
        optimiser.step()
        for member, (network, other) in enumerate(zip(theirs, others, strict=True)):
            loss = nn.functional.cross_entropy(network(rows[member]), target[member])
            assert torch.allclose(loss, losses[member], atol=1e-5)
            other.zero_grad()
            torch.autograd.backward(loss)
            other.step()
    rows = torch.randn(11, 7, generator=random)
    folded = ours.folded(torch.zeros(7), torch.ones(7))
    for member, network in enumerate(theirs):
        assert torch.allclose(plain(folded, member, rows), network.eval()(rows), atol=1e-4)


def test_folding_the_standardisation_is_exact() -> None:
    random = torch.Generator().manual_seed(0)
    networks = MemberNetworks(WIDTHS, 3, Training(dropout=0.0), random)
    mean, deviation = 3 * torch.randn(7, generator=random), torch.rand(7, generator=random) + 0.1
    rows = torch.randn(3, 11, 7, generator=random)
    expected = networks((rows - mean) / deviation, random)
    folded = networks.folded(mean, deviation)
    for member in range(3):
        assert (plain(folded, member, rows[member]) - expected[member]).abs().max() < 1e-4


def test_fold_affine_per_member() -> None:
    random = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(3, 5, 7, generator=random), torch.randn(3, 5, generator=random)
    scale, shift = torch.randn(3, 7, generator=random), torch.randn(3, 7, generator=random)
    x = torch.randn(3, 11, 7, generator=random)
    folded, moved = fold_affine(weight, bias, scale, shift)
    expected = torch.einsum("mod,mnd->mno", weight, x * scale[:, None] + shift[:, None]) + bias[:, None]
    assert (torch.einsum("mod,mnd->mno", folded, x) + moved[:, None] - expected).abs().max() < 1e-4


def test_dropout_keeps_the_mean_and_is_seeded() -> None:
    networks = MemberNetworks((4, 4, 1), 1, Training(dropout=0.3), torch.Generator().manual_seed(0))
    networks.weights = [torch.eye(4)[None], torch.ones(1, 1, 4)]
    rows = torch.ones(1, 20_000, 4)
    draw = [networks(rows, torch.Generator().manual_seed(0)).detach() for _ in range(2)]
    assert torch.equal(draw[0], draw[1])
    assert abs(float(draw[0].mean()) - 4.0) < 0.05
    assert float(draw[0].std()) > 0.5


def test_initial_weights() -> None:
    random = torch.Generator().manual_seed(0)
    weights, biases = initial_parameters((400, 300, 200), 4, random)
    assert abs(float(weights[0].std()) / (2 / 400) ** 0.5 - 1) < 0.02
    assert abs(float(weights[1].std()) / (0.1 * (2 / 300) ** 0.5) - 1) < 0.02
    assert all(b.eq(0).all() for b in biases)
    weights, _ = initial_parameters((400, 300, 200), 4, random, "normal")
    assert all(abs(float(w.std()) / 0.02 - 1) < 0.02 for w in weights)
