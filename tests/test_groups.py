"""Groups, packed bytes, normal floats and quantized caches against loops, NumPy and published numbers."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kdcourse import quantization as qz

KINDS = pytest.mark.parametrize("kind", [{"symmetric": True}, {"signed": True}, {"signed": False}], ids=str)
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
"""the table that is published with the paper"""


def sample(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- groups -----------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [1, 3, 4, 12])
def test_each_group_is_quantized_as_a_tensor_of_its_own(kind, bits, group_size):
    weight = sample(5, 12) * torch.logspace(-2, 2, 12)
    params = qz.choose_qparams(weight, bits=bits, group_size=group_size, **kind)
    assert params.scale.shape == params.zero_point.shape == (5, 12 // group_size)
    codes, values = qz.quantize(weight, params), qz.fake_quantize(weight, params)
    assert torch.equal(qz.dequantize(codes, params), values)
    for row in range(5):
        for start in range(0, 12, group_size):
            cut = (row, slice(start, start + group_size))
            alone = qz.choose_qparams(weight[cut], bits=bits, **kind)
            assert torch.equal(codes[cut], qz.quantize(weight[cut], alone))
            assert torch.equal(values[cut], qz.fake_quantize(weight[cut], alone))


@KINDS
def test_one_group_of_all_inputs_is_per_channel_and_its_gradient_passes(kind):
    weight = sample(4, 6)
    rows, one = (qz.choose_qparams(weight / 2, bits=3, axis=0, group_size=size, **kind) for size in (None, 6))
    ours, theirs = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    found, expected = qz.fake_quantize(ours, one), qz.fake_quantize(theirs, rows)
    assert torch.equal(found, expected)
    found.sum().backward()
    expected.sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert 0 < ours.grad.sum() < 24


def test_an_outlier_costs_its_own_group_alone():
    weight = sample(3, 32)
    weight[0, 0] = 100.0
    params = qz.choose_qparams(weight, bits=4, group_size=8)
    with_outlier = qz.fake_quantize(weight, params)
    weight[0, 0] = 0.0
    without = qz.fake_quantize(weight, qz.choose_qparams(weight, bits=4, group_size=8))
    assert torch.equal(with_outlier[:, 8:], without[:, 8:])
    assert torch.equal(with_outlier[1:], without[1:])


def test_groups_that_do_not_fit_are_refused():
    weight = sample(4, 12)
    for size, why in ((5, "does not divide the 12 inputs"), (24, "does not divide"), (0, "integer >= 1"), (4.0, "int")):
        with pytest.raises(ValueError, match=why):
            qz.choose_qparams(weight, group_size=size)
        with pytest.raises(ValueError, match=why):
            qz.normal_floats(weight, group_size=size)
        with pytest.raises(ValueError, match=why):
            qz.bits_per_weight((4, 12), bits=4, group_size=size)
    for axis in (1, -1):
        with pytest.raises(ValueError, match="axis must be 0 or left out"):
            qz.choose_qparams(weight, group_size=4, axis=axis)
    with pytest.raises(ValueError, match=r"flatten\(1\)"):
        qz.choose_qparams(sample(4, 12, 3, 3), group_size=4)
    with pytest.raises(ValueError, match=r"\(outputs, groups\) with group_size"):
        qz.qparams_from_range(torch.zeros(4), torch.ones(4), group_size=4)
    with pytest.raises(ValueError, match="axis must be 0 or left out"):
        qz.qparams_from_range(torch.zeros(4, 3), torch.ones(4, 3), group_size=4, axis=1)
    params = qz.choose_qparams(weight, group_size=4)
    for other in (sample(12, 4), sample(4, 24), sample(4), sample(3, 12), sample(4, 12, 1)):
        with pytest.raises(ValueError, match="do not fit the shape"):
            qz.quantize(other, params)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [None, 4, 32])
def test_bits_per_weight_are_those_of_the_arrays_that_would_be_stored(symmetric, group_size):
    weight = sample(6, 32)
    params = qz.choose_qparams(weight, bits=4, symmetric=symmetric, axis=0, group_size=group_size)
    stored = 4 * weight.numel() + 16 * params.scale.numel()
    stored += 0 if symmetric else 4 * params.zero_point.numel()
    found = qz.bits_per_weight(weight.shape, bits=4, group_size=group_size, symmetric=symmetric)
    assert found == stored / weight.numel()
    assert qz.bits_per_weight((6, 8, 2, 2), bits=4, group_size=group_size, symmetric=symmetric) == found


def test_bits_per_weight_refuses_what_is_no_weight():
    for shape, bits, why in (((8,), 4, "shape"), ((8, 0), 4, "shape"), ((8, 8), 0, "1 to 8"), ((8, 8), 9, "1 to 8")):
        with pytest.raises(ValueError, match=why):
            qz.bits_per_weight(shape, bits=bits)
    with pytest.raises(ValueError, match="scale_bits"):
        qz.bits_per_weight((8, 8), bits=4, scale_bits=-1)


# --- packed bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 255])
def test_packed_bytes_are_numpys_and_come_back(bits, count):
    codes = np.random.default_rng(count).integers(0, 2**bits, count, dtype=np.uint8)
    expected = np.packbits(np.unpackbits(codes[:, None], axis=1, bitorder="little")[:, :bits], bitorder="little")
    packed = qz.pack_codes(torch.from_numpy(codes), bits=bits)
    assert packed.dtype == torch.uint8
    assert packed.tolist() == expected.tolist()
    assert qz.unpack_codes(packed, bits=bits, shape=(count,)).tolist() == codes.tolist()


@pytest.mark.parametrize("bits", [2, 4])
def test_codes_and_zero_points_at_both_ends_come_back_through_bytes(bits):
    """A file format that stored the zero point less one turned 0 into 15, and every weight was off by a step."""
    weight = torch.stack([sample(9).abs(), -sample(9).abs(), sample(9)])  # zero points 0, 2^bits - 1 and between
    params = qz.choose_qparams(weight, bits=bits, axis=0)
    assert params.zero_point[:2].tolist() == [0, 2**bits - 1]
    codes = qz.quantize(weight, params)
    read = qz.unpack_codes(qz.pack_codes(codes, bits=bits), bits=bits, shape=codes.shape)
    zeros = qz.unpack_codes(qz.pack_codes(params.zero_point, bits=bits), bits=bits, shape=(3,)).to(torch.int32)
    assert torch.equal(qz.dequantize(read, params._replace(zero_point=zeros)), qz.fake_quantize(weight, params))


def test_codes_that_do_not_fit_are_refused_and_so_are_other_bytes():
    for codes in (torch.tensor([4]), torch.tensor([-1], dtype=torch.int8)):
        with pytest.raises(ValueError, match="2 bits hold 0 … 3: add 2 to signed codes"):
            qz.pack_codes(codes, bits=2)
    for codes in (torch.ones(3), torch.ones(3, dtype=torch.bool)):
        with pytest.raises(TypeError, match="must be integers"):
            qz.pack_codes(codes, bits=2)
    packed = qz.pack_codes(torch.tensor([3, 3, 3]), bits=2)
    for shape in ((5,), (2, 4)):
        with pytest.raises(ValueError, match="bytes, got 1"):
            qz.unpack_codes(packed, bits=2, shape=shape)
    with pytest.raises(ValueError, match="are set"):
        qz.unpack_codes(packed, bits=2, shape=(2,))
    with pytest.raises(ValueError, match="uint8"):
        qz.unpack_codes(packed.int(), bits=2, shape=(3,))
    with pytest.raises(ValueError, match="sizes >= 0"):
        qz.unpack_codes(packed, bits=2, shape=(-3, -1))
    for bits in (0, 9, True):
        with pytest.raises(ValueError, match="1 to 8"):
            qz.pack_codes(torch.tensor([0]), bits=bits)
        with pytest.raises(ValueError, match="1 to 8"):
            qz.unpack_codes(packed, bits=bits, shape=(3,))


# --- normal floats ----------------------------------------------------------------------------------------------------


def test_the_codebook_is_the_published_table():
    assert qz.normal_float_codebook(4).tolist() == pytest.approx(NF4, abs=2e-7)


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_codebook_is_ascending_with_exact_ends_and_zero(bits):
    codebook = qz.normal_float_codebook(bits)
    assert len(codebook) == 2**bits
    assert (codebook.diff() > 0).all()
    assert {-1.0, 0.0, 1.0} <= set(codebook.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("group_size", [4, 16, None])
def test_normal_floats_take_the_nearest_value_of_each_group(dtype, group_size):
    weight = sample(3, 16, dtype=dtype)
    found = qz.normal_floats(weight, group_size=group_size)
    assert found.codes.dtype == torch.uint8
    assert found.weight().dtype == dtype
    table, width = np.array(NF4), group_size or 16
    for row in range(3):
        for start in range(0, 16, width):
            values = weight[row, start : start + width].double().numpy()
            top = np.abs(values).max()
            nearest = np.abs(values[:, None] / top - table).argmin(axis=1)
            assert found.codes[row, start : start + width].tolist() == nearest.tolist()
            expected = torch.from_numpy(table[nearest] * top)
            torch.testing.assert_close(found.weight()[row, start : start + width].double(), expected, rtol=1e-6, atol=0)


def test_normal_floats_keep_zeros_and_extremes_exactly_and_do_not_use_all_codes_equally():
    weight = torch.tensor([[0.0, 0.0, 0.0, 0.0, -3.0, 0.0, 1.0, 3.0]])
    found = qz.normal_floats(weight, group_size=4)
    assert found.weight()[0, [0, 1, 2, 3, 4, 5, 7]].tolist() == [0, 0, 0, 0, -3, 0, 3]
    entropies = []
    for width in (32, 64, 256, 4096):  # 4 bits would be the optimum that the codes are named after
        codes = qz.normal_floats(sample(200000 // width, width), group_size=width).codes
        part = torch.bincount(codes.flatten().int(), minlength=16).double() / codes.numel()
        entropies.append(-torch.special.xlogy(part, part).sum().item() / np.log(2))
    assert entropies == pytest.approx([3.95, 3.89, 3.75, 3.51], abs=0.01)


def test_normal_floats_refuse_other_shapes_bits_and_numbers():
    with pytest.raises(ValueError, match=r"flatten\(1\)"):
        qz.normal_floats(sample(4, 2, 3, 3))
    with pytest.raises(ValueError, match="NaN"):
        qz.normal_floats(torch.full((2, 64), torch.nan))
    for bits in (1, 9, 4.0, True):
        with pytest.raises(ValueError, match="2 to 8"):
            qz.normal_float_codebook(bits)


# --- keys and values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["channel", "token"])
@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (2, 4, 5, 3)])
@pytest.mark.parametrize("shift", [0.0, 40.0, -40.0])
def test_a_cache_is_rounded_between_the_extremes_of_each_channel_or_token(by, shape, shift):
    cache = sample(*shape, dtype=torch.float64) + shift
    dimension = -2 if by == "channel" else -1
    low, high = cache.amin(dimension, keepdim=True), cache.amax(dimension, keepdim=True)
    step = (high - low) / 7
    expected = low + ((cache - low) / step).round() * step
    torch.testing.assert_close(qz.quantize_cache(cache, bits=3, by=by), expected, rtol=0, atol=1e-12)


def test_a_shift_of_all_keys_is_free_and_per_channel_it_stays_so():
    """softmax(q·(k + c)) = softmax(q·k), whatever c is; a range that had to include zero would spend its codes on c."""
    query, keys, values = sample(2, 7, 8, dtype=torch.float64), *sample(2, 2, 7, 8, seed=1, dtype=torch.float64)
    shift = torch.zeros(8, dtype=torch.float64)
    shift[2] = 64.0
    attend = lambda k: F.scaled_dot_product_attention(query, k, values)  # noqa: E731
    error = lambda k, by: (attend(qz.quantize_cache(k, bits=4, by=by)) - attend(keys)).abs().mean()  # noqa: E731
    torch.testing.assert_close(attend(keys + shift), attend(keys))
    torch.testing.assert_close(error(keys + shift, "channel"), error(keys, "channel"))
    assert error(keys + shift, "token") > 5 * error(keys + shift, "channel")


def test_a_cache_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"\(\.\.\., tokens, channels\)"):
        qz.quantize_cache(sample(5), bits=4, by="token")
    with pytest.raises(ValueError, match="'channel' \\(for keys\\) or 'token'"):
        qz.quantize_cache(sample(5, 3), bits=4, by="tensor")
