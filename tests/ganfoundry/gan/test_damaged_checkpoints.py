"""Damaged and hostile checkpoints are refused in a sentence, and nothing in them is run."""

import argparse
import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan, save_gan
from tests.ganfoundry.gan.checkpointhelp import PT, golden_state, networks, pt_file

FORMAT = "ganfoundry-generator-1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_gan(tmp_path / "gan", *networks(), {"recipe": {"kimg": 3}})
    return tmp_path / "gan"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that no test changes."""
    folder = tmp_path_factory.mktemp("saved")
    save_gan(folder, *networks(), {})
    return folder


class Hostile:
    """Pickles into a call that makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_pt_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    target = tmp_path / "executed"
    content = {"g_ema": golden_state(), "args": Hostile(target)}
    file = pt_file(tmp_path / "bad.pt", content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"bad\.pt is damaged or not a \.pt file of tensors"):
        load_gan(file)
    assert not target.exists()
    torch.load(file, weights_only=False)  # noqa: TID251 - the file does what it threatens
    assert target.exists()


class Nested:
    """A storage whose bytes are another, unrestricted pickle."""

    def __init__(self, target: Path) -> None:
        import pickle  # noqa: TID251

        self.payload = pickle.dumps(Hostile(target), 2)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return torch.storage._load_from_bytes, (self.payload,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda content, target: content["args"].__dict__.update(lr=Hostile(target)),
        lambda content, target: content["g_ema"].update({"input.input": Nested(target)}),
        lambda content, target: content.update(g_optim={"state": {0: Hostile(target)}}),
        lambda content, target: content.update({Hostile(target): 1}),
    ],
    ids=["namespace", "storage", "optimiser", "key"],
)
def test_hostile_places_in_a_pt_file(tmp_path: Path, zipped: bool, spoil: Callable[..., Any]) -> None:
    target = tmp_path / "executed"
    content = {"g_ema": golden_state(), "args": argparse.Namespace(size=32)}
    spoil(content, target)
    file = pt_file(tmp_path / "bad.pt", content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"bad\.pt is damaged or not a \.pt file of tensors"):
        load_gan(file)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a generator checkpoint"),
        (b"<html>404</html>", "is not a generator checkpoint"),
        (b"PK\x03\x04 not a zip", "is damaged or not a .pt"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "is damaged or not a safetensors file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{              }", "is not a generator checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_gan(file)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {},
        {"g_ema": 3},
        {"g_ema": {"input.input": 3}},
        {"g_ema": {}},
        {"g_ema": {"conv9.weight": torch.zeros(1)}},
        {"g_ema": {f"noises.noise_{'9' * 5000}": torch.zeros(1)}},
        {"state_dict": {"x": torch.zeros(1)}},
    ],
)
def test_pt_files_of_other_things(tmp_path: Path, content: Any) -> None:
    with pytest.raises(InputError, match=r"other\.pt"):
        load_gan(pt_file(tmp_path / "other.pt", content))


@settings(max_examples=30)
@given(fraction=st.floats(0, 0.999), source=st.sampled_from(["pt", "generator", "discriminator"]))
def test_truncated_files(saved: Path, tmp_path_factory: pytest.TempPathFactory, fraction: float, source: str) -> None:
    folder = tmp_path_factory.mktemp("cut")
    if source == "discriminator":
        shutil.copy(saved / "generator.safetensors", folder)
    original = PT if source == "pt" else saved / f"{source}.safetensors"
    content = original.read_bytes()
    file = folder / original.name
    file.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(InputError, match=file.name):
        load_gan(folder if source == "discriminator" else file)


@settings(max_examples=40)
@given(position=st.floats(0, 0.9999), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_through_the_card(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    shutil.copy(saved / "card.json", folder)
    content = bytearray((saved / "generator.safetensors").read_bytes())
    content[int(len(content) * position)] ^= 1 << bit
    (folder / "generator.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"damaged or was replaced: its sha256"):
        load_gan(folder)


@settings(max_examples=60)
@given(position=st.floats(0, 0.9999), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_pt_file_never_surprises(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    """torch's format has no checksum of values: such a file loads, or is refused in a sentence."""
    content = bytearray(PT.read_bytes())
    content[int(len(content) * position)] ^= 1 << bit
    file = tmp_path_factory.mktemp("flip") / "flipped.pt"
    file.write_bytes(content)
    with contextlib.suppress(InputError):
        assert load_gan(file).generator.config.resolution == 32


def changed(folder: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> Path:
    """A copy of the generator's file with tensors or metadata changed, and no card."""
    file = folder / "generator.safetensors"
    state = load_file(file)
    metadata = {FORMAT: json.dumps(networks()[0].config.to_dict())}
    change(state, metadata)
    target = folder / "changed.safetensors"
    save_file(state, target, metadata)
    return target


def _set(name: str, value: Tensor) -> Callable[[dict[str, Tensor], dict[str, str]], None]:
    return lambda state, _: state.__setitem__(name, value)


def _config(**values: Any) -> Callable[[dict[str, Tensor], dict[str, str]], None]:
    def change(_: dict[str, Tensor], metadata: dict[str, str]) -> None:
        metadata[FORMAT] = json.dumps({**json.loads(metadata[FORMAT]), **values})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, _: s.pop("synthesis.b8.conv0.affine.bias"), "synthesis.b8.conv0.affine.bias is missing"),
        (_set("extra", torch.zeros(1)), "extra is not part of one"),
        (_set("mapping.fc0.bias", torch.zeros(9)), r"mapping.fc0.bias is \(9,\) instead of \(6,\)"),
        (_set("mapping.fc0.bias", torch.full((6,), torch.nan)), "mapping.fc0.bias holds values that are not finite"),
        (_set("mapping.fc0.bias", torch.zeros(6, dtype=torch.int32)), "mapping.fc0.bias holds torch.int32"),
        (_config(resolution=8192, channels={str(1 << k): 65536 for k in range(2, 14)}), r"b16.* is missing.* more"),
        (_config(w_dim=10**9), "instead of"),
        (_config(resolution=7), "configuration .* is damaged .*power of two"),
        (_config(colour="red"), "configuration .* is damaged .*colour"),
        (_config(channels=3), "configuration .* is damaged"),
        (_config(w_dim="six"), "configuration .* is damaged"),
        (lambda _, m: m.__setitem__(FORMAT, "{"), "configuration .* is damaged"),
    ],
)
def test_wrong_tensors_and_configurations(folder: Path, change: Callable[..., Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_gan(changed(folder, change))


def test_several_problems_are_counted(folder: Path) -> None:
    with pytest.raises(InputError, match=r"mapping.fc0.bias is missing.*and 5 more"):
        load_gan(changed(folder, lambda s, _: [s.pop(name) for name in list(s) if "mapping.fc" in name]))
