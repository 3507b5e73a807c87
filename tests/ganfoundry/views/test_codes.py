import json
from dataclasses import replace

import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.gan.stylegan2 import GeneratorConfig, SynthesisNetwork
from ganfoundry.views import (
    ALL_AROUND,
    AzimuthBins,
    ViewCode,
    ViewCodeSet,
    early_layers,
)

BINS = ALL_AROUND.count

LAYERS = ("b4.conv1", "b4.torgb", "b8.conv0", "b8.conv1", "b8.torgb", "b16.conv0", "b16.conv1", "b16.torgb")


def code(index, bin=None):
    bin = index % BINS if bin is None else bin
    return ViewCode(index, bin, 30.0 * bin, 2.5, 12.0, 9.0, 0.01, "hand")


@pytest.fixture
def codes():
    w = np.random.default_rng(0).standard_normal((BINS, 16)).astype(np.float32)
    return ViewCodeSet(tuple(code(i) for i in range(BINS)), w, LAYERS[:5], "ab" * 32, 0.7)


def test_early_layers_share_the_w_of_the_convolutions_up_to_8_px():
    synthesis = SynthesisNetwork(GeneratorConfig(resolution=16, channels={4: 4, 8: 4, 16: 4}, w_dim=8))
    assert tuple(synthesis.layer_names) == LAYERS
    assert early_layers(synthesis) == ("b4.conv1", "b4.torgb", "b8.conv0", "b8.conv1")
    assert early_layers(synthesis, ("b4", "b8")) == LAYERS[:5]
    assert early_layers(synthesis, ("b4", "b8.conv0")) == LAYERS[:3]
    with pytest.raises(InputError, match="no layer 'b5'"):
        early_layers(synthesis, ("b5",))
    with pytest.raises(InputError, match="leave some"):
        early_layers(synthesis, ("b4", "b8", "b16"))


def test_round_trip(codes, tmp_path):
    codes.save(tmp_path / "codes")
    again = ViewCodeSet.load(tmp_path / "codes")
    assert again.codes == codes.codes
    assert again.layers == codes.layers
    assert (again.generator_sha256, again.truncation) == (codes.generator_sha256, codes.truncation)
    np.testing.assert_array_equal(again.w, codes.w)
    assert again.missing_bins == ()


def test_another_generator_is_refused(codes):
    codes.check_generator("ab" * 32, LAYERS, 16)
    with pytest.raises(InputError, match="annotate-views"):
        codes.check_generator("cd" * 32, LAYERS, 16)
    with pytest.raises(InputError, match=r"W latents of \(12, 16\), but the generator has .* W latents of \(N, 32\)"):
        codes.check_generator("ab" * 32, LAYERS, 32)
    with pytest.raises(InputError, match="layers"):
        codes.check_generator("ab" * 32, LAYERS[2:], 16)


@pytest.mark.parametrize("damage", ["no json", "bad json", "other json", "bit", "truncated", "field", "bin", "swapped"])
def test_damaged_codes_are_refused_in_one_sentence(codes, tmp_path, damage):
    codes.save(tmp_path)
    table_path, payload_path = tmp_path / "codes.json", tmp_path / "codes.safetensors"
    table, payload = json.loads(table_path.read_text()), bytearray(payload_path.read_bytes())
    if damage == "no json":
        table_path.unlink()
    elif damage == "bad json":
        table_path.write_text("{")
    elif damage == "other json":
        table_path.write_text("[1]")
    elif damage == "bit":
        payload[-3] ^= 1
        payload_path.write_bytes(payload)
    elif damage == "truncated":
        payload_path.write_bytes(payload[:-8])
    elif damage == "field":
        del table["codes"][3]["azimuth"]
        table_path.write_text(json.dumps(table))
    elif damage == "bin":
        table["codes"][3]["bin"] = 12
        table_path.write_text(json.dumps(table))
    else:
        replace(codes, w=codes.w + 1).save(tmp_path / "other")
        payload_path.write_bytes((tmp_path / "other" / "codes.safetensors").read_bytes())
    with pytest.raises(InputError) as caught:
        ViewCodeSet.load(tmp_path)
    assert str(tmp_path) in str(caught.value) or "bin" in str(caught.value)


def test_inconsistent_sets_are_refused(codes):
    with pytest.raises(InputError, match="as many latents"):
        replace(codes, w=codes.w[:3])
    with pytest.raises(InputError, match="in order"):
        replace(codes, codes=codes.codes[::-1])


def test_objects_take_the_shapes_in_turn(codes):
    assert (codes.shapes, codes.views) == (("",), BINS)
    named = tuple(replace(code(i % BINS), id=i, shape="van" if i < BINS else "coupe") for i in range(2 * BINS))
    both = replace(codes, codes=named, w=np.concatenate([codes.w, codes.w]))
    assert (both.shapes, both.views) == (("van", "coupe"), BINS)
    assert both.of_objects([0, 3, 4]).tolist() == [list(range(BINS)), list(range(BINS, 2 * BINS)), list(range(BINS))]
    assert both.missing_bins == ()
    gap = replace(both, codes=(*named[:-1], replace(named[-1], bin=0)))
    assert gap.missing_bins == (11,)
    with pytest.raises(InputError, match="as many for each shape"):
        replace(both, codes=named[:-1], w=both.w[:-1])
    mixed = tuple(replace(code(i % BINS), id=i, shape="van" if i % 2 else "coupe") for i in range(2 * BINS))
    with pytest.raises(InputError, match="shape by shape"):
        replace(both, codes=mixed)


def test_bins_are_stored(codes, tmp_path):
    faces = replace(codes, codes=tuple(code(i, bin=i % 9) for i in range(BINS)), bins=AzimuthBins(-60, 15, 9))
    faces.save(tmp_path)
    assert ViewCodeSet.load(tmp_path).bins == faces.bins
    assert faces.missing_bins == ()
    with pytest.raises(InputError, match=r"bin 9 \(0 to 8\)"):
        replace(codes, bins=faces.bins)
    table = json.loads((tmp_path / "codes.json").read_text())
    del table["bins"]  # as cars' were written at first
    (tmp_path / "codes.json").write_text(json.dumps(table))
    assert ViewCodeSet.load(tmp_path).bins == ALL_AROUND
    table["bins"] = {"width": 7}
    (tmp_path / "codes.json").write_text(json.dumps(table))
    with pytest.raises(InputError, match="not part of a circle"):
        ViewCodeSet.load(tmp_path)


def test_missing_bins(codes):
    fewer = replace(codes, codes=tuple(code(i, bin=min(i, 5)) for i in range(BINS)))
    assert fewer.missing_bins == (6, 7, 8, 9, 10, 11)
