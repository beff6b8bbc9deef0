"""Scales moved across a norm: the same function in float64, outliers planted and taken back, nothing left unread."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.pruning import apply_masks, layer_magnitude_masks
from kdcourse.quantization import awq, choose_qparams, fake_quantize, smooth

TWO = {"norm": "first", "readers": ["queries", "keys", "values", "gate"]}
MOVE = pytest.mark.parametrize(
    "move", [smooth, lambda *given, **names: awq(*given, bits=3, **names)], ids=["smooth", "awq"]
)


class Block(nn.Module):
    """A block of a decoder: one norm with four readers, a router's gate among them, and one with a single reader."""

    def __init__(self, norm=nn.LayerNorm, width=16, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.tokens = nn.Embedding(11, width)
            self.first, self.second = norm(width), norm(width)
            self.queries, self.keys, self.values = (nn.Linear(width, width, bias=False) for _ in range(3))
            self.gate, self.up, self.down = nn.Linear(width, 1), nn.Linear(width, 32), nn.Linear(32, width)
            for part in (self.first, self.second):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                if getattr(part, "bias", None) is not None:
                    nn.init.normal_(part.bias, std=0.2)

    def forward(self, tokens):
        x = self.tokens(tokens)
        y = self.first(x)
        attended = F.scaled_dot_product_attention(self.queries(y), self.keys(y), self.values(y), is_causal=True)
        x = x + torch.sigmoid(self.gate(y)) * attended
        return x + self.down(F.gelu(self.up(self.second(x))))


class Speaker(nn.Sequential):
    def forward(self, x):
        return str(super().forward(x).argmax())


def tokens(seed=0):
    return torch.randint(11, (6, 9), generator=torch.Generator().manual_seed(seed))


def planted(model, factor=100.0, channel=3):
    """The same function, with one channel after the first norm 100 times as large."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for part in result.first.parameters():
            part[channel] *= factor
        for name in TWO["readers"]:
            getattr(result, name).weight[:, channel] /= factor
    return result


def eight_bits(model, readers):
    """The block with weights and inputs of its readers in int8, one scale for each tensor."""
    result = copy.deepcopy(model)
    q = lambda tensor: fake_quantize(tensor, choose_qparams(tensor, bits=8))  # noqa: E731
    for name in readers:
        layer = getattr(result, name)
        layer.weight.data = q(layer.weight.data)
        layer.register_forward_pre_hook(lambda module, given: (q(given[0]),))
    return result


def test_planted_outliers_change_no_output_break_int8_and_are_undone_by_smoothing():
    model, x = Block().double(), tokens()
    outlier, expected = planted(model), model(x)
    torch.testing.assert_close(outlier(x), expected, rtol=0, atol=1e-12)
    smoothed = smooth(outlier, x, **TWO)
    torch.testing.assert_close(smoothed(x), expected, rtol=0, atol=1e-12)
    damage = lambda each: (eight_bits(each, TWO["readers"])(x) - expected).abs().mean().item()  # noqa: E731
    assert damage(outlier) > 10 * damage(model)
    assert damage(smoothed) < 2 * damage(model)
    # the planted factor moves wholly into the scale, so that both smoothed networks are one
    for ours, theirs in zip(smoothed.parameters(), smooth(model, x, **TWO).parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_scales_are_those_of_the_definition(alpha):
    model, x = Block().double(), tokens()
    seen = model.first(model.tokens(x)).detach().reshape(-1, 16).tolist()
    weights = [row for name in TWO["readers"] for row in getattr(model, name).weight.tolist()]
    result = smooth(model, x, **TWO, alpha=alpha)
    for j in range(16):
        scale = max(abs(row[j]) for row in seen) ** alpha / max(abs(row[j]) for row in weights) ** (1 - alpha)
        assert (model.first.weight[j] / result.first.weight[j]).item() == pytest.approx(scale)
        assert (model.first.bias[j] / result.first.bias[j]).item() == pytest.approx(scale)
        assert (result.gate.weight[0, j] / model.gate.weight[0, j]).item() == pytest.approx(scale)
    if alpha == 1:
        torch.testing.assert_close(result.first(model.tokens(x)).abs().amax((0, 1)), torch.ones(16).double())
    assert torch.equal(result.second.weight, model.second.weight)


@MOVE
@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm], ids=lambda norm: norm.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_function_stays_and_the_model_itself_is_left_alone(move, norm, dtype):
    model, x = planted(Block(norm).to(dtype)), tokens()
    before = copy.deepcopy(model.state_dict())
    result = move(model, x, **TWO)
    assert not torch.equal(result.first.weight, model.first.weight)
    assert result.first.weight.dtype == dtype
    assert result.training == model.training
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(result(tokens(1)), model(tokens(1)), rtol=0, atol=tolerance)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.first._forward_hooks
    assert not result.first._forward_hooks
    torch.testing.assert_close(move(result, x, norm="second", readers=["up"])(x), model(x), rtol=0, atol=tolerance)


@MOVE
@pytest.mark.parametrize("missing", TWO["readers"])
def test_a_reader_that_was_left_out_is_noticed(move, missing):
    names = [name for name in TWO["readers"] if name != missing]
    with pytest.raises(ValueError, match="outputs change: something besides .* reads 'first'.*Name all readers"):
        move(planted(Block()), tokens(), norm="first", readers=names)


@MOVE
def test_what_cannot_move_is_noticed(move):
    model, x = planted(Block()), tokens()
    with pytest.raises(ValueError, match="outputs change"):  # one that reads another norm
        move(model, x, norm="first", readers=[*TWO["readers"], "up"])
    model.down.weight = nn.Parameter(torch.randn(16, 16))
    model.up = nn.Linear(16, 16)
    model.up.weight = model.values.weight  # tied, and after another norm
    with pytest.raises(ValueError, match="shares one of these weights"):
        move(model, x, **TWO)
    after = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)  # its sums take the norms' outputs
    nn.init.uniform_(after.norm1.weight, 0.1, 10)
    with pytest.raises(ValueError, match="no scale can move"):
        move(after, torch.randn(3, 5, 16), norm="norm1", readers=["linear1"])


@MOVE
def test_pytorchs_attention_and_tied_readers(move):
    before = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True).double()  # with dropout
    x = torch.randn(3, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    nn.init.uniform_(before.norm1.weight, 0.1, 10)
    result = move(before, x, norm="norm1", readers=["self_attn.in_proj_weight"])
    assert not torch.equal(result.norm1.weight, before.norm1.weight)
    torch.testing.assert_close(result.eval()(x), before.eval()(x), rtol=0, atol=1e-12)
    tied = Block().double()
    tied.keys.weight = tied.queries.weight
    result = move(tied, tokens(), **TWO)
    assert result.keys.weight is result.queries.weight
    torch.testing.assert_close(result(tokens()), tied(tokens()), rtol=0, atol=1e-12)


@MOVE
def test_channels_of_zeros_are_safe(move):
    model, x = Block().double(), tokens()
    with torch.no_grad():
        model.first.weight[2] = model.first.bias[2] = 0  # nothing arrives
        for name in TWO["readers"]:
            getattr(model, name).weight[:, 5] = 0  # nothing is read
    result = move(model, x, **TWO)
    assert all(value.isfinite().all() for value in result.parameters())
    torch.testing.assert_close(result(x), model(x), rtol=0, atol=1e-12)


def readers_error(model, changed, x, bits, group_size):
    """What rounding the readers of ``changed`` does to their outputs, by running them."""
    inputs, moved = (each.first(each.tokens(x)) for each in (model, changed))
    total = 0.0
    for name in TWO["readers"]:
        right, weight = getattr(model, name).weight, getattr(changed, name).weight
        axis = 0 if group_size is None else None
        params = choose_qparams(weight, bits=bits, axis=axis, group_size=group_size)
        total += (moved @ fake_quantize(weight, params).T - inputs @ right.T).square().sum().item()
    return total


@pytest.mark.parametrize("group_size", [None, 8])
def test_awq_finds_the_best_of_its_exponents_and_is_never_worse_than_rounding(group_size):
    model, x = planted(Block().double()), tokens()
    found = awq(model, x, **TWO, bits=3, group_size=group_size, steps=10)
    sizes = model.first(model.tokens(x)).abs().mean((0, 1))
    errors = {}
    for step in range(11):
        scales = sizes ** (step / 10) / ((sizes.max() * sizes.min()) ** (step / 20))
        changed = copy.deepcopy(model)
        for part in changed.first.parameters():
            part.data /= scales
        for name in TWO["readers"]:
            getattr(changed, name).weight.data *= scales
        errors[step] = readers_error(model, changed, x, 3, group_size)
    best = readers_error(model, found, x, 3, group_size)
    assert best == pytest.approx(min(errors.values()), rel=1e-9)
    assert best < 0.5 * errors[0]
    assert errors[0] == readers_error(model, model, x, 3, group_size)


def test_what_does_not_fit_is_refused():
    model, x = Block(), tokens()
    for names, why in (
        ({"norm": "frist", "readers": ["keys"]}, "no 'frist' with a weight; the nearest names are 'first'"),
        ({"norm": "first", "readers": ["key"]}, "no 'key' with a weight"),
        ({"norm": "first", "readers": []}, "one name or more"),
        ({"norm": "first", "readers": "keys"}, "list of one name or more"),
        ({"norm": "first", "readers": ["down"]}, r"'down' \(16, 32\) does not read the 16 channels"),
        ({"norm": "first", "readers": ["second"]}, r"'second' \(16,\) does not read"),
        ({"norm": "keys", "readers": ["values"]}, "'keys' is not a norm"),
    ):
        for move in (smooth, lambda *given, **names: awq(*given, bits=4, **names)):
            with pytest.raises(ValueError, match=why):
                move(model, x, **names)
    with pytest.raises(ValueError, match="alpha"):
        smooth(model, x, **TWO, alpha=1.5)
    with pytest.raises(ValueError, match="does not divide the 16 inputs"):
        awq(model, x, **TWO, bits=4, group_size=5)
    with pytest.raises(ValueError, match="steps"):
        awq(model, x, **TWO, bits=4, steps=0)
    large = Block().half()
    nn.init.constant_(large.first.weight, 1000.0)
    nn.init.constant_(large.keys.weight, 100.0)
    with pytest.raises(ValueError, match="after scaling contains NaN or infinity"):
        smooth(large, x, **TWO, alpha=1.0)
    diverged = copy.deepcopy(model)
    diverged.keys.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the weight of 'keys' contains NaN"):
        smooth(diverged, x, **TWO)
    apply_masks(model, layer_magnitude_masks(model, 0.5, layers=["keys"]))
    with pytest.raises(ValueError, match=r"'keys' is computed by a mask: remove_masks\(\)"):
        smooth(model, x, **TWO)


def test_norms_that_are_not_called_or_return_something_else_are_refused():
    model, x = Block(), tokens()
    model.spare = nn.LayerNorm(16)
    with pytest.raises(ValueError, match="'spare' was not called"):
        smooth(model, x, norm="spare", readers=["keys"])
    images = nn.Sequential(nn.BatchNorm2d(16), nn.Flatten(2), nn.Linear(25, 16), nn.Linear(16, 2))
    with pytest.raises(ValueError, match=r"did not return \(\.\.\., 16\)"):
        smooth(images, torch.randn(2, 16, 5, 5), norm="0", readers=["3"])
    model.first.weight.data[0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        smooth(model, x, **TWO)
    zeros = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2))
    nn.init.zeros_(zeros[0].weight)
    with pytest.raises(ValueError, match="zeros alone"):
        awq(zeros, torch.randn(2, 4), norm="0", readers=["1"], bits=4)
    text = Speaker(nn.LayerNorm(4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="no floating-point tensor"):
        smooth(text, torch.randn(2, 4), norm="0", readers=["1"])
