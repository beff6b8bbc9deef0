"""Products with packed weights in onnxruntime, against the layers that compute with what the codes stand for."""

import pytest
import torch
from torch import nn

from kdcourse.export import file_bytes, pack_matmuls, run, to_onnx
from kdcourse.language import Decoder
from kdcourse.quantization import choose_qparams, dequantize, quantize


def rounded(layer, **settings):
    """The layer's codes; it computes with what they stand for from now on."""
    params = choose_qparams(layer.weight, **settings)
    codes = quantize(layer.weight.detach(), params)
    layer.weight.data = dequantize(codes, params)
    return codes, params


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [16, 64])
def test_the_file_computes_what_the_layer_does(tmp_path, bits, symmetric, group_size):
    torch.manual_seed(0)
    layer = nn.Linear(192, 7)  # an odd number of outputs; 3 or 12 groups: zero points that do not fill their bytes
    packed = rounded(layer, bits=bits, group_size=group_size, symmetric=symmetric)
    to_onnx(layer, tmp_path / "float.onnx", torch.rand(2, 3, 192))
    assert pack_matmuls(tmp_path / "float.onnx", tmp_path / "packed.onnx", {"weight": packed}) == ["weight"]
    x = torch.randn(5, 3, 192)
    torch.testing.assert_close(run(tmp_path / "packed.onnx", x), layer(x), rtol=1e-4, atol=1e-4)


def test_integer_products_round_the_activations_as_well(tmp_path):
    torch.manual_seed(0)
    layer = nn.Linear(256, 32)
    packed = {"weight": rounded(layer, bits=4, group_size=32)}
    to_onnx(layer, tmp_path / "float.onnx", torch.rand(2, 3, 256))
    pack_matmuls(tmp_path / "float.onnx", tmp_path / "packed.onnx", packed, integer_products=True)
    x = torch.randn(5, 3, 256)
    found, wanted = run(tmp_path / "packed.onnx", x), layer(x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02 * wanted.abs().max().item())


def test_a_whole_decoder_keeps_its_logits_and_its_file_gets_smaller(tmp_path):
    model = Decoder(50, width=64, layers=2, heads=2, context=16, seed=3).eval()
    names = [
        f"blocks.{number}.{part}" for number in range(2) for part in ("query", "key", "value", "out", "up", "down")
    ]
    packed = {name: rounded(model.get_submodule(name), bits=4, group_size=32) for name in [*names, "head"]}
    tokens = torch.randint(50, (3, 16))
    to_onnx(model, tmp_path / "float.onnx", tokens, input_names=["tokens"])
    assert pack_matmuls(tmp_path / "float.onnx", tmp_path / "packed.onnx", packed) == sorted(packed)
    with torch.no_grad():
        torch.testing.assert_close(run(tmp_path / "packed.onnx", tokens), model(tokens), rtol=1e-4, atol=1e-5)
    assert file_bytes(tmp_path / "packed.onnx") < file_bytes(tmp_path / "float.onnx") / 3


def test_what_the_operator_does_not_take_is_refused(tmp_path):
    layer = nn.Linear(64, 8)
    to_onnx(layer, tmp_path / "float.onnx", torch.rand(2, 3, 64))
    for settings in ({"bits": 3, "group_size": 16}, {"bits": 4, "group_size": 8}, {"bits": 4, "axis": 0}):
        with pytest.raises(ValueError, match="MatMulNBits takes"):
            pack_matmuls(tmp_path / "float.onnx", tmp_path / "packed.onnx", {"weight": rounded(layer, **settings)})
    other = rounded(nn.Linear(64, 8), bits=4, group_size=16)
    with pytest.raises(ValueError, match="multiplies by none of"):
        pack_matmuls(tmp_path / "float.onnx", tmp_path / "packed.onnx", {"weight": other})
    assert not (tmp_path / "packed.onnx").exists()
