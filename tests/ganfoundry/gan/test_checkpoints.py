"""Checkpoints: round trips, copies, other programs' files, names and shipped networks."""

import argparse
import hashlib
import io
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ganfoundry import weights
from ganfoundry.errors import InputError
from ganfoundry.gan import rosinality
from ganfoundry.gan.checkpoints import copy_gan, load_gan, save_gan
from tests.ganfoundry.gan.checkpointhelp import PT, golden_state, networks, pt_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_gan(tmp_path / "gan", *networks(), {"recipe": {"kimg": 3}})
    return tmp_path / "gan"


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


def test_equal_weights_make_equal_files(tmp_path: Path):
    """The sha256 of the file is the generator's identity, so a second import must not change it."""
    generator, _ = networks()
    for name in "abcdef":
        save_gan(tmp_path / name, generator, None, {})
    assert len({(tmp_path / name / "generator.safetensors").read_bytes() for name in "abcdef"}) == 1


def test_a_copy_of_a_float16_file_keeps_its_bytes(tmp_path: Path):
    """Codes and labels name the sha256 of the shipped file; the imported one must be that file."""
    save_gan(tmp_path / "shipped", *networks(), {}, half=True)
    copied = copy_gan(tmp_path / "shipped", tmp_path / "copy")
    for name in ("generator.safetensors", "discriminator.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / "shipped" / name).read_bytes()
    assert copied.sha256 == load_gan(tmp_path / "shipped").sha256


def test_float32_round_trip_is_exact(tmp_path: Path) -> None:
    generator, discriminator = networks()
    save_gan(tmp_path, generator, discriminator, {"note": "x"})
    loaded = load_gan(tmp_path)
    assert loaded.discriminator is not None
    assert same(loaded.generator, generator)
    assert same(loaded.discriminator, discriminator)
    assert loaded.generator.config == generator.config
    assert loaded.discriminator.config == discriminator.config
    assert not loaded.generator.training
    assert not any(p.requires_grad for p in loaded.generator.parameters())
    z = torch.randn(3, 4)
    assert torch.equal(loaded.generator(z), generator(z).detach())
    digest = hashlib.sha256((tmp_path / "generator.safetensors").read_bytes()).hexdigest()
    assert loaded.sha256 == digest == loaded.card["sha256"]
    assert loaded.card["note"] == "x"
    assert "8 px" in loaded.description
    assert loaded.notes == ()
    assert load_gan(tmp_path / "generator.safetensors").sha256 == digest


def test_half_precision_storage(tmp_path: Path) -> None:
    generator, discriminator = networks()
    save_gan(tmp_path / "half", generator, discriminator, {}, half=True)
    save_gan(tmp_path / "full", generator, discriminator, {})
    sizes = [(tmp_path / name / "generator.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.8 * sizes[1]
    loaded = load_gan(tmp_path / "half").generator
    assert all(value.dtype == torch.float32 for value in loaded.state_dict().values())
    for name, value in generator.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    generator.w_avg[0] = 1e6
    with pytest.raises(ValueError, match=r"not finite as torch.float16: mapping.w_avg"):
        save_gan(tmp_path / "half", generator, None, {}, half=True)
    assert load_gan(tmp_path / "half").discriminator is not None  # the old files are untouched


def test_saving_without_a_discriminator_removes_the_old_one(folder: Path) -> None:
    save_gan(folder, networks()[0], None, {})
    assert load_gan(folder).discriminator is None
    assert not (folder / "discriminator.safetensors").exists()


def test_copy_keeps_the_bytes_and_the_recipe(folder: Path, tmp_path: Path) -> None:
    original = load_gan(folder)
    copy = copy_gan(folder, tmp_path / "copy")
    assert copy.sha256 == original.sha256
    assert copy.card["recipe"] == {"kimg": 3}
    assert copy.card["source"] == "gan"
    assert copy.discriminator is not None
    single = copy_gan(folder / "generator.safetensors", tmp_path / "single")
    assert single.sha256 == original.sha256
    assert single.discriminator is None


def test_copy_converts_other_formats(tmp_path: Path) -> None:
    copy = copy_gan(PT, tmp_path)
    assert copy.path == tmp_path / "generator.safetensors"
    assert copy.card["source_sha256"] == hashlib.sha256(PT.read_bytes()).hexdigest()
    assert same(copy.generator, load_gan(PT).generator)


# ------------------------------------------------------------------ other programs' files


@pytest.mark.parametrize("zipped", [True, False])
def test_rosinality_training_checkpoint(tmp_path: Path, zipped: bool) -> None:
    """What its train.py writes: optimiser states, options in a Namespace, no mean w."""
    content = {
        "g": golden_state(),
        "g_ema": golden_state(),
        "g_optim": {"state": {}, "param_groups": [{"lr": 0.002}]},
        "args": argparse.Namespace(size=32, lr=0.002),
        "ada_aug_p": 0.0,
    }
    file = pt_file(tmp_path / "training.pt", content, _use_new_zipfile_serialization=zipped)
    loaded, converted = load_gan(file), load_gan(PT)
    assert loaded.notes == ("the file has no mean w: taken from 4,096 samples",)
    mean = loaded.generator.mapping(torch.randn(4096, 16)).mean(dim=0)
    assert float((loaded.generator.w_avg - mean).abs().max()) < 0.2 * float(mean.abs().max())
    z = torch.randn(2, 16)
    assert torch.equal(loaded.generator(z), converted.generator(z))


def test_rosinality_discriminator_is_read_too(tmp_path: Path) -> None:
    _, discriminator = networks()
    names = {
        "b8.fromrgb.weight": "convs.0.0.weight",
        "b8.fromrgb.bias": "convs.0.1.bias",
        "b8.conv0.weight": "convs.1.conv1.0.weight",
        "b8.conv0.bias": "convs.1.conv1.1.bias",
        "b8.conv1.resample_filter": "convs.1.conv2.0.kernel",
        "b8.conv1.weight": "convs.1.conv2.1.weight",
        "b8.conv1.bias": "convs.1.conv2.2.bias",
        "b8.skip.resample_filter": "convs.1.skip.0.kernel",
        "b8.skip.weight": "convs.1.skip.1.weight",
        "b4.conv.weight": "final_conv.0.weight",
        "b4.conv.bias": "final_conv.1.bias",
        "b4.fc.weight": "final_linear.0.weight",
        "b4.fc.bias": "final_linear.0.bias",
        "b4.out.weight": "final_linear.1.weight",
        "b4.out.bias": "final_linear.1.bias",
    }
    state = discriminator.state_dict()
    d = {theirs: state[ours] for ours, theirs in names.items()}
    loaded = load_gan(pt_file(tmp_path / "both.pt", {"g_ema": golden_state(), "d": d}))
    assert loaded.discriminator is not None
    assert same(loaded.discriminator, discriminator)


def test_safetensors_of_other_programs(tmp_path: Path) -> None:
    expected = load_gan(PT).generator
    save_file(golden_state(), tmp_path / "rosinality.safetensors")
    save_file(dict(expected.state_dict()), tmp_path / "nvidia.safetensors")
    for name in ("rosinality", "nvidia"):
        loaded = load_gan(tmp_path / f"{name}.safetensors")
        assert "assumed: no clamp" in loaded.notes[0]
        ws = torch.randn(1, 8, 16)
        assert torch.equal(loaded.generator.synthesis(ws), expected.synthesis(ws))


def test_folders_and_names(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no generator lorries-64; give a name"):
        load_gan("lorries-64")
    with pytest.raises(InputError, match=r"holds no generator\.safetensors"):
        load_gan(tmp_path)
    (folder / "card.json").write_text("[]")
    with pytest.raises(InputError, match="is not a JSON object"):
        load_gan(folder)
    (folder / "card.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        load_gan(folder)
    (folder / "card.json").unlink()
    assert load_gan(folder).card == {}


def test_shipped_networks(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "shipped" / "vans-8")
    monkeypatch.setattr(weights, "ROOT", tmp_path / "shipped")
    assert weights.names() == ["vans-8"]
    assert load_gan("vans-8").sha256 == load_gan(folder).sha256 == weights.read_card("vans-8")["sha256"]
    weights.verify("vans-8")
    with (weights.path("vans-8") / "discriminator.safetensors").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(InputError, match="is not the file that its card describes"):
        weights.verify("vans-8")
    with pytest.raises(InputError, match="no network 'cars' ships with ganfoundry; there are: vans-8"):
        weights.path("cars")


def test_every_shipped_network_is_the_one_on_its_card() -> None:
    for name in weights.names():
        weights.verify(name)


def test_rosinality_names_are_recognised() -> None:
    assert rosinality.is_rosinality(golden_state())
    assert not rosinality.is_rosinality(networks()[0].state_dict())
    native = rosinality.generator_state(golden_state())
    assert "mapping.w_avg" not in native
    buffer = io.BytesIO()
    torch.save(native, buffer)
    with pytest.raises(InputError, match=r"convs\.0\.strange is not a tensor"):
        rosinality.generator_state({"convs.0.strange": torch.zeros(1)})
