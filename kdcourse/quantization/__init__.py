"""Quantization, from the affine map to integer networks. Ground floor: needs PyTorch and nothing else of `kdcourse`."""

from .._base.weights import CoverageWarning
from .affine import (
    QuantParams,
    choose_qparams,
    dequantize,
    fake_quantize,
    integer_range,
    qparams_from_range,
    quantize,
    sqnr_db,
)
from .arithmetic import fixed_point, integer_conv2d, integer_linear, requantize
from .calibration import (
    LayerRange,
    Range,
    calibrate,
    entropy_range,
    min_max_range,
    moving_average_range,
    mse_range,
    percentile_range,
)
from .clipping import clipped_qparams
from .coding import entropy_bytes, model_bytes, read_coded, write_coded
from .floats import NormalFloats, normal_float_codebook, normal_floats, quantize_cache
from .folding import fold_batchnorm
from .integer import IntegerNetwork, integer_network
from .mixed import bit_sensitivity, choose_bits
from .packed import read_codes, read_packed, write_packed
from .packing import bits_per_weight, pack_codes, unpack_codes
from .qat import bake, fake_quantize_model, learned_step_quantize
from .second_order import gptq, input_hessian
from .sharing import SharedWeight, kmeans_share, load_shared, share_model, shared_weights
from .smoothing import awq, smooth
from .units import drop_dead_units, renumber_units

__all__ = [
    "CoverageWarning",
    "IntegerNetwork",
    "LayerRange",
    "NormalFloats",
    "QuantParams",
    "Range",
    "SharedWeight",
    "awq",
    "bake",
    "bit_sensitivity",
    "bits_per_weight",
    "calibrate",
    "choose_bits",
    "choose_qparams",
    "clipped_qparams",
    "dequantize",
    "drop_dead_units",
    "entropy_bytes",
    "entropy_range",
    "fake_quantize",
    "fake_quantize_model",
    "fold_batchnorm",
    "fixed_point",
    "gptq",
    "input_hessian",
    "integer_conv2d",
    "integer_linear",
    "integer_network",
    "integer_range",
    "kmeans_share",
    "learned_step_quantize",
    "load_shared",
    "min_max_range",
    "model_bytes",
    "moving_average_range",
    "mse_range",
    "normal_float_codebook",
    "normal_floats",
    "pack_codes",
    "percentile_range",
    "qparams_from_range",
    "quantize",
    "quantize_cache",
    "read_coded",
    "read_codes",
    "read_packed",
    "renumber_units",
    "requantize",
    "share_model",
    "shared_weights",
    "smooth",
    "sqnr_db",
    "unpack_codes",
    "write_coded",
    "write_packed",
]
