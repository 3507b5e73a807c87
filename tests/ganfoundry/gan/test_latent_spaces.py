"""Latents know their space: conversions go one way, and files of another space, size or generator are refused."""

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ganfoundry.errors import InputError
from ganfoundry.gan.config import GeneratorConfig
from ganfoundry.gan.latent_spaces import (
    LATENTS_FORMAT,
    SPACES,
    Latents,
    Space,
    StyleLatents,
    WLatents,
    WPlusLatents,
    check_latents,
    convert_latents,
    load_latents,
    save_latents,
)
from ganfoundry.gan.stylegan2 import Generator

SHA = "a" * 64


def tiny_generator(width: int = 6, w_dim: int = 7) -> Generator:
    torch.manual_seed(5)
    config = GeneratorConfig(resolution=16, channels={4: width, 8: 5, 16: 4}, z_dim=8, w_dim=w_dim)
    return Generator(config).requires_grad_(False)


def latents_of(generator: Generator, space: Space, rows: int = 3) -> Latents:
    ws = torch.randn(rows, generator.num_ws, generator.config.w_dim, generator=torch.Generator().manual_seed(rows))
    if space == "W":
        return WLatents(ws[:, 0])
    return WPlusLatents(ws) if space == "W+" else StyleLatents(generator.synthesis.styles(ws))


def image(generator: Generator, latents: Latents) -> torch.Tensor:
    styles = convert_latents(latents, "S", generator)
    assert isinstance(styles, StyleLatents)
    made: torch.Tensor = generator.synthesis(styles=styles.styles)
    return made


@settings(max_examples=12, deadline=None)
@given(space=st.sampled_from(SPACES), rows=st.integers(1, 4))
def test_files_give_back_what_was_saved(tmp_path_factory: pytest.TempPathFactory, space: Space, rows: int) -> None:
    generator, path = tiny_generator(), tmp_path_factory.mktemp("latents") / "codes.safetensors"
    latents = latents_of(generator, space, rows)
    save_latents(path, latents, SHA)
    first = path.read_bytes()
    for read in (load_latents(path), load_latents(path, generator, space, SHA)):
        assert read.space == space
        assert len(read) == rows
        assert all(torch.equal(read.tensors[name], value) for name, value in latents.tensors.items())
    assert list(load_latents(path, generator).tensors) == list(latents.tensors)
    save_latents(path, latents, SHA)
    assert path.read_bytes() == first


@pytest.mark.parametrize(("start", "end"), [("W", "W+"), ("W", "S"), ("W+", "S")])
def test_conversions_keep_the_image(start: Space, end: Space) -> None:
    generator = tiny_generator()
    latents = latents_of(generator, start)
    converted = convert_latents(latents, end, generator)
    assert converted.space == end
    ws = latents.tensors.get("w", latents.tensors.get("ws"))
    torch.testing.assert_close(image(generator, converted), generator.synthesis(ws), rtol=1e-5, atol=1e-5)
    assert convert_latents(converted, end, generator) is converted


@pytest.mark.parametrize(("start", "end"), [("W+", "W"), ("S", "W"), ("S", "W+")])
def test_there_is_no_way_back(start: Space, end: Space) -> None:
    generator = tiny_generator()
    sizes = r"\(3, 6, 7\)" if start == "W+" else r"\(3, 41\) in 8 layers"
    message = f"{re.escape(start)} latents of {sizes} cannot become {re.escape(end)} latents"
    with pytest.raises(InputError, match=message):
        convert_latents(latents_of(generator, start), end, generator)


@pytest.mark.parametrize("held", SPACES)
@pytest.mark.parametrize("needed", SPACES)
def test_a_file_of_another_space_is_refused_with_both_sizes(tmp_path: Path, held: Space, needed: Space) -> None:
    generator, path = tiny_generator(), tmp_path / "codes.safetensors"
    save_latents(path, latents_of(generator, held), SHA)
    if held == needed:
        assert load_latents(path, generator, needed).space == needed
        return
    sizes = {"W": "({}, 7)", "W+": "({}, 6, 7)", "S": "({}, 41) in 8 layers"}
    found, wanted = sizes[held].format(3), sizes[needed].format("N")
    with pytest.raises(InputError) as caught:
        load_latents(path, generator, needed)
    message = str(caught.value)
    assert f"{path} holds {held} latents of {found}, but {needed} latents of {wanted} are needed" in message
    assert ("convert_latents" if SPACES.index(held) < SPACES.index(needed) else "no way back") in message
    with pytest.raises(InputError, match=re.escape(f"holds {held} latents of {found}")):
        load_latents(path, space=needed)


@pytest.mark.parametrize("space", SPACES)
def test_latents_of_another_generator_are_refused(tmp_path: Path, space: Space) -> None:
    generator, path = tiny_generator(), tmp_path / "codes.safetensors"
    save_latents(path, latents_of(generator, space), SHA)
    with pytest.raises(InputError, match=r"of the generator aaaaaaaaaaaa\.\.\., not of bbbbbbbbbbbb"):
        load_latents(path, generator_sha256="b" * 64)
    other = tiny_generator(width=9, w_dim=8)
    sizes = {
        "W": r"\(3, 7\) do not fit the generator, whose W latents are \(N, 8\)",
        "W+": r"\(3, 6, 7\) do not fit the generator, whose W\+ latents are \(N, 6, 8\)",
        "S": r"whose S latents are \(N, 50\) in 8 layers \(b4.conv1 \(6,\) for \(9,\), b4.torgb",
    }
    with pytest.raises(InputError, match=sizes[space]):
        load_latents(path, other)
    with pytest.raises(InputError, match="these latents"):
        check_latents(latents_of(generator, space), other)


def test_wrong_values_are_no_latents() -> None:
    with pytest.raises(InputError, match=r"W latents have shape \(N, w_dim\), not \(2, 3, 4\)"):
        WLatents(torch.zeros(2, 3, 4))
    with pytest.raises(InputError, match=r"W\+ latents have shape \(N, num_ws, w_dim\), not \(2, 3\)"):
        WPlusLatents(torch.zeros(2, 3))
    with pytest.raises(InputError, match=r"one N for all layers, not b \(2,\)"):
        StyleLatents({"a": torch.zeros(2, 3), "b": torch.zeros(2)})
    with pytest.raises(InputError, match="one N for all layers"):
        StyleLatents({"a": torch.zeros(2, 3), "b": torch.zeros(4, 3)})
    with pytest.raises(InputError, match=r"w of shape \(1, 2\) holds values that are not finite"):
        WLatents(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(InputError, match=r"w holds torch.int64"):
        WLatents(torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(InputError, match="no tensor is given"):
        StyleLatents({})


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "codes.safetensors"
    with pytest.raises(InputError, match="there is no file of latents"):
        load_latents(path)
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{not a header at all")
    with pytest.raises(InputError, match="damaged or not a safetensors file"):
        load_latents(path)
    w = torch.zeros(2, 7)
    save_file({"w": w}, path)
    with pytest.raises(InputError, match="does not name a space"):
        load_latents(path)
    for header, tensors, message in (
        ("{", {"w": w}, "description in .* is damaged"),
        ("[]", {"w": w}, "description in .* is damaged"),
        (json.dumps({"space": "Z", "generator_sha256": SHA}), {"w": w}, "space 'Z', which is none of W, W\\+, S"),
        (json.dumps({"space": "W", "generator_sha256": SHA}), {"ws": w}, 'one tensor "w", not ws'),
        (json.dumps({"space": "W+", "generator_sha256": SHA}), {"ws": w}, r"shape \(N, num_ws, w_dim\), not \(2, 7\)"),
        (json.dumps({"space": "W", "generator_sha256": SHA}), {"w": w.long()}, "w holds torch.int64"),
    ):
        save_file(tensors, path, {LATENTS_FORMAT: header})
        with pytest.raises(InputError, match=message):
            load_latents(path)
