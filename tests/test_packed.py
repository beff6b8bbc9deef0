"""Files of packed weights, fixed scales of GPTQ and clipped scales, against what they stand for and brute force."""

import pytest
import torch

from kdcourse.quantization import (
    bits_per_weight,
    choose_qparams,
    clipped_qparams,
    dequantize,
    fake_quantize,
    gptq,
    input_hessian,
    qparams_from_range,
    quantize,
    read_codes,
    read_packed,
    write_packed,
)


def sample(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def halved(params):
    return params._replace(scale=params.scale.half().to(params.scale.dtype))


def grids():
    weight = sample(6, 24)
    for bits in (2, 3, 4, 8):
        for symmetric in (True, False):
            for settings in ({}, {"axis": 0}, {"axis": 1}, {"group_size": 8}, {"group_size": 1}):
                yield weight, choose_qparams(weight, bits=bits, symmetric=symmetric, **settings)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_every_grid_is_read_back_bit_for_bit(tmp_path):
    for number, (weight, params) in enumerate(grids()):
        for chosen in (params, halved(params)):
            path = tmp_path / f"{number}.safetensors"
            state = {"a.weight": fake_quantize(weight, chosen), "a.bias": sample(6, seed=1).half()}
            write_packed(path, state, {"a.weight": chosen})
            found = read_packed(path)
            assert found.keys() == state.keys()
            assert all(
                torch.equal(found[name], state[name]) and found[name].dtype == state[name].dtype for name in state
            )
            codes, read = read_codes(path)["a.weight"]
            assert torch.equal(codes, quantize(weight, chosen))
            assert torch.equal(read.scale, chosen.scale)
            assert torch.equal(read.zero_point, chosen.zero_point)
            assert read[2:] == chosen[2:]


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_file_is_as_long_as_its_bits(tmp_path, symmetric):
    weight = sample(64, 256)
    params = halved(choose_qparams(weight, bits=4, symmetric=symmetric, group_size=64))
    write_packed(tmp_path / "one", {"weight": fake_quantize(weight, params)}, {"weight": params})
    data = (tmp_path / "one").read_bytes()
    stored = len(data) - 8 - int.from_bytes(data[:8], "little")
    bits = bits_per_weight(weight.shape, bits=4, group_size=64, symmetric=symmetric)
    assert 8 * stored == weight.numel() * bits


def test_scales_that_float16_cannot_hold_keep_their_own_type(tmp_path):
    weight = 1e-7 * sample(4, 8)
    params = choose_qparams(weight, bits=4, axis=0)
    write_packed(tmp_path / "one", {"weight": fake_quantize(weight, params)}, {"weight": params})
    assert torch.equal(read_packed(tmp_path / "one")["weight"], fake_quantize(weight, params))


def test_tied_weights_and_transposed_ones_are_read_back(tmp_path):
    weight = sample(8, 4).T
    params = choose_qparams(weight, bits=3, group_size=4)  # its scales do not fit into 16 bits
    state = {"token": fake_quantize(weight, params), "other": sample(3, 5).T}
    state["head"] = state["token"]
    for named in ({"token": params}, {"token": params, "head": params}):
        write_packed(tmp_path / "one", state, named)
        found = read_packed(tmp_path / "one")
        assert all(torch.equal(found[name], state[name]) for name in state)


def test_float64_weights_stay_float64(tmp_path):
    weight = sample(4, 8, dtype=torch.float64)
    params = choose_qparams(weight, bits=3, group_size=4)
    write_packed(tmp_path / "one", {"weight": fake_quantize(weight, params)}, {"weight": params})
    assert torch.equal(read_packed(tmp_path / "one")["weight"], fake_quantize(weight, params))


def test_what_would_not_come_back_is_refused(tmp_path):
    weight, path = sample(4, 8), tmp_path / "one"
    params = choose_qparams(weight, bits=3, axis=0)
    with pytest.raises(ValueError, match="not what its codes stand for"):
        write_packed(path, {"weight": weight}, {"weight": params})
    with pytest.raises(ValueError, match=r"name \['other'\]"):
        write_packed(path, {"weight": weight}, {"other": params})
    with pytest.raises(ValueError, match="rename"):
        write_packed(path, {"weight.scale": weight}, {})
    with pytest.raises(TypeError, match=r"pass model\.state_dict\(\)"):
        write_packed(path, torch.nn.Linear(8, 4), {"weight": params})
    with pytest.raises(TypeError, match=r"\['extra'\] are not tensors"):
        write_packed(path, {"weight": fake_quantize(weight, params), "extra": {}}, {"weight": params})
    assert not path.exists()


def test_a_file_that_is_cut_or_of_another_kind_is_refused(tmp_path):
    path, weight = tmp_path / "one", sample(4, 8)
    params = choose_qparams(weight, bits=3, axis=0)
    write_packed(path, {"weight": fake_quantize(weight, params)}, {"weight": params})
    whole = path.read_bytes()
    for wrong in (b"", whole[:7], whole[:50], whole[:-1], b"\x00" * 64, whole.replace(b'"packed"', b'"strange')):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="damaged or was not written"):
            read_packed(path)
    with pytest.raises(FileNotFoundError):
        read_packed(tmp_path / "none")


# --- fixed scales in GPTQ ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group_size", [None, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_with_fixed_scales_the_codes_are_those_of_the_result(group_size, symmetric):
    weight, inputs = sample(8, 24), sample(200, 24, seed=1) @ sample(24, 24, seed=2)
    params = halved(choose_qparams(weight, bits=3, symmetric=symmetric, axis=0, group_size=group_size))
    found = gptq(weight, input_hessian(inputs), bits=3, group_size=group_size, symmetric=symmetric, params=params)
    assert torch.equal(dequantize(quantize(found, params), params), found)
    rounded = fake_quantize(weight, params)
    assert ((found - weight) @ inputs.T).norm() < ((rounded - weight) @ inputs.T).norm()


def test_fixed_scales_of_whole_rows_are_the_usual_ones():
    weight, hessian = sample(8, 24), input_hessian(sample(200, 24, seed=1) @ sample(24, 24, seed=2))
    params = choose_qparams(weight, bits=3, axis=0)
    assert torch.equal(gptq(weight, hessian, bits=3, params=params), gptq(weight, hessian, bits=3))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_fixed_scales_that_are_no_numbers_are_refused(wrong):
    weight, hessian = sample(8, 24), input_hessian(sample(200, 24, seed=1))
    params = choose_qparams(weight, bits=3, axis=0)
    with pytest.raises(ValueError, match=r"params\.scale contains"):
        gptq(weight, hessian, bits=3, params=params._replace(scale=params.scale * wrong))


@pytest.mark.parametrize("settings", [{"bits": 4, "axis": 0}, {"bits": 3}, {"bits": 3, "group_size": 8}])
def test_fixed_scales_that_do_not_fit_are_refused(settings):
    weight, hessian = sample(8, 24), input_hessian(sample(200, 24, seed=1))
    with pytest.raises(ValueError, match="this weight needs"):
        gptq(weight, hessian, bits=3, params=choose_qparams(weight, **settings))
    with pytest.raises(ValueError, match="this weight needs"):
        gptq(weight, hessian, bits=3, group_size=12, params=choose_qparams(sample(4, 24), bits=3, group_size=12))


# --- clipping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group_size", [None, 4])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_clipping_is_the_best_of_its_grid_for_every_group(group_size, symmetric, weighted):
    weight = sample(3, 12, dtype=torch.float64) ** 3
    hessian = torch.diag(sample(12, seed=1, dtype=torch.float64).square()) if weighted else None
    given = {"bits": 3, "symmetric": symmetric}
    found = fake_quantize(weight, clipped_qparams(weight, **given, group_size=group_size, hessian=hessian, steps=10))
    width = group_size or 12
    for row in range(3):
        for start in range(0, 12, width):
            part = weight[row, start : start + width]
            matter = 1 if hessian is None else hessian.diagonal()[start : start + width]
            errors = []
            for step in range(11):
                kept = 1 - step / 20
                params = qparams_from_range(part.min() * kept, part.max() * kept, **given)
                errors.append(((fake_quantize(part, params) - part).square() * matter).sum().item())
            mine = ((found[row, start : start + width] - part).square() * matter).sum().item()
            assert mine == pytest.approx(min(errors), rel=1e-9)


def test_clipping_refuses_what_does_not_fit():
    weight = sample(4, 12)
    with pytest.raises(ValueError, match="does not divide"):
        clipped_qparams(weight, bits=3, group_size=5)
    with pytest.raises(ValueError, match="hessian must be"):
        clipped_qparams(weight, bits=3, hessian=torch.eye(11))
    with pytest.raises(ValueError, match="negative"):
        clipped_qparams(weight, bits=3, hessian=-torch.eye(12))
    with pytest.raises(ValueError, match="outputs, inputs"):
        clipped_qparams(weight[0], bits=3)
    with pytest.raises(ValueError, match="contains NaN"):
        clipped_qparams(weight * float("nan"), bits=3)
    with pytest.raises(TypeError, match="convert it first"):
        clipped_qparams(weight.half(), bits=3)


def test_a_row_of_zeros_stays_zero():
    assert not fake_quantize(torch.zeros(2, 8), clipped_qparams(torch.zeros(2, 8), bits=2)).any()
