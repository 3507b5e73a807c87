"""import-gan run through the command line, on real files."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ganfoundry import weights
from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan, save_gan
from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.stylegan2 import Generator
from pipeline.artifacts import Gan, Writer
from pipeline.stage import Context
from stages.import_gan import Config, command, run
from tests.ganfoundry.gan.picklehelp import dump, file_of, persistent

PT = Path(__file__).parents[1] / "golden" / "ros_32_asym.pt"
CHANNELS = {4: 6, 8: 5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = Generator(GeneratorConfig(resolution=8, channels=CHANNELS, z_dim=4, w_dim=6, c_dim=3))
    discriminator = Discriminator(DiscriminatorConfig(resolution=8, channels=CHANNELS, c_dim=3))
    save_gan(tmp_path / "mine", generator, discriminator, {"note": "x"})
    return tmp_path / "mine"


def imported(tmp_path: Path, source: str | Path, **options: Any) -> Gan:
    out: Writer[Gan] = Writer(tmp_path / "out")
    run(Config(source=str(source), **options), out, Context())
    gan = Gan.open(out.path)
    assert out.figures["generator_sha256"] == gan.generator_sha256 == load_gan(gan.path).sha256
    return gan


def test_a_folder_is_copied_with_its_identity(tmp_path: Path, folder: Path) -> None:
    gan = imported(tmp_path, folder, num_samples=9)
    assert (gan.path / "generator.safetensors").read_bytes() == (folder / "generator.safetensors").read_bytes()
    assert (gan.path / "discriminator.safetensors").read_bytes() == (folder / "discriminator.safetensors").read_bytes()
    card = json.loads((gan.path / "card.json").read_text())
    assert card["note"] == "x"
    assert card["source"] == "mine"
    assert str(tmp_path) not in json.dumps(card)
    with Image.open(gan.path / "samples.png") as picture:
        assert picture.size == (8 * (8 * 16 + 2) - 2, 2 * (8 * 16 + 2) - 2)  # nine samples magnified 16 times


def test_the_world_is_the_cards_or_the_users(tmp_path: Path, folder: Path) -> None:
    assert load_gan(imported(tmp_path / "unknown", folder, num_samples=1).path).world == ""
    assert load_gan(imported(tmp_path / "shipped", "cars-64", num_samples=1).path).world == "cars"
    gan = imported(tmp_path / "said", folder, num_samples=1, world="faces")
    assert load_gan(gan.path).world == "faces"
    assert load_gan(imported(tmp_path / "kept", gan.path, num_samples=1).path).world == "faces"


def test_a_pt_file_is_converted(tmp_path: Path) -> None:
    gan = imported(tmp_path, PT, num_samples=3)
    z = torch.randn(2, 16)
    assert torch.equal(load_gan(gan.path).generator(z), load_gan(PT).generator(z))
    card = json.loads((gan.path / "card.json").read_text())
    assert card["source_sha256"] == hashlib.sha256(PT.read_bytes()).hexdigest()
    assert not (gan.path / "discriminator.safetensors").exists()


def test_a_pkl_file_is_converted_and_what_it_holds_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    original = load_gan(folder)
    content = file_of(persistent(original.generator, "Generator", {}), stats=Fraction(1, 2))
    source = dump(tmp_path / "network-snapshot.pkl", content)
    with pytest.raises(InputError, match=r"asks for fractions\.Fraction.*--allow-inert"):
        run(Config(source=str(source)), Writer(tmp_path / "other"), Context())
    said: list[str] = []
    monkeypatch.setattr(Context, "log", lambda _, message: said.append(message))
    out: Writer[Gan] = Writer(tmp_path / "out")
    run(Config(source=str(source), num_samples=2, allow_inert=("fractions.Fraction",)), out, Context())
    gan = Gan.open(out.path)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert said[0] == f"{source}: {source.stat().st_size:,} bytes, sha256 {digest}"
    assert "8 px" in said[1]
    assert "without discriminator" in said[1]
    assert any("holds G_ema" in line for line in said)
    assert "Note: its D is unused: the file has none" in said
    card = json.loads((gan.path / "card.json").read_text())
    assert (card["source"], card["source_sha256"]) == ("network-snapshot.pkl", digest)
    assert card["source_bytes"] == source.stat().st_size
    z, c = torch.randn(2, 4), torch.eye(3)[:2]
    assert torch.equal(load_gan(gan.path).generator(z, c), original.generator(z, c))


def test_samples_are_the_same_every_time(tmp_path: Path) -> None:
    pictures = [(imported(tmp_path / name, PT, num_samples=4).path / "samples.png").read_bytes() for name in "ab"]
    assert pictures[0] == pictures[1]
    other = imported(tmp_path / "c", PT, num_samples=4, seed=1)
    assert (other.path / "samples.png").read_bytes() != pictures[0]


def test_what_is_no_generator_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    for source in (file, tmp_path / "missing.pt", "lorries-64"):
        with pytest.raises(InputError, match=Path(source).name):
            run(Config(source=str(source)), Writer(tmp_path / "out"), Context())
    assert not (tmp_path / "out" / "generator.safetensors").exists()


def test_a_shipped_name_stands_for_its_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depends = command.stage.depends
    assert depends is not None
    assert depends(Config(source="no-such-name")) == {}
    monkeypatch.setattr(weights, "ROOT", folder.parent)
    sha256 = hashlib.sha256((folder / "generator.safetensors").read_bytes()).hexdigest()
    assert depends(Config(source="mine")) == {"source": sha256}
