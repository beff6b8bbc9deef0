"""Integer inference against exact Python integers, onnxruntime's integer operators and the fake-quantized network."""

import copy
import math
from fractions import Fraction

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from torch import nn

from kdcourse import quantization as qz
from kdcourse.data import data_dir, load_mnist
from kdcourse.metrics import accuracy, agreement
from kdcourse.models import conv_net, load_model, mlp
from kdcourse.quantization.arithmetic import FixedPoint, multiply
from kdcourse.quantization.integer import run_layer
from kdcourse.seeds import seeded


def integers(low: int, high: int, *shape: int, seed: int = 0, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def sample(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- requantization: gemmlowp's two roundings, in Python's exact integers ---------------------------------------------


def towards_zero(numerator: int, denominator: int) -> int:
    quotient = abs(numerator) // denominator
    return quotient if numerator >= 0 else -quotient


def gemmlowp(accumulator: int, multiplier: int, shift: int) -> int:
    """Saturating rounding doubling high multiplication, then a rounding division by a power of two."""
    product = accumulator * multiplier
    nudge = 2**30 if product >= 0 else 1 - 2**30
    high = towards_zero(product + nudge, 2**31)
    if shift == 0:
        return high
    remainder, threshold = high & (2**shift - 1), ((2**shift - 1) >> 1) + (high < 0)
    return (high >> shift) + (remainder > threshold)


@pytest.mark.parametrize("shift", [0, 1, 2, 7, 15, 30])
def test_multiply_equals_gemmlowps_rounding_in_exact_integers_ties_included(shift):
    values = torch.cat([integers(-(2**31), 2**31 - 1, 500, dtype=torch.int64), torch.arange(-300, 301)])
    values = torch.cat([values, torch.tensor([2**31 - 1, -(2**31), 2**shift // 2 * 3, -(2**shift) // 2 * 3])])
    for multiplier in (2**30, 3 * 2**29, 2**31 - 1, 1_234_567_891):
        factor = FixedPoint(torch.tensor(multiplier), torch.tensor(shift))
        assert multiply(values, factor).tolist() == [gemmlowp(value, multiplier, shift) for value in values.tolist()]


def test_multiply_rounds_halves_as_documented():
    values = torch.tensor([-5, -3, -1, 1, 3, 5])
    half_by_multiplication = FixedPoint(torch.tensor(2**30), torch.tensor(0))  # half up
    assert multiply(values, half_by_multiplication).tolist() == [-2, -1, 0, 1, 2, 3]
    one_then_shift = FixedPoint(torch.tensor(2**30), torch.tensor(1))  # of twice the values: half away from zero
    assert multiply(2 * values, one_then_shift).tolist() == [-3, -2, -1, 1, 2, 3]


@pytest.mark.parametrize("factor", [1e-9, 1 / 3, 0.5, 0.999999999999, 1.0, 1.7, 200.0, 2.0**-31])
def test_fixed_point_is_right_to_31_bits(factor):
    found = qz.fixed_point(factor)
    multiplier, shift = int(found.multiplier), int(found.shift)
    assert 2**30 <= multiplier < 2**31
    value = Fraction(multiplier) * Fraction(2) ** -(31 + shift)
    assert abs(value / Fraction(factor) - 1) <= Fraction(1, 2**31)
    twice = 2.0 ** -(max(shift, 0) + 1) + 1e-3  # the second rounding starts from a rounded number
    for accumulator in (-1_000_000, -77, 0, 5, 123_456):
        assert abs(int(multiply(torch.tensor([accumulator]), found)) - accumulator * factor) <= 0.5 + twice


def test_a_factor_above_one_saturates_at_int32_instead_of_wrapping():
    assert multiply(torch.tensor([2**30, -(2**30)]), qz.fixed_point(8.0)).tolist() == [2**30, -(2**30)]
    for bad in (0.0, -1.0, 2.0**31, math.nan):
        with pytest.raises(ValueError, match="between 0 and 2\\^31"):
            qz.fixed_point(bad)


def test_requantize_by_channel_adds_the_zero_point_and_saturates():
    outputs = qz.qparams_from_range(-1.0, 3.0)  # zero point 64
    factor = qz.fixed_point(torch.tensor([0.5, 0.25]))
    accumulators = torch.tensor([[100, 100], [-1000, 1000], [0, 0]])
    codes = qz.requantize(accumulators, factor, outputs)
    assert codes.tolist() == [[114, 89], [0, 255], [64, 64]]
    assert codes.dtype == torch.uint8
    signed = qz.requantize(accumulators, factor, qz.qparams_from_range(-1.0, 1.0, symmetric=True))
    assert signed.tolist() == [[50, 25], [-127, 127], [0, 0]]
    assert signed.dtype == torch.int8


# --- accumulation -----------------------------------------------------------------------------------------------------


def python_linear(codes, weight, bias, zero_point):
    def one(row, line, offset):
        return sum((q - zero_point) * w for q, w in zip(row, line, strict=True)) + offset

    return [[one(row, *channel) for channel in zip(weight, bias, strict=True)] for row in codes]


@pytest.mark.parametrize(("dtype", "zero_point"), [(torch.uint8, 0), (torch.uint8, 255), (torch.int8, -7)])
def test_linear_equals_sums_of_python_integers(dtype, zero_point):
    limits = torch.iinfo(dtype)
    codes = integers(limits.min, limits.max, 5, 40, dtype=dtype)
    weight, bias = integers(-127, 127, 3, 40, dtype=torch.int8), integers(-(10**6), 10**6, 3)
    found = qz.integer_linear(codes, weight, bias, input_zero_point=zero_point)
    assert found.dtype == torch.int32
    assert found.tolist() == python_linear(codes.tolist(), weight.tolist(), bias.tolist(), zero_point)


@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2)])
@pytest.mark.parametrize("zero_point", [0, 100])
def test_convolution_equals_float64s_of_the_centred_codes_and_onnxruntimes_integers(stride, padding, zero_point):
    codes = integers(0, 255, 2, 3, 7, 6, dtype=torch.uint8)
    weight, bias = integers(-127, 127, 4, 3, 3, 2, dtype=torch.int8), integers(-9999, 9999, 4)
    found = qz.integer_conv2d(codes, weight, bias, input_zero_point=zero_point, stride=stride, padding=padding)
    assert found.dtype == torch.int32
    # float64 holds these integers exactly; padding with zeros is right because the codes are centred already
    exact = F.conv2d(codes.double() - zero_point, weight.double(), bias.double(), stride=stride, padding=padding)
    assert torch.equal(found.double(), exact)
    node = helper.make_node(
        "ConvInteger", ["x", "w", "z"], ["y"], strides=list(stride), pads=[padding[0], padding[1]] * 2
    )
    theirs = run_node(node, {"x": codes.numpy(), "w": weight.numpy(), "z": np.uint8(zero_point)}, np.int32)
    assert np.array_equal((found - bias.reshape(-1, 1, 1)).numpy(), theirs)


def run_node(node, inputs, output_type):
    def value(name, dtype, shape):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    given = [value(name, np.asarray(part).dtype, np.shape(part)) for name, part in inputs.items()]
    graph = helper.make_graph([node], "one", given, [value("y", output_type, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.asarray(part) for name, part in inputs.items()})[0]


def test_padding_with_code_zero_instead_of_the_zero_point_would_be_wrong():
    codes, weight = torch.full((1, 1, 3, 3), 100, dtype=torch.uint8), torch.ones(1, 1, 3, 3, dtype=torch.int8)
    # everything is the real number 0, the border included
    found = qz.integer_conv2d(codes, weight, torch.zeros(1, dtype=torch.int32), input_zero_point=100, padding=(1, 1))
    assert torch.equal(found, torch.zeros(1, 1, 3, 3, dtype=torch.int32))


@pytest.mark.parametrize("accumulator", [torch.int8, torch.int16])
def test_narrower_accumulators_wrap_around(accumulator):
    codes, weight = torch.full((1, 2), 255, dtype=torch.uint8), torch.full((1, 2), 127, dtype=torch.int8)
    bias = torch.zeros(1, dtype=torch.int32)
    assert qz.integer_linear(codes, weight, bias, input_zero_point=0).item() == 2 * 255 * 127
    found = qz.integer_linear(codes, weight, bias, input_zero_point=0, accumulator=accumulator).item()
    width = torch.iinfo(accumulator).bits
    assert found == (2 * 255 * 127 + 2 ** (width - 1)) % 2**width - 2 ** (width - 1)
    assert found < 0 or found < 255


# --- whole networks ---------------------------------------------------------------------------------------------------


IMAGES = sample(40, 1, 28, 28).sigmoid()


def two_convolutions() -> nn.Module:
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, bias=False), nn.Conv2d(4, 3, (3, 2), padding=(1, 0)), nn.Identity()
        )


def nested() -> nn.Module:
    with seeded(0):
        first = nn.Sequential(nn.Conv2d(1, 2, 3, stride=3), nn.Flatten(), nn.ReLU())
        return nn.Sequential(first, nn.Linear(162, 40), nn.ReLU())


NETWORKS = {
    "conv_net": lambda: qz.fold_batchnorm(conv_net((6, 8), seed=3)),
    "mlp": lambda: mlp((16, 12), dropout=0.5).eval(),
    "two convolutions and no ReLU": two_convolutions,
    "nested, a ReLU at the end": nested,
}
ON_EACH = pytest.mark.parametrize("name", NETWORKS)


def fake_quantized(model: nn.Module, images: torch.Tensor = IMAGES, **settings) -> nn.Module:
    ranges = qz.calibrate(model, [images])
    return qz.fake_quantize_model(model, activation_bits=8, ranges=ranges, **settings).eval()


def exactly(layer, codes: np.ndarray) -> np.ndarray:
    """One layer's codes from rational numbers: the bias on its grid, one rounding, halves up."""
    inputs, outputs = layer.inputs, layer.outputs
    centred = torch.from_numpy(codes).double() - int(inputs.zero_point)
    if layer.flatten:
        centred = centred.flatten(1)
    if layer.weight.ndim == 2:
        sums = F.linear(centred, layer.weight.double(), layer.bias.double())
    else:
        sums = F.conv2d(centred, layer.weight.double(), layer.bias.double(), layer.stride, layer.padding)
    if layer.relu:
        sums = sums.clamp(min=0)
    scales = layer.weight_scale.reshape(-1, *[1] * (sums.ndim - 2))
    real = sums * (float(inputs.scale) * scales / float(outputs.scale))
    return (
        (torch.floor(real + 0.5) + int(outputs.zero_point)).clamp(outputs.qmin, outputs.qmax).numpy().astype(np.uint8)
    )


@ON_EACH
def test_every_layers_codes_equal_those_of_float64_up_to_ties(name):
    network = qz.integer_network(fake_quantized(NETWORKS[name](), quantize_output=True))
    codes = qz.quantize(IMAGES, network.layers[0].inputs)
    different = total = 0
    for layer in network.layers:
        expected = exactly(layer, codes.numpy())
        codes = run_layer(layer, codes)
        gaps = np.abs(codes.numpy().astype(int) - expected)
        assert gaps.max() <= 1
        different, total = different + int(gaps.sum()), total + gaps.size
    # gemmlowp rounds twice, so a value just below a half can end above it: one in 2^shift at the most
    assert different / total < 1 / 200
    assert torch.equal(codes, network.run(qz.quantize(IMAGES, network.layers[0].inputs)))


@ON_EACH
@pytest.mark.parametrize("settings", [{}, {"weight_bits": 4}, {"learned_step": True}], ids=str)
def test_equals_the_fake_quantized_network_within_a_unit_or_two_with_four_bits(name, settings):
    model = fake_quantized(NETWORKS[name](), quantize_output=True, **settings)
    network = qz.integer_network(model)
    with torch.no_grad():
        expected = model(IMAGES)
    unit = network.layers[-1].outputs.scale
    units = ((network(IMAGES) - expected) / unit).abs()
    # with coarser weights half a bias unit is a larger part of an output unit
    most, share = (2, 0.25) if "weight_bits" in settings else (1, 0.1)
    assert units.max() <= most + 1e-3
    assert (units > 0.5).double().mean() < share
    assert len(network(IMAGES).unique()) > 10


@ON_EACH
def test_accumulators_as_output_give_real_logits_close_to_the_fake_quantized_networks(name):
    model = fake_quantized(NETWORKS[name]())
    network = qz.integer_network(model)
    assert network.layers[-1].outputs is None
    assert network.run(qz.quantize(IMAGES, network.layers[0].inputs)).dtype == torch.int32
    with torch.no_grad():
        expected = model(IMAGES)
    spread = expected.max() - expected.min()
    assert (network(IMAGES) - expected).abs().max() < 0.02 * spread
    assert network(IMAGES).dtype == torch.float32


@pytest.fixture(scope="module")
def shipped():
    """The course's teacher, fake-quantized from 512 training images, its integers, and the test digits."""
    data = load_mnist()
    teacher = load_model(data_dir() / "teacher.safetensors")
    model = fake_quantized(qz.fold_batchnorm(teacher), data.train.images[:512], quantize_output=True)
    return teacher, model, qz.integer_network(model), data.test


def test_on_the_digits_each_layer_is_seldom_off_and_by_one_unit_and_accuracy_stays(shipped):
    teacher, model, network, test = shipped
    codes = qz.quantize(test.images, network.layers[0].inputs)
    for layer in network.layers:
        convolution = model.get_submodule(layer.name)
        real = qz.dequantize(codes, layer.inputs)
        with torch.no_grad():
            output = convolution(real.flatten(1) if layer.flatten else real)
        expected = qz.quantize(output.relu() if layer.relu else output, layer.outputs).int()
        codes = run_layer(layer, codes)
        gaps = (codes.int() - expected).abs()
        assert gaps.max() <= 1
        assert gaps.double().mean() < 1e-3
    with torch.no_grad():
        logits = teacher(test.images)
    assert agreement(network(test.images), logits) >= 0.99
    assert accuracy(network(test.images), test.labels) >= accuracy(logits, test.labels) - 0.005


def test_the_difference_is_the_rounding_of_the_bias_and_the_second_rounding_alone(shipped):
    _, model, network, test = shipped
    model = copy.deepcopy(model).double()
    codes = qz.quantize(test.images, network.layers[0].inputs)
    for layer in network.layers:
        module = model.get_submodule(layer.name)
        with torch.no_grad():
            module.bias.copy_(layer.bias * layer.inputs.scale.double() * layer.weight_scale)
            real = qz.dequantize(codes, layer.inputs).double()
            output = module(real.flatten(1) if layer.flatten else real)
        expected = qz.quantize(output.relu() if layer.relu else output, layer.outputs)
        once = exactly(layer, codes.numpy())
        # the model's scales are float32: a few in a million values lie that close to a half
        assert (expected.numpy() != once).mean() < 2e-5
        codes = run_layer(layer, codes)
        assert (codes.numpy() != once).mean() < 2.0 ** -int(layer.factor.shift.min())


def test_on_the_digits_int8_and_int16_accumulators_overflow_and_int32_is_far_from_it(shipped):
    _, _, network, test = shipped
    layer = network.layers[0]
    codes = qz.quantize(test.images[:100], layer.inputs)
    settings = {"input_zero_point": int(layer.inputs.zero_point), "stride": layer.stride, "padding": layer.padding}
    right = qz.integer_conv2d(codes, layer.weight, layer.bias, **settings)
    assert right.abs().max() < 2**24
    for accumulator in (torch.int8, torch.int16):
        narrow = qz.integer_conv2d(codes, layer.weight, layer.bias, accumulator=accumulator, **settings)
        assert not torch.equal(narrow.int(), right)
        assert torch.equal(narrow, right.to(accumulator))  # the same modulo 2^8 or 2^16: wrapped, not saturated


def test_dead_channels_keep_their_bias_and_tiny_ones_do_not_overflow_it():
    model = mlp((6,))
    with torch.no_grad():
        model.linear1.weight[0] = 0
        model.linear1.bias[0] = 0.7234
        model.linear1.weight[1] *= 1e-12  # its bias would be some 10^13 units
        model.linear1.bias[1] = 0.5
    quantized = fake_quantized(model, quantize_output=True)
    network = qz.integer_network(quantized)
    layer = network.layers[0]
    units = layer.bias.double() * float(layer.inputs.scale) * layer.weight_scale
    assert units.tolist() == pytest.approx(model.linear1.bias.tolist(), abs=float(layer.inputs.scale) * 0.01)
    with torch.no_grad():
        gaps = (network(IMAGES) - quantized(IMAGES)).abs() / network.layers[-1].outputs.scale
    assert gaps.max() <= 1 + 1e-3


def test_a_layer_of_zero_weights_returns_its_bias():
    model = mlp(())
    with torch.no_grad():
        model.classes.weight.zero_()
    network = qz.integer_network(fake_quantized(model))
    assert (network(IMAGES) - model.classes.bias).abs().max() < 0.5 * network.layers[0].inputs.scale


def test_stored_bytes_count_weights_biases_and_factors():
    network = qz.integer_network(fake_quantized(mlp((6,))))
    assert network.stored_bytes() == 784 * 6 + 6 * 10 + (6 + 10) * 9


def test_refuses_what_has_no_integer_counterpart_and_names_it():
    real = NETWORKS["mlp"]()
    with pytest.raises(ValueError, match="layer 'linear1' has real weights or inputs"):
        qz.integer_network(real)
    with pytest.raises(ValueError, match="layer 'linear1' has real weights or inputs"):
        qz.integer_network(qz.fake_quantize_model(real))
    with pytest.raises(ValueError, match="layer 'norm1', BatchNorm2d.*fold_batchnorm"):
        qz.integer_network(fake_quantized(conv_net((4,)).eval()))
    with pytest.raises(ValueError, match="layer '1', Sigmoid, has no integer counterpart"):
        qz.integer_network(fake_quantized(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid())))
    with pytest.raises(ValueError, match="layer '0', ReLU"):
        qz.integer_network(fake_quantized(nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 3))))
    with pytest.raises(ValueError, match="must end with"):
        qz.integer_network(fake_quantized(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())))
    for settings in ({"dilation": 2}, {"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}):
        with pytest.raises(ValueError, match="layer '0': only convolutions without groups or dilation"):
            qz.integer_network(fake_quantized(nn.Sequential(nn.Conv2d(1, 2, 3, **settings))))
    network = qz.integer_network(fake_quantized(real))
    with pytest.raises(TypeError, match="takes torch.uint8 codes, got torch.int8"):
        network.run(torch.zeros(1, 1, 28, 28, dtype=torch.int8))
