"""GPTQ, Wanda and SparseGPT against least squares solved step by step, brute force, and one another."""

import pytest
import torch

from kdcourse.pruning import magnitude_mask, nm_mask, obs_costs, sparsegpt, wanda_mask
from kdcourse.quantization import choose_qparams, fake_quantize, gptq, input_hessian

BOTH = pytest.mark.parametrize("symmetric", [True, False])


def sample(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mixed_inputs(rows=400, width=24, seed=0):
    """Inputs that depend on one another, as those of a network do."""
    return sample(rows, width, seed=seed) @ sample(width, width, seed=seed + 1)


def damp(hessian, damping=0.01):
    return hessian + damping * torch.diag(hessian.diagonal())


def error(weight, changed, hessian):
    return torch.einsum("oi,ij,oj->", changed - weight, hessian, changed - weight).item()


def rounded(weight, bits, symmetric, group_size=None):
    return fake_quantize(weight, choose_qparams(weight, bits=bits, symmetric=symmetric, axis=0, group_size=group_size))


def least_squares(weight, hessian, change, width):
    """After every input the free ones are solved for anew, from the original weights and all that is fixed."""
    inputs, done, current = weight.shape[1], torch.zeros_like(weight), weight.clone()
    for start in range(0, inputs, width):
        decide = change(current[:, start : start + width].clone(), start)
        for j in range(start, min(start + width, inputs)):
            done[:, j] = decide(current[:, j : j + 1], j - start)[:, 0]
            if j + 1 < inputs:
                fixed, free = slice(0, j + 1), slice(j + 1, inputs)
                moved = (done[:, fixed] - weight[:, fixed]) @ hessian[fixed, free]
                current[:, free] = weight[:, free] - torch.linalg.solve(hessian[free, free], moved.T).T
    return done


def grid(bits, symmetric):
    def change(block, start):
        params = choose_qparams(block, bits=bits, symmetric=symmetric, axis=0)
        return lambda column, _: fake_quantize(column, params)

    return change


# --- GPTQ -------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [None, 8, 1])
def test_gptq_is_least_squares_solved_anew_after_every_input(bits, symmetric, group_size):
    weight, hessian = sample(8, 24, seed=5), input_hessian(mixed_inputs())
    expected = least_squares(weight, damp(hessian), grid(bits, symmetric), group_size or 24)
    found = gptq(weight, hessian, bits=bits, group_size=group_size, symmetric=symmetric)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("group_size", [None, 4])
def test_with_a_diagonal_hessian_gptq_is_rounding_to_the_last_bit(symmetric, dtype, group_size):
    weight, hessian = sample(6, 12, dtype=dtype), torch.diag(sample(12, seed=1).square() + 0.1)
    found = gptq(weight, hessian, bits=3, symmetric=symmetric, group_size=group_size)
    assert found.dtype == dtype
    assert torch.equal(found, rounded(weight, 3, symmetric, group_size))


@BOTH
@pytest.mark.parametrize("bits", [3, 4])
def test_gptq_beats_rounding_for_the_outputs_and_not_for_the_weights(bits, symmetric):
    for seed in range(5):
        weight, inputs = sample(8, 24, seed=50 + seed), mixed_inputs(seed=10 * seed)
        hessian = input_hessian(inputs)
        found, plain = gptq(weight, hessian, bits=bits, symmetric=symmetric), rounded(weight, bits, symmetric)
        assert error(weight, found, hessian) < 0.7 * error(weight, plain, hessian)
        assert (found - weight).square().sum() > (plain - weight).square().sum()
        outputs = (inputs @ (found - weight).T).square().sum().item()
        assert error(weight, found, hessian) == pytest.approx(outputs)


@BOTH
def test_gptq_returns_weights_that_codes_stand_for(symmetric):
    weight, hessian = sample(8, 24, dtype=torch.float32), input_hessian(mixed_inputs())
    found = gptq(weight, hessian, bits=3, symmetric=symmetric)
    assert torch.equal(found, fake_quantize(found, choose_qparams(weight, bits=3, symmetric=symmetric, axis=0)))
    grouped = gptq(weight, hessian, bits=3, symmetric=symmetric, group_size=8)
    assert max(len(part.unique()) for row in grouped for part in row.split(8)) <= 8 - symmetric


def test_a_dead_input_gets_zeros_and_changes_nothing_else():
    weight, inputs = sample(5, 12), mixed_inputs(width=12)
    inputs[:, [3, 7]] = 0
    alive = [j for j in range(12) if j not in (3, 7)]
    found = gptq(weight, input_hessian(inputs), bits=3, damping=0)
    assert not found[:, [3, 7]].any()
    without = weight.clone()
    without[:, [3, 7]] = 0  # zero is a code, so that the scales are the same
    expected = gptq(without[:, alive], input_hessian(inputs[:, alive]), bits=3, damping=0)
    torch.testing.assert_close(found[:, alive], expected)
    mask, repaired = sparsegpt(weight, input_hessian(inputs), sparsity=0.25)
    assert not mask[:, [3, 7]].any()
    assert not repaired[:, [3, 7]].any()
    assert not obs_costs(weight, input_hessian(inputs))[:, [3, 7]].any()


def test_fewer_rows_than_inputs_need_damping_and_are_not_rounded_in_silence():
    weight, hessian = sample(8, 24, seed=5), input_hessian(mixed_inputs(rows=10))
    with pytest.raises(ValueError, match="singular.*more rows, or damping=0.01"):
        gptq(weight, hessian, bits=4, damping=0)
    found = gptq(weight, hessian, bits=4)
    expected = least_squares(weight, damp(hessian), grid(4, False), 24)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert error(weight, found, hessian) < 0.7 * error(weight, rounded(weight, 4, False), hessian)


def test_the_units_of_inputs_do_not_matter():
    """Inputs a thousand times larger and their weights as much smaller; a group of its own rounds them equally."""
    weight, inputs = sample(4, 8, seed=3), mixed_inputs(width=8)
    factor = torch.ones(8, dtype=torch.float64)
    factor[4:] = 1024.0
    one = gptq(weight, input_hessian(inputs), bits=3, group_size=4)
    other = gptq(weight / factor, input_hessian(inputs * factor), bits=3, group_size=4)
    torch.testing.assert_close(other * factor, one)
    same = sparsegpt(weight, input_hessian(inputs), sparsity=0.5)
    scaled = sparsegpt(weight / factor, input_hessian(inputs * factor), sparsity=0.5)
    assert torch.equal(same[0], scaled[0])
    torch.testing.assert_close(scaled[1] * factor, same[1])


REFUSED = {
    "not symmetric": lambda h: h + torch.triu(h, 1),
    "not positive semidefinite": lambda h: h - 2 * torch.diag(h.diagonal()),
    "positive semidefinite": lambda h: h - 0.5 * torch.linalg.eigvalsh(h)[-1] * torch.eye(24, dtype=h.dtype),
    "no inputs have it": lambda h: h * (1 - torch.eye(24)[3].outer(torch.eye(24)[3])),  # a zero between entries
    "is zero": torch.zeros_like,
    r"\(24, 24\)": lambda h: h[:5, :5],
    "NaN": lambda h: h * torch.nan,
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_no_hessian_is_refused(why):
    weight, hessian = sample(3, 24), REFUSED[why](input_hessian(mixed_inputs()))
    for use in (
        lambda: gptq(weight, hessian, bits=4),
        lambda: sparsegpt(weight, hessian, sparsity=0.5),
        lambda: obs_costs(weight, hessian),
    ):
        with pytest.raises(ValueError, match=why):
            use()


def test_an_almost_positive_hessian_is_refused_although_damping_would_hide_it():
    vectors = torch.linalg.qr(sample(6, 6)).Q
    with pytest.raises(ValueError, match="positive semidefinite"):
        gptq(sample(2, 6), vectors @ torch.diag(torch.tensor([9.0, 7, 5, 3, 1, -0.01]).double()) @ vectors.T, bits=4)


def test_a_hessian_summed_in_float32_will_do():
    inputs = mixed_inputs(rows=5000).float()
    weight = sample(4, 24)
    found = gptq(weight, inputs.T @ inputs, bits=4)
    torch.testing.assert_close(found, gptq(weight, input_hessian(inputs), bits=4), rtol=1e-4, atol=1e-4)


def test_other_weights_and_groups_are_refused():
    hessian = input_hessian(mixed_inputs(width=12))
    with pytest.raises(ValueError, match=r"flatten\(1\)"):
        gptq(sample(4, 3, 2, 2), hessian, bits=4)
    with pytest.raises(ValueError, match="does not divide the 12 inputs"):
        gptq(sample(4, 12), hessian, bits=4, group_size=5)
    with pytest.raises(ValueError, match="bits"):
        gptq(sample(4, 12), hessian, bits=1)
    with pytest.raises(ValueError, match="damping must be"):
        gptq(sample(4, 12), hessian, bits=4, damping=-0.1)
    with pytest.raises(ValueError, match="NaN"):
        gptq(sample(4, 12) * torch.nan, hessian, bits=4)
    with pytest.raises(ValueError, match="weight contains NaN"):
        obs_costs(sample(4, 12) * torch.nan, hessian)
    with pytest.raises(TypeError, match="float32 or float64"):
        gptq(sample(4, 12).half(), hessian, bits=4)


def test_input_hessian_is_the_sum_over_all_positions_and_over_batches():
    inputs = sample(3, 5, 4, dtype=torch.float32)
    expected = sum(torch.outer(row, row).double() for row in inputs.double().reshape(-1, 4))
    torch.testing.assert_close(input_hessian(inputs), expected)
    torch.testing.assert_close(sum(map(input_hessian, inputs)), expected)
    for wrong in (torch.ones(4), torch.full((2, 4), torch.inf), torch.ones(2, 4, dtype=torch.int64)):
        with pytest.raises(ValueError, match="inputs"):
            input_hessian(wrong)


# --- Wanda ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.9])
def test_wanda_ranks_by_weight_times_norm_within_each_output(sparsity):
    weight, inputs = sample(6, 10) * torch.logspace(-3, 3, 6).unsqueeze(1), sample(7, 3, 10)
    mask = wanda_mask(weight, inputs, sparsity=sparsity)
    for row, kept in zip(weight.tolist(), mask.tolist(), strict=True):
        scores = [abs(w) * sum(x * x for x in inputs[..., j].flatten().tolist()) ** 0.5 for j, w in enumerate(row)]
        pruned = sorted(range(10), key=scores.__getitem__)[: round(sparsity * 10)]
        assert kept == [j not in pruned for j in range(10)]


def test_with_inputs_of_one_size_wanda_is_magnitude_within_each_output():
    weight, inputs = sample(4, 8), torch.eye(8)
    expected = torch.stack([magnitude_mask(row, 0.5) for row in weight])
    assert torch.equal(wanda_mask(weight, inputs, sparsity=0.5), expected)
    assert torch.equal(wanda_mask(weight, inputs, n=2, m=4), nm_mask(weight, n=2, m=4))
    weight[1] *= 100  # across outputs the small ones would go first
    assert not torch.equal(wanda_mask(weight, inputs, sparsity=0.5), magnitude_mask(weight, 0.5))


def test_ties_are_settled_by_position_and_a_dead_input_goes_first():
    assert wanda_mask(torch.ones(1, 4), torch.ones(2, 4), sparsity=0.5).tolist() == [[False, False, True, True]]
    assert wanda_mask(torch.ones(1, 4), torch.ones(2, 4), n=2, m=4).tolist() == [[True, True, False, False]]
    assert wanda_mask(torch.tensor([[9.0, 1.0]]), torch.tensor([[0.0, 1.0]]), sparsity=0.5).tolist() == [[False, True]]
    half = wanda_mask(sample(2, 4).half(), torch.ones(2, 4).half(), sparsity=0.5)
    assert half.sum(dim=1).tolist() == [2, 2]


# --- SparseGPT --------------------------------------------------------------------------------------------------------


def test_the_cost_of_removing_a_weight_is_what_brute_force_finds():
    weight, hessian = sample(3, 12), input_hessian(mixed_inputs(width=12))
    found = obs_costs(weight, hessian, damping=0)
    for row, q in ((row, q) for row in range(3) for q in range(12)):
        rest = [j for j in range(12) if j != q]
        change = torch.zeros(12, dtype=torch.float64)
        change[q] = -weight[row, q]
        change[rest] = torch.linalg.solve(hessian[rest][:, rest], -hessian[rest, q] * change[q])
        assert found[row, q].item() == pytest.approx((change @ hessian @ change).item(), rel=1e-9)
    torch.testing.assert_close(obs_costs(weight, hessian), obs_costs(weight, damp(hessian), damping=0))


@pytest.mark.parametrize("amount", [{"sparsity": 0.5}, {"sparsity": 0.3}, {"n": 2, "m": 4}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_a_diagonal_hessian_sparsegpt_is_wanda_and_repairs_nothing(amount, dtype):
    weight, inputs = sample(6, 24, dtype=dtype), sample(50, 24, seed=1) * torch.logspace(-1, 1, 24)
    mask, repaired = sparsegpt(weight, torch.diag(input_hessian(inputs).diagonal()), **amount)
    assert torch.equal(mask, wanda_mask(weight, inputs, **amount))
    assert torch.equal(repaired, weight * mask)


def pruning_step(upper, amount, width):
    """The mask of a block by sorting each output's costs in Python."""

    def change(block, start):
        kept = torch.ones_like(block, dtype=torch.bool)
        for row, values in enumerate(block.tolist()):
            costs = [(w / upper[start + j, start + j].item()) ** 2 for j, w in enumerate(values)]
            size = amount.get("m", width)
            for first in range(0, len(costs), size):
                part = list(range(first, min(first + size, len(costs))))
                count = size - amount["n"] if "n" in amount else round(amount["sparsity"] * len(part))
                kept[row, sorted(part, key=costs.__getitem__)[:count]] = False
        return lambda column, j: column * kept[:, j : j + 1]

    return change


@pytest.mark.parametrize(
    ("amount", "width"), [({"sparsity": 0.5}, 24), ({"sparsity": 0.5}, 8), ({"n": 2, "m": 4}, 4)], ids=str
)
def test_sparsegpt_is_least_squares_solved_anew_after_every_input(amount, width):
    weight, hessian = sample(8, 24, seed=5), input_hessian(mixed_inputs())
    conditional = [torch.linalg.inv(damp(hessian)[j:, j:])[0, 0].sqrt() for j in range(24)]
    step = pruning_step(torch.diag(torch.stack(conditional)), amount, width)
    expected = least_squares(weight, damp(hessian), step, width)
    options = {"block_size": width} if "sparsity" in amount else {}
    mask, repaired = sparsegpt(weight, hessian, **amount, **options)
    torch.testing.assert_close(repaired, expected, rtol=0, atol=1e-9)
    assert torch.equal(mask, expected != 0)


def test_more_of_the_hessian_gives_a_smaller_error_of_the_outputs():
    for seed in range(5):
        scale = torch.logspace(-0.5, 0.5, 24, dtype=torch.float64)
        weight, inputs = sample(8, 24, seed=50 + seed), mixed_inputs(seed=10 * seed) * scale
        hessian = input_hessian(inputs)
        magnitude = weight * wanda_mask(weight, torch.eye(24), sparsity=0.5)
        wanda = weight * wanda_mask(weight, inputs, sparsity=0.5)
        _, repaired = sparsegpt(weight, hessian, sparsity=0.5)
        errors = [error(weight, changed, hessian) for changed in (magnitude, wanda, repaired)]
        assert errors[0] > errors[1] > 1.2 * errors[2]


def test_blocks_lose_together_what_the_whole_would():
    weight, hessian = sample(4, 23), input_hessian(mixed_inputs(width=23))
    for block_size in (None, 1, 5, 23, 100):
        mask, repaired = sparsegpt(weight, hessian, sparsity=0.4, block_size=block_size)
        assert (~mask).sum(dim=1).tolist() == [round(0.4 * 23)] * 4
        assert torch.equal(repaired == 0, ~mask)


def test_amounts_that_do_not_fit_are_refused():
    weight, inputs = sample(4, 12), mixed_inputs(width=12)
    for amount, why in (
        ({}, "either sparsity, or n and m"),
        ({"sparsity": 0.5, "n": 2, "m": 4}, "either sparsity, or n and m"),
        ({"n": 2}, "either sparsity, or n and m"),
        ({"sparsity": 1.0}, r"\[0, 1\)"),
        ({"sparsity": 50}, "not a percentage"),
        ({"sparsity": 0.99}, "leaves none of 12 inputs"),
        ({"n": 2, "m": 5}, "multiple of 5"),
        ({"n": 4, "m": 4}, "not all"),
        ({"n": 0, "m": 4}, "integer >= 1"),
    ):
        with pytest.raises(ValueError, match=why):
            wanda_mask(weight, inputs, **amount)
        with pytest.raises(ValueError, match=why):
            sparsegpt(weight, input_hessian(inputs), **amount)
    for block, amount in ((0, {"sparsity": 0.5}), (4, {"n": 2, "m": 4})):
        with pytest.raises(ValueError, match="block_size"):
            sparsegpt(weight, input_hessian(inputs), block_size=block, **amount)
    for wrong in (inputs[:, :5], inputs[0], inputs * torch.nan):
        with pytest.raises(ValueError, match="inputs"):
            wanda_mask(weight, wrong, sparsity=0.5)
    with pytest.raises(ValueError, match=r"flatten\(1\)"):
        wanda_mask(sample(4, 3, 2, 2), inputs, sparsity=0.5)
    with pytest.raises(ValueError, match="infinity"):  # the score overflows
        wanda_mask(weight * 1e300, inputs * 1e100, sparsity=0.5)
