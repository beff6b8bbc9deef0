"""The affine map, calibration and folding against fractions, PyTorch, torchao, onnxruntime and SciPy."""

import contextlib
import io
import math
import warnings
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from kdcourse import quantization as qz
from kdcourse.models import conv_net, mlp

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of torchao and onnxruntime at import
    from onnxruntime.quantization import calibrate as ort_calibrate
    from onnxruntime.quantization.quant_utils import compute_scale_zp
    from torch.ao.quantization import MovingAverageMinMaxObserver
    from torchao.quantization.quant_primitives import (
        MappingType,
        _fake_quantize_affine,
        choose_qparams_affine,
        dequantize_affine,
        quantize_affine,
    )

BITS = pytest.mark.parametrize("bits", range(2, 9))
KINDS = pytest.mark.parametrize("kind", [{"symmetric": True}, {"signed": True}, {"signed": False}], ids=str)


def sample(*shape: int, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


def with_ties(tensor: torch.Tensor, params: qz.QuantParams) -> torch.Tensor:
    """The tensor, and around it every half step from well below the range to well above."""
    steps = torch.arange(-700, 701) / 2
    return torch.cat([tensor.flatten(), steps * params.scale])


# --- the definition, worked in fractions ------------------------------------------------------------------------------


def round_half_even(value: Fraction) -> int:
    return round(value)  # Python's own rounding of a Fraction


@BITS
@KINDS
def test_codes_equal_the_definition_in_exact_fractions(bits, kind):
    params = qz.qparams_from_range(-1.5, 2.25, bits=bits, **kind)
    scale = Fraction(0.25)  # a power of two, so that x / scale is exact in floating point as well
    params = params._replace(scale=torch.tensor(0.25), zero_point=torch.tensor((params.qmin + params.qmax) // 2 | 1))
    values = torch.arange(-400, 401) / 16
    zero_point = int(params.zero_point)
    expected = [
        min(max(round_half_even(Fraction(value) / scale) + zero_point, params.qmin), params.qmax)
        for value in values.tolist()
    ]
    codes = qz.quantize(values, params)
    assert codes.tolist() == expected
    assert codes.dtype == (torch.uint8 if kind.get("signed") is False else torch.int8)
    assert qz.dequantize(codes, params).tolist() == [float(scale * (code - zero_point)) for code in expected]


@pytest.mark.parametrize(
    ("kind", "scale", "zero_point", "limits"),
    [
        ({"bits": 8}, 3 / 255, 85, (0, 255)),  # [-1, 2]: a third of the codes lie below zero
        ({"bits": 8, "signed": True}, 3 / 255, -43, (-128, 127)),
        ({"bits": 8, "symmetric": True}, 2 / 127, 0, (-127, 127)),
        ({"bits": 2, "symmetric": True}, 2.0, 0, (-1, 1)),
        ({"bits": 2}, 1.0, 1, (0, 3)),
    ],
)
def test_parameters_of_a_range_worked_by_hand(kind, scale, zero_point, limits):
    params = qz.qparams_from_range(-1.0, 2.0, **kind)
    assert params.scale.item() == pytest.approx(scale, rel=1e-7)
    assert params.zero_point.item() == zero_point
    assert (params.qmin, params.qmax) == limits


# --- PyTorch and torchao, to the last bit -----------------------------------------------------------------------------


@BITS
@KINDS
@pytest.mark.parametrize("spread", [1e-3, 1.0, 300.0])
def test_per_tensor_equals_pytorch_bit_by_bit_gradient_ties_and_saturation_included(bits, kind, spread):
    tensor = sample(40, 50, spread=spread)
    params = qz.choose_qparams(tensor / 2, bits=bits, **kind)
    ours, theirs = (with_ties(tensor, params).requires_grad_() for _ in range(2))
    found = qz.fake_quantize(ours, params)
    expected = torch.fake_quantize_per_tensor_affine(theirs, params.scale, params.zero_point, params.qmin, params.qmax)
    assert torch.equal(found, expected)
    assert torch.equal(qz.dequantize(qz.quantize(ours, params), params), expected)
    upstream = sample(len(ours), seed=1)
    found.backward(upstream)
    expected.backward(upstream)
    assert torch.equal(ours.grad, theirs.grad)
    assert 0 < (ours.grad == 0).double().mean() < 1


@BITS
@KINDS
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_per_channel_equals_pytorch_bit_by_bit(bits, kind, axis):
    tensor = sample(6, 5, 4, 3) * torch.logspace(-3, 3, 5).reshape(5, 1, 1)
    params = qz.choose_qparams(tensor / 2, bits=bits, axis=axis, **kind)
    assert params.axis == axis % 4
    ours, theirs = (tensor.clone().requires_grad_() for _ in range(2))
    found = qz.fake_quantize(ours, params)
    expected = torch.fake_quantize_per_channel_affine(
        theirs, params.scale, params.zero_point, params.axis, params.qmin, params.qmax
    )
    assert torch.equal(found, expected)
    assert torch.equal(qz.dequantize(qz.quantize(tensor, params), params), expected)
    found.sum().backward()
    expected.sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.filterwarnings("ignore:torch.quantize_per")
@pytest.mark.parametrize("signed", [True, False])
def test_integers_equal_those_of_pytorchs_quantized_tensors(signed):
    dtype = torch.qint8 if signed else torch.quint8
    params = qz.choose_qparams(sample(1000), signed=signed)
    tensor = with_ties(sample(1000, spread=2), params)
    expected = torch.quantize_per_tensor(tensor, params.scale.item(), params.zero_point.item(), dtype)
    assert torch.equal(qz.quantize(tensor, params), expected.int_repr())
    tensor = sample(7, 30)
    params = qz.choose_qparams(tensor / 2, signed=signed, axis=0)
    expected = torch.quantize_per_channel(tensor, params.scale.double(), params.zero_point.long(), 0, dtype)
    assert torch.equal(qz.quantize(tensor, params), expected.int_repr())


@BITS
@KINDS
@pytest.mark.parametrize("axis", [None, 0])
def test_parameters_and_integers_equal_torchaos(bits, kind, axis):
    tensor = sample(8, 60) + torch.linspace(-3, 3, 8).unsqueeze(1)  # rows that exclude zero among them
    params = qz.choose_qparams(tensor, bits=bits, axis=axis, **kind)
    block = (8, 60) if axis is None else (1, 60)
    mapping = MappingType.SYMMETRIC if kind.get("symmetric") else MappingType.ASYMMETRIC
    dtype = torch.uint8 if kind.get("signed") is False else torch.int8
    limits = {"quant_min": params.qmin, "quant_max": params.qmax}
    scale, zero_point = choose_qparams_affine(tensor, mapping, block, dtype, **limits)
    assert torch.equal(params.scale, scale.reshape(params.scale.shape))
    assert torch.equal(params.zero_point, zero_point.reshape(params.scale.shape))
    codes = quantize_affine(tensor, block, scale, zero_point, dtype, **limits)
    assert torch.equal(qz.quantize(tensor, params), codes)
    reals = dequantize_affine(codes, block, scale, zero_point, dtype, **limits)
    assert torch.equal(qz.dequantize(codes, params), reals)
    assert torch.equal(
        qz.fake_quantize(tensor, params),
        _fake_quantize_affine(tensor, block, scale, zero_point, dtype, params.qmin, params.qmax),
    )


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.5, 3.0), (-4.0, -1.0), (0.0, 6.0), (-0.001, 1000.0)])
def test_parameters_of_a_range_equal_onnxruntimes(low, high):
    for kind, limits in (({}, (0, 255)), ({"symmetric": True}, (-127, 127)), ({"signed": True}, (-128, 127))):
        dtype = np.uint8 if limits[0] == 0 else np.int8
        ends = [np.array(end, dtype=dtype) for end in limits]
        zero_point, scale = compute_scale_zp(
            np.float32(low), np.float32(high), *ends, symmetric=kind.get("symmetric", False)
        )
        params = qz.qparams_from_range(low, high, **kind)
        assert params.scale.item() == scale
        assert params.zero_point.item() == zero_point


# --- what must always hold --------------------------------------------------------------------------------------------


@BITS
@KINDS
@pytest.mark.parametrize("shift", [-5.0, -0.3, 0.0, 0.3, 5.0])
def test_zero_is_exact_and_no_element_is_further_off_than_half_a_step(bits, kind, shift):
    tensor = sample(500) + shift
    params = qz.choose_qparams(tensor, bits=bits, **kind)
    assert qz.fake_quantize(torch.zeros(1), params).item() == 0.0
    assert params.qmin <= params.zero_point <= params.qmax
    error = (qz.fake_quantize(tensor, params) - tensor).abs().max()
    # rounding the zero point moves an affine range by up to half a step, so one end may clip by as much
    allowed = 0.5 if kind.get("symmetric") else 1.0
    assert error <= allowed * params.scale * (1 + 1e-4)


def test_dead_channels_and_dead_tensors_give_exact_zeros():
    tensor = sample(3, 4)
    tensor[1] = 0
    for kind in ({"symmetric": True}, {}):
        params = qz.choose_qparams(tensor, axis=0, **kind)
        found = qz.fake_quantize(tensor, params)
        assert torch.equal(found[1], torch.zeros(4))
        assert torch.isfinite(found).all()
        tiny = torch.tensor([1e-38, -1e-38])  # the scale would be below the normal numbers, and 1 / scale infinite
        assert torch.equal(qz.fake_quantize(tiny, qz.choose_qparams(tiny, **kind)), torch.zeros(2))


def test_the_wrong_axis_costs_the_quietest_channel_decibels():
    weight = sample(16, 64) * torch.logspace(-3, 0, 16).unsqueeze(1)
    right, wrong = (
        qz.sqnr_db(weight, qz.fake_quantize(weight, qz.choose_qparams(weight, symmetric=True, axis=axis)), axis=0)
        for axis in (0, 1)
    )
    assert right.shape == (16,)
    assert right.min() > 40
    assert wrong.min() < 10


@pytest.mark.parametrize("bits", range(3, 8))
def test_a_bit_of_a_uniform_signal_is_worth_six_decibels(bits):
    signal = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    gains = [
        qz.sqnr_db(signal, qz.fake_quantize(signal, qz.choose_qparams(signal, bits=width))).item()
        for width in (bits, bits + 1)
    ]
    # 2^bits - 1 steps across the range: the error's variance is step² / 12, that of the signal (steps · step)² / 12
    assert gains[0] == pytest.approx(20 * math.log10(2**bits - 1), abs=0.2)
    assert gains[1] - gains[0] == pytest.approx(20 * math.log10((2 ** (bits + 1) - 1) / (2**bits - 1)), abs=0.2)


def test_sqnr_of_numbers_worked_by_hand():
    # (9 + 16) / (1 + 0): 10 log10 25; per row: 9 / 1 and no noise at all
    signal, approximation = torch.tensor([[3.0], [4.0]]), torch.tensor([[2.0], [4.0]])
    assert qz.sqnr_db(signal, approximation).item() == pytest.approx(10 * math.log10(25))
    assert qz.sqnr_db(signal, approximation, axis=0).tolist() == [pytest.approx(10 * math.log10(9)), math.inf]
    assert qz.sqnr_db(torch.zeros(2), torch.zeros(2)).item() == math.inf
    assert qz.sqnr_db(torch.zeros(2), torch.ones(2)).item() == -math.inf
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        qz.sqnr_db(torch.ones(2), torch.ones(3))


@pytest.mark.parametrize("bits", [1, 9, 0, 4.0])
def test_refuses_bits_outside_two_to_eight(bits):
    with pytest.raises(ValueError, match="bits must be an integer from 2 to 8"):
        qz.choose_qparams(torch.ones(3), bits=bits)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_refuses_nan_and_infinity_everywhere(value):
    bad, params = torch.tensor([1.0, value]), qz.choose_qparams(torch.ones(2))
    for call in (qz.choose_qparams, partial(qz.quantize, params=params), partial(qz.fake_quantize, params=params)):
        with pytest.raises(ValueError, match="NaN or infinity"):
            call(bad)
    with pytest.raises(ValueError, match="NaN or infinity"):
        qz.qparams_from_range(0.0, value)


def test_refuses_what_cannot_be_meant():
    with pytest.raises(ValueError, match="empty"):
        qz.choose_qparams(torch.zeros(0, 3))
    for axis in (2, -3):
        with pytest.raises(ValueError, match="axis .* out of range"):
            qz.choose_qparams(torch.ones(2, 3), axis=axis)
    with pytest.raises(TypeError, match="float32 or float64, got torch.int64"):
        qz.choose_qparams(torch.arange(3))
    with pytest.raises(ValueError, match="swapped"):
        qz.qparams_from_range(1.0, -1.0)
    with pytest.raises(ValueError, match="too wide"):
        qz.qparams_from_range(-3e38, 3e38)
    with pytest.raises(ValueError, match="lie around zero"):
        qz.choose_qparams(torch.ones(2), symmetric=True, signed=False)
    with pytest.raises(ValueError, match="must both be 0-d without axis"):
        qz.qparams_from_range(torch.zeros(2), torch.ones(2))
    params = qz.choose_qparams(torch.ones(2, 3), axis=1)
    for call in (qz.quantize, qz.fake_quantize):
        with pytest.raises(ValueError, match="3 scales for 2 channels along axis 1: wrong axis?"):
            call(torch.ones(3, 2), params)
        with pytest.raises(ValueError, match="3 scales for 4 channels"):
            call(torch.ones(3, 4), params)
    with pytest.raises(TypeError, match="codes must be integers"):
        qz.dequantize(torch.ones(2), params)


# --- calibration ------------------------------------------------------------------------------------------------------


def ort_range(method: str, batches, **settings) -> tuple[float, float]:
    """What onnxruntime's histogram calibrators find, without their printing."""
    options = {"num_bins": 2048, "num_quantized_bins": 128, "percentile": 99.99} | settings
    collector = ort_calibrate.HistogramCollector(method, symmetric=False, scenario="same", **options)
    with contextlib.redirect_stdout(io.StringIO()):
        for batch in batches:
            collector.collect({"tensor": batch.numpy()})
        found = collector.compute_collection_result()["tensor"]
    return float(found[0]), float(found[1])


DISTRIBUTIONS = {
    "normal": sample(40_000),
    "laplace": torch.from_numpy(stats.laplace.rvs(size=40_000, random_state=0).astype(np.float32)),
    "relu": sample(40_000, seed=1).relu(),
}
ON_EACH = pytest.mark.parametrize("name", DISTRIBUTIONS)


def test_min_max_is_the_extremes_of_all_batches():
    batches = [torch.tensor([1.0, -2.0]), torch.tensor([[5.0], [0.0]])]
    assert qz.min_max_range(batches) == qz.Range(-2.0, 5.0)
    assert qz.min_max_range(batches[:1]) == (-2.0, 1.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("momentum", [0.01, 0.3, 1.0])
def test_moving_average_equals_pytorchs_observer(momentum):
    batches = [sample(100, seed=seed, spread=seed + 1) for seed in range(6)]
    observer = MovingAverageMinMaxObserver(averaging_constant=momentum)
    for batch in batches:
        observer(batch)
    found = qz.moving_average_range(batches, momentum=momentum)
    assert found == pytest.approx((observer.min_val.item(), observer.max_val.item()), rel=1e-5)


def test_percentile_of_a_thousand_and_one_values_worked_by_hand():
    values = torch.randperm(1001, generator=torch.Generator().manual_seed(0)).float()
    batches = list(values.split(300))
    assert qz.percentile_range(batches, percentile=99.0) == (5.0, 995.0)  # half a per cent, 5 values, at each end
    assert qz.percentile_range(batches, percentile=100.0) == (0.0, 1000.0)
    exactly = [torch.arange(1000).float()]
    assert qz.percentile_range(exactly, percentile=99.8) == (1.0, 998.0)


@ON_EACH
@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99])
def test_percentile_equals_onnxruntimes_within_a_bin_of_its_histogram(name, percentile):
    values, batches = DISTRIBUTIONS[name].sort().values, list(DISTRIBUTIONS[name].split(10_000))
    one_bin = 2 * values.abs().max() / 2048
    low, high = ort_range("percentile", batches, percentile=percentile)
    found = qz.percentile_range(batches, percentile=percentile)
    cut = round((100 - percentile) / 200 * len(values))
    assert found == (values[cut], values[-1 - cut])
    # onnxruntime names the bin's left edge, and below it counts the value before ours; the tail has wide gaps
    assert values[cut - 1] - one_bin <= low <= values[cut] + one_bin
    assert values[-1 - cut] - one_bin <= high <= values[-1 - cut] + one_bin


def expected_error(limit: float, bits: int) -> float:
    """Mean squared error of quantizing a standard normal to 2^bits - 1 levels over ±limit, by integration."""
    x, top = np.linspace(-9, 9, 36_001), 2 ** (bits - 1) - 1
    step = limit / top
    nearest = np.clip(np.floor(x / step + 0.5), -top, top) * step
    return float(integrate.simpson((x - nearest) ** 2 * stats.norm.pdf(x), x=x))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_mse_range_finds_the_clipping_that_integration_finds_for_a_normal_density(bits):
    limits = np.linspace(0.8, 4.0, 161)
    best = limits[np.argmin([expected_error(limit, bits) for limit in limits])]
    found = qz.mse_range([sample(100_000)], bits=bits, symmetric=True)
    assert max(-found.minimum, found.maximum) == pytest.approx(best, rel=0.06)


@ON_EACH
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mse_range_equals_a_search_written_in_numpy_and_beats_min_max(name, bits):
    values = DISTRIBUTIONS[name][:5000]
    low, high = values.min().item(), values.max().item()

    def error(share: float) -> float:
        step = (max(high * share, 0) - min(low * share, 0)) / (2**bits - 1)
        zero = np.round(-min(low * share, 0) / step)
        codes = np.clip(np.round(values.numpy().astype(np.float64) / step) + zero, 0, 2**bits - 1)
        return float(np.square((codes - zero) * step - values.numpy()).sum())

    errors = {number: error(number / 50) for number in range(1, 51)}
    found = qz.mse_range(list(values.split(1000)), bits=bits, candidates=50)
    share = found.maximum / high
    assert errors[round(share * 50)] <= min(errors.values()) * (1 + 1e-4)
    assert found.minimum == pytest.approx(low * share)
    assert errors[round(share * 50)] <= errors[50]


def test_mse_range_with_one_candidate_is_the_whole_range():
    batches = [sample(100)]
    assert qz.mse_range(batches, bits=2, candidates=1) == qz.min_max_range(batches)


def divergence(counts: np.ndarray, start: int, end: int, levels: int) -> float:
    """KL(p ‖ q) of a clipped histogram by the definition, level by level."""
    p = counts[start:end].astype(np.float64)
    p[0] += counts[:start].sum()
    p[-1] += counts[end:].sum()
    q = np.zeros_like(p)
    level = [bin_ * levels // len(p) for bin_ in range(len(p))]
    for one in range(levels):
        members = [bin_ for bin_ in range(len(p)) if level[bin_] == one and p[bin_] > 0]
        total = sum(counts[start:end][bin_] for bin_ in range(len(p)) if level[bin_] == one)
        for bin_ in members:
            q[bin_] = total / len(members)
    return float(stats.entropy(p, q))  # normalises both; infinite where q = 0 < p


@ON_EACH
@pytest.mark.parametrize("bits", [3, 4])
def test_entropy_range_equals_the_definition_written_as_loops(name, bits):
    values, bins = DISTRIBUTIONS[name], 64
    low, high = values.min().item(), values.max().item()
    reach, two_sided = max(-low, high), low < 0
    nonzero = values[values != 0].double().numpy()
    counts, edges = np.histogram(nonzero, bins, range=(-reach if two_sided else 0, reach))
    ends = range(2 ** (bits - 1), bins // 2 + 1) if two_sided else range(2**bits, bins + 1)
    spans = [(bins // 2 - end, bins // 2 + end) if two_sided else (0, end) for end in ends]
    scores = [divergence(counts, *span, 2**bits) for span in spans]
    span = spans[int(np.argmin(scores))]
    found = qz.entropy_range(list(values.split(7000)), bits=bits, bins=bins)
    assert found.maximum == pytest.approx(min(edges[span[1]], high))
    assert found.minimum == pytest.approx(max(edges[span[0]], low))


@ON_EACH
def test_onnxruntimes_entropy_keeps_the_whole_range_by_default_and_clips_with_more_bins_as_ours(name):
    batch = DISTRIBUTIONS[name]
    whole = qz.min_max_range([batch])
    assert ort_range("entropy", [batch], num_bins=128) == pytest.approx(whole)
    theirs = ort_range("entropy", [batch], num_bins=2048)
    assert theirs[1] < whole.maximum
    # 64 levels on each side there; they round counts down and leave a last, incomplete level empty
    ours = qz.entropy_range([batch], bits=7 if name != "relu" else 6)
    assert 0.75 * theirs[1] <= ours.maximum <= 1.4 * theirs[1]


def test_entropy_range_of_tensors_with_nothing_to_clip():
    assert qz.entropy_range([torch.zeros(10)]) == (0.0, 0.0)
    spike = torch.zeros(10_000)
    spike[:1000] = torch.linspace(0, 1, 1000)  # uniform: no level is worth losing, whatever the number of zeros
    assert qz.entropy_range([spike], bits=4, bins=64).maximum == pytest.approx(1.0, abs=1 / 32)


METHODS = [qz.min_max_range, qz.moving_average_range, qz.percentile_range, qz.mse_range, qz.entropy_range]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_refuses_no_batches_empty_ones_and_nan(method):
    with pytest.raises(ValueError, match="no batches to calibrate on"):
        method([])
    with pytest.raises(ValueError, match="empty"):
        method([torch.ones(2), torch.ones(0)])
    with pytest.raises(ValueError, match="NaN"):
        method([torch.ones(2), torch.tensor([1.0, math.nan])])


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        (qz.moving_average_range, {"momentum": 0.0}, "momentum"),
        (qz.percentile_range, {"percentile": 0.0}, "percentile"),
        (qz.percentile_range, {"percentile": 100.1}, "percentile"),
        (qz.mse_range, {"candidates": 0}, "candidates"),
        (qz.entropy_range, {"bins": 511}, "bins"),
        (qz.entropy_range, {"bins": 510}, "bins"),
    ],
)
def test_methods_refuse_settings_out_of_range(method, setting, message):
    with pytest.raises(ValueError, match=message):
        method([torch.ones(4)], **setting)


def test_calibrate_finds_each_layers_inputs_and_outputs_also_around_a_relu_in_place():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Dropout(0.9), nn.Linear(4, 2))
    batches = [sample(5, 3, seed=seed) for seed in range(3)]
    found = qz.calibrate(model, batches)
    images = torch.cat(batches)
    hidden = model[0](images)
    steps = {"0": (images, hidden), "3": (hidden.relu(), model[3](hidden.relu()))}
    assert list(found) == list(steps)
    for name, (given, returned) in steps.items():
        expected = [(part.min().item(), part.max().item()) for part in (given, returned)]
        assert [pytest.approx(part, abs=1e-6) for part in expected] == [found[name].inputs, found[name].outputs]


@pytest.mark.parametrize("batch", [sample(4, 1, 28, 28), torch.full((4, 1, 28, 28), math.nan)], ids=["good", "NaN"])
def test_calibrate_restores_modes_and_hooks_also_after_an_error_and_moves_no_statistics(batch):
    model = conv_net((4,)).train()
    model.norm1.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with contextlib.suppress(ValueError):
        qz.calibrate(model, [batch])
    assert [model.training, model.conv1.training, model.norm1.training] == [True, True, False]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_calibrate_refuses_no_batches_and_names_the_layer_of_a_bad_one():
    with pytest.raises(ValueError, match="no batches to calibrate on"):
        qz.calibrate(mlp(()), iter([]))
    model = mlp(())
    with torch.no_grad():
        model.classes.bias[0] = math.nan
    with pytest.raises(ValueError, match="the output of layer 'classes' contains NaN"):
        qz.calibrate(model, [sample(2, 1, 28, 28)])


# --- folding batch norm -----------------------------------------------------------------------------------------------


def moved(model: nn.Module) -> nn.Module:
    """The model with batch norms that have seen data, so that nothing is 0 or 1 by accident."""
    for number, module in enumerate(model.modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.copy_(sample(module.num_features, seed=number))
            module.running_var.copy_(sample(module.num_features, seed=number + 1).square() + 1e-4)
            if module.affine:
                nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(number))
                nn.init.normal_(module.bias, generator=torch.Generator().manual_seed(number + 1))
    return model.eval()


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max().item()))


def test_folding_the_courses_network_keeps_its_outputs_and_leaves_it_alone():
    model = moved(conv_net((8, 12, 16))).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = qz.fold_batchnorm(model)
    assert model.training
    assert not any(module.training for module in folded.modules())
    names = ["conv1", "relu1", "conv2", "relu2", "conv3", "relu3", "flatten", "classes"]
    assert [name for name, _ in folded.named_children()] == names
    images = sample(16, 1, 28, 28)
    assert close(folded(images), model.eval()(images))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_a_folded_pair_equals_pytorchs_fusion_eps_included(bias, affine):
    convolution, norm = nn.Conv2d(4, 6, 3, bias=bias, groups=2), nn.BatchNorm2d(6, affine=affine, eps=0.1)
    model = moved(nn.Sequential(convolution, norm))
    fused = torch.nn.utils.fusion.fuse_conv_bn_eval(convolution, norm) if affine else None
    (folded,) = qz.fold_batchnorm(model)
    images = sample(3, 4, 7, 7)
    assert close(folded(images), model(images))
    if fused is not None:
        assert close(folded.weight, fused.weight)
        assert close(folded.bias, fused.bias)


def test_folding_linear_layers_nested_ones_and_a_norm_that_follows_nothing():
    inner = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU())
    model = moved(nn.Sequential(nn.BatchNorm1d(5), inner, nn.BatchNorm1d(4), nn.Linear(4, 2)))
    with pytest.warns(qz.CoverageWarning, match="that stay: '0' does not always follow .*; '2' does not always follow"):
        folded = qz.fold_batchnorm(model)
    assert [type(module) for module in folded] == [nn.BatchNorm1d, nn.Sequential, nn.BatchNorm1d, nn.Linear]
    assert [type(module) for module in folded[1]] == [nn.Linear, nn.ReLU]
    assert close(folded(sample(9, 5)), model(sample(9, 5)))
    model = moved(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)))
    (folded,) = qz.fold_batchnorm(model)
    assert isinstance(folded, nn.Linear)
    assert close(folded(sample(9, 5)), model(sample(9, 5)))


def test_folding_refuses_what_it_cannot_fold():
    with pytest.raises(ValueError, match="'1' keeps no running statistics"):
        qz.fold_batchnorm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)))
    with pytest.raises(ValueError, match="'1' is 3 wide, the layer before it 2"):
        qz.fold_batchnorm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(3)))
