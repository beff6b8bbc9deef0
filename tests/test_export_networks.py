"""Anyone's network as an ONNX file: right against eager PyTorch, or refused in a sentence, and nothing left behind."""

from typing import NamedTuple

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.export import file_bytes, run, session, to_onnx, writing
from kdcourse.pruning import apply_masks, layer_magnitude_masks
from kdcourse.quantization import bake, calibrate, fake_quantize_model, share_model


def sample(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


IMAGES = sample(3, 1, 6, 6)


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    return model.eval()


def assert_same(path, model, *inputs, **named):
    """The file and the network give the same on the batch, on each of its rows and on the batch twice over."""
    for rows in (slice(None), slice(1), slice(2, 3)):
        some, others = [each[rows] for each in inputs], {name: each[rows] for name, each in named.items()}
        with torch.no_grad():
            wanted = model(*some, **others)
        torch.testing.assert_close(run(path, *some, **others), wanted, rtol=1e-4, atol=1e-5)


def declared(path):
    graph = onnx.load(path).graph
    return [part.name for part in graph.input], [part.name for part in graph.output]


# --- the operator set -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [99, 0, "20", True])
def test_an_opset_that_does_not_exist_is_refused(tmp_path, opset):
    with pytest.raises(ValueError, match="opset must be an integer"):
        to_onnx(net(), tmp_path / "net.onnx", IMAGES, opset=opset)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("model", "opset"), [(nn.Flatten(), 7), (nn.LayerNorm(6), 16)], ids=str)
def test_an_opset_that_the_exporter_does_not_write_is_refused_and_no_other_is_written(tmp_path, model, opset):
    with pytest.raises(ValueError, match=rf"opset {opset} was asked for .* only write (\d+) .* pass opset=\1"):
        to_onnx(model, tmp_path / "net.onnx", IMAGES, opset=opset)
    assert not list(tmp_path.iterdir())


# --- several inputs and outputs ---------------------------------------------------------------------------------------


class Difference(nn.Module):
    def forward(self, left, right, scale=2.0):
        return {"difference": left - scale * right, "product": left * right}


class ByName(nn.Module):
    def forward(self, left, *, right):
        return left - 2 * right


class Any(nn.Module):
    def forward(self, *parts, **more):
        return parts[0] - 2 * parts[1] if parts else more["p"] - 2 * more["q"]


class Parts(NamedTuple):
    total: torch.Tensor
    pair: tuple


class Pair(nn.Module):
    def forward(self, images):
        return Parts(images.sum(dim=1), (images + 1, images + 2))


LEFT, RIGHT = sample(3, 4, seed=1), sample(3, 4, seed=2)


@pytest.mark.parametrize(
    ("model", "example", "inputs", "outputs"),
    [
        (Difference(), (LEFT, RIGHT), ["left", "right"], ["difference", "product"]),
        (Difference(), {"right": RIGHT, "left": LEFT}, ["left", "right"], ["difference", "product"]),
        (ByName(), {"right": RIGHT, "left": LEFT}, ["left", "right"], ["logits"]),
        (Any(), [LEFT, RIGHT], ["parts_0", "parts_1"], ["logits"]),
        (Any(), {"p": LEFT, "q": RIGHT}, ["p", "q"], ["logits"]),
    ],
    ids=["tuple", "dict", "keyword only", "any number", "any names"],
)
def test_inputs_and_outputs_keep_their_names_and_order(tmp_path, model, example, inputs, outputs):
    to_onnx(model, tmp_path / "net.onnx", example)
    assert declared(tmp_path / "net.onnx") == (inputs, outputs)
    wanted = {"difference": LEFT - 2 * RIGHT, "product": LEFT * RIGHT}
    call = session(tmp_path / "net.onnx")
    for found in (call(LEFT, RIGHT), call(**{inputs[1]: RIGHT, inputs[0]: LEFT}), call(LEFT, **{inputs[1]: RIGHT})):
        if len(outputs) == 1:
            torch.testing.assert_close(found, wanted["difference"])
        else:
            torch.testing.assert_close(found, wanted)


def test_nested_outputs_are_named_by_their_fields(tmp_path):
    to_onnx(Pair(), tmp_path / "net.onnx", LEFT)
    found = run(tmp_path / "net.onnx", RIGHT)
    torch.testing.assert_close(found, {"total": RIGHT.sum(dim=1), "pair_0": RIGHT + 1, "pair_1": RIGHT + 2})


def test_names_can_be_chosen(tmp_path):
    to_onnx(nn.Linear(4, 2), tmp_path / "net.onnx", LEFT, input_names=["rows"], output_names=["scores"])
    assert declared(tmp_path / "net.onnx") == (["rows"], ["scores"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"input_names": ["one"]}, r"input_names must be a list of 2 names"),
        ({"input_names": "ab"}, r"input_names must be a list of 2 names"),
        ({"output_names": ["a", "b", "c"]}, r"output_names must be a list of 2 names"),
        ({"input_names": ["same", "same"]}, "names of their own"),
        ({"input_names": ["left", "product"]}, "names of their own"),
        ({"output_names": ["", "b"]}, "output_names must be a list"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        to_onnx(Difference(), tmp_path / "net.onnx", (LEFT, RIGHT), **names)


@pytest.mark.parametrize(
    ("example", "error", "message"),
    [
        ((), ValueError, "at least one input"),
        ((LEFT, RIGHT[:1]), ValueError, r"one size for all, got shapes \[\(3, 4\), \(1, 4\)\]"),
        ((LEFT, 2.0), TypeError, r"example\['1'\] must be a torch.Tensor, got float"),
        ({"left": LEFT, "middle": RIGHT}, ValueError, "example does not fit forward"),
        ((LEFT, RIGHT, RIGHT, RIGHT), ValueError, "example does not fit forward"),
    ],
)
def test_an_example_that_is_no_batch_of_this_network_is_refused(tmp_path, example, error, message):
    with pytest.raises(error, match=message):
        to_onnx(Difference(), tmp_path / "net.onnx", example)


# --- after other helpers, within wrappers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rounded",
    [
        lambda: fake_quantize_model(net()),
        lambda: fake_quantize_model(net(), learned_step=True),
        lambda: fake_quantize_model(net(), activation_bits=8, ranges=calibrate(net(), [IMAGES])),
    ],
    ids=["weights", "learned step", "activations"],
)
def test_a_fake_quantized_network_is_told_to_be_baked(tmp_path, rounded):
    with pytest.raises(ValueError, match=r"fake-quantized: bake\(\) it first"):
        to_onnx(rounded(), tmp_path / "net.onnx", IMAGES)
    with pytest.raises(ValueError, match=r"fake-quantized: bake\(\) it first"):
        to_onnx(nn.Sequential(rounded(), nn.ReLU()), tmp_path / "net.onnx", IMAGES)


def masked():
    model = net()
    apply_masks(model, layer_magnitude_masks(model, 0.5))
    return model


@pytest.mark.parametrize("make", [masked, lambda: share_model(net(), bits=2), lambda: bake(fake_quantize_model(net()))])
def test_computed_weights_are_stored_as_the_weights_that_they_make(tmp_path, make):
    model = make()
    to_onnx(model, tmp_path / "net.onnx", IMAGES)
    assert_same(tmp_path / "net.onnx", model, IMAGES)
    operators = {node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node}
    assert operators <= {"Conv", "Relu", "Reshape", "Gemm"}, "the weights would be computed in every call"


def without_compiler(graph, inputs):
    raise AssertionError("nothing needs to be compiled")


def compiled(model):
    return torch.compile(model, backend=without_compiler)


@pytest.mark.parametrize(
    "wrap",
    [compiled, lambda model: nn.Sequential(compiled(model)), torch.optim.swa_utils.AveragedModel],
    ids=["compile", "compiled within", "averaged"],
)
def test_wrappers_are_looked_through(tmp_path, wrap):
    to_onnx(wrap(net()), tmp_path / "net.onnx", IMAGES)
    assert_same(tmp_path / "net.onnx", net(), IMAGES)
    model = net()
    for wrapped in (compiled(nn.DataParallel(model)), nn.DataParallel(compiled(model))):
        assert writing._unwrapped(wrapped) is model, "on a GPU it would split the batch"


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(TypeError, match="scripted or traced"):
        to_onnx(torch.jit.trace(net(), IMAGES), tmp_path / "net.onnx", IMAGES)
    with pytest.raises(TypeError, match="must be an nn.Module, got function"):
        to_onnx(lambda images: images, tmp_path / "net.onnx", IMAGES)
    with pytest.raises(ValueError, match="less than 2,147,483,648"):
        to_onnx(nn.Linear(30_000, 30_000, device="meta"), tmp_path / "net.onnx", IMAGES)


def test_hooks_are_part_of_the_network(tmp_path):
    model = net()
    model[1].register_forward_hook(lambda module, arguments, output: output * 2)
    to_onnx(model, tmp_path / "net.onnx", IMAGES)
    assert_same(tmp_path / "net.onnx", model, IMAGES)
    assert not torch.allclose(run(tmp_path / "net.onnx", IMAGES), net()(IMAGES))


def test_one_tensor_given_for_several_inputs_leaves_them_several(tmp_path):
    sequence, attention = sample(3, 5, 8), nn.MultiheadAttention(8, 2, batch_first=True).eval()
    to_onnx(attention, tmp_path / "attention.onnx", (sequence, sequence, sequence))
    with torch.no_grad():  # where query is key, PyTorch takes another path
        wanted = attention(sequence, sequence + 1, sequence - 1)
    found = run(tmp_path / "attention.onnx", sequence, sequence + 1, sequence - 1)
    torch.testing.assert_close(tuple(found.values()), wanted)


def test_indices_are_inputs_as_well(tmp_path):
    words = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(20, 3)).eval()
    to_onnx(words, tmp_path / "words.onnx", torch.zeros(1, 5, dtype=torch.int64))
    assert_same(tmp_path / "words.onnx", words, torch.arange(15).reshape(3, 5) % 10)


# --- types ------------------------------------------------------------------------------------------------------------


def test_types_are_right_or_refused(tmp_path):
    for dtype, close in ((torch.float64, 1e-12), (torch.float16, 1e-2)):
        model, rows = nn.Linear(4, 2).to(dtype), LEFT.to(dtype)
        to_onnx(model, tmp_path / "net.onnx", rows)
        found = run(tmp_path / "net.onnx", rows)
        assert found.dtype == dtype
        torch.testing.assert_close(found, model(rows).detach(), rtol=close, atol=close)
    with pytest.raises(ValueError, match=r"no bfloat16 operators for the CPU: export copy.deepcopy\(model\).float\(\)"):
        to_onnx(net().bfloat16(), tmp_path / "half.onnx", IMAGES.bfloat16())
    with pytest.raises(ValueError, match=r"cannot run what was exported.*Conv.*float64.*export copy"):
        to_onnx(net().double(), tmp_path / "half.onnx", IMAGES.double())
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


# --- forward that cannot be written down ------------------------------------------------------------------------------


class Dropping(nn.Module):
    def forward(self, images):
        return F.dropout(images)


class Noisy(nn.Module):
    def forward(self, images):
        return images + torch.randn_like(images)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return images * self.calls


@pytest.mark.parametrize("kind", [Dropping, Noisy, Counting])
def test_a_network_that_gives_something_else_each_time_is_refused(tmp_path, kind):
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="another 'logits' for the same input each time"):
        to_onnx(kind(), tmp_path / "net.onnx", IMAGES)
    assert torch.equal(torch.get_rng_state(), before)


class Averaging(nn.Module):
    def forward(self, images):
        return images / len(images)


def test_a_batch_size_made_a_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'images' in this batch size alone.*use x.shape\[0\]"):
        to_onnx(Averaging(), tmp_path / "net.onnx", IMAGES)


class Deciding(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, images):
        found = self.inner(images)
        return found * 2 if found.sum() > 0 else found


class Spectral(nn.Module):
    def forward(self, images):
        return torch.linalg.svdvals(images)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (nn.Sequential(nn.ReLU(), nn.Sequential(Deciding())), "layer '1.0', Deciding,"),
        (Deciding(), "the model, Deciding,"),
        (nn.Sequential(nn.ReLU(), nn.Sequential(Spectral())), "layer '1.0', Spectral,.*aten._linalg_svd"),
    ],
    ids=["within", "itself", "operator"],
)
def test_the_innermost_module_that_cannot_be_exported_is_named(tmp_path, model, named):
    with pytest.raises(ValueError, match=named):
        to_onnx(model, tmp_path / "net.onnx", IMAGES)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


# --- the file against the network -------------------------------------------------------------------------------------


class Double(nn.Module):
    def forward(self, images):
        return images * 2


class ByBatch(nn.Module):
    """Twice the rows in a batch of three, in others something else."""

    def forward(self, images):
        return images * (images.shape[0] - 1)


def test_a_file_that_would_compute_something_else_does_not_leave(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_text("the file before")
    traced = writing.traced

    def of_another(model, *rest):
        return traced(other, *rest)

    monkeypatch.setattr(writing, "traced", of_another)
    slightly = net()
    slightly[3].bias.data[1] += 0.01
    cases = (
        (net(), slightly, IMAGES, "would not compute what the model does: output 'logits' differs on 3 rows .by up to"),
        (Double(), ByBatch(), LEFT, "differs on 1 rows"),
        (net(), net().append(nn.Flatten(0)), IMAGES, r"torch.float32 \(15,\), not torch.float32 \(3, 5\)"),
    )
    for model, replacement, example, message in cases:
        other = replacement
        with pytest.raises(ValueError, match=message):
            to_onnx(model, tmp_path / "net.onnx", example)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert (tmp_path / "net.onnx").read_text() == "the file before"


# --- inputs of a file -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "two.onnx"
    to_onnx(Difference(), path, (LEFT, RIGHT))
    return session(path)


@pytest.mark.parametrize(
    ("inputs", "named", "error", "message"),
    [
        ((LEFT,), {}, ValueError, r"inputs are \['left', 'right'\], got 1 in order and \[\] by name"),
        ((LEFT, RIGHT, RIGHT), {}, ValueError, "got 3 in order"),
        ((LEFT, RIGHT), {"left": LEFT}, ValueError, r"got 2 in order and \['left'\] by name"),
        ((LEFT,), {"middle": RIGHT}, ValueError, r"got 1 in order and \['middle'\] by name"),
        ((LEFT, RIGHT.double()), {}, TypeError, "'right' must be torch.float32, got torch.float64"),
        ((LEFT, RIGHT.tolist()), {}, TypeError, "'right' must be a torch.Tensor, got list"),
        ((LEFT, RIGHT[:, :3]), {}, ValueError, r"'right' must have shape \(batch, 4\), batch = 3, got \(3, 3\)"),
        ((LEFT, RIGHT[:2]), {}, ValueError, r"'right' must have shape \(batch, 4\), batch = 3, got \(2, 4\)"),
        ((LEFT[0], RIGHT), {}, ValueError, r"'left' must have shape \(batch, 4\).*, got \(4,\)"),
    ],
)
def test_inputs_that_the_file_does_not_take_are_refused(two, inputs, named, error, message):
    with pytest.raises(error, match=message):
        two(*inputs, **named)


def test_sessions_take_what_eager_pytorch_takes(two):
    left = LEFT.t().contiguous().t().requires_grad_()
    torch.testing.assert_close(two(left, RIGHT)["product"], (LEFT * RIGHT))


def test_threads_and_sizes_are_checked(tmp_path):
    to_onnx(nn.Flatten(), tmp_path / "net.onnx", IMAGES)
    with pytest.raises(ValueError, match="threads must be an integer >= 1, got 0"):
        session(tmp_path / "net.onnx", threads=0)
    with pytest.raises(FileNotFoundError, match="a folder"):
        file_bytes(tmp_path)
