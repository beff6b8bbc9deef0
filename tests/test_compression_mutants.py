"""Mistakes that public code makes in second-order compression, groups and packing, written afresh.

A named test must fail for each; the right function passes it. ``-s`` prints the table.
"""

import pytest
import test_groups
import test_packed
import test_second_order
import test_smoothing
import torch

from kdcourse import quantization as qz
from kdcourse._base import hessians
from kdcourse.pruning import magnitude_mask, sparsegpt, wanda_mask
from kdcourse.quantization import gptq, input_hessian, smoothing

RIGHT_FACTOR = hessians.inverse_factor


def with_factor(factor):
    """GPTQ with another matrix in place of the Cholesky factor."""

    def wrong(weight, hessian, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kdcourse.quantization.second_order.inverse_factor", factor)
            return gptq(weight, hessian, **options)

    return wrong


gptq_with_a_stale_inverse = with_factor(torch.linalg.inv)
gptq_with_the_factor_of_the_hessian = with_factor(lambda hessian: torch.linalg.cholesky(hessian, upper=True))
gptq_without_repair = with_factor(lambda hessian: torch.diag(RIGHT_FACTOR(hessian).diagonal()))


def gptq_falling_back_to_rounding(weight, hessian, *, bits, **options):
    try:
        return gptq(weight, hessian, bits=bits, **options)
    except ValueError:
        return qz.fake_quantize(weight, qz.choose_qparams(weight, bits=bits, axis=0))


def gptq_damped_by_the_mean(weight, hessian, **options):
    hessian = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))
    return gptq(weight, hessian, damping=0, **options)


def gptq_with_the_scales_of_the_first_weights(weight, hessian, *, bits, group_size=None, **options):
    groups = weight.unflatten(1, (-1, group_size or weight.shape[1]))
    low, high = groups.amin(2, keepdim=True), groups.amax(2, keepdim=True)
    found = gptq(weight, hessian, bits=bits, group_size=group_size, **options)
    return found.unflatten(1, groups.shape[1:]).clamp(low, high).flatten(1)


def wanda_over_the_whole_layer(weight, inputs, *, sparsity=None, n=None, m=None):
    norms = inputs.double().flatten(0, -2).norm(dim=0)
    return magnitude_mask(weight * norms, sparsity)


def wanda_with_squared_norms(weight, inputs, *, sparsity=None, n=None, m=None):
    scores = weight.abs() * inputs.double().flatten(0, -2).square().sum(dim=0)
    return torch.stack([magnitude_mask(row, sparsity) for row in scores])


def wanda_over_the_first_position(weight, inputs, *, sparsity=None, n=None, m=None):
    return wanda_mask(weight, inputs[..., 0, :], sparsity=sparsity)


def sparsegpt_without_repair(weight, hessian, **options):
    mask, _ = sparsegpt(weight, hessian, **options)
    return mask, weight * mask


def sparsegpt_by_the_whole_inverse(weight, hessian, *, block_size=None, **options):
    """Costs of removing one weight with all others free, where those before it are not."""
    inverse = torch.linalg.inv(test_second_order.damp(hessian)).diagonal()
    mask, _ = sparsegpt(weight / inverse.sqrt(), torch.eye(len(hessian)), damping=0, **options)
    return mask, weight * mask


def codes_with_the_first_on_top(codes, *, bits):
    flat = codes.flatten().to(torch.int64)
    stream = (flat.unsqueeze(1) >> torch.arange(bits - 1, -1, -1) & 1).flatten()
    stream = torch.nn.functional.pad(stream, (0, -len(stream) % 8)).reshape(-1, 8)
    return (stream << torch.arange(7, -1, -1)).sum(dim=1).to(torch.uint8)


def zeros_stored_less_one(codes, *, bits, pack=qz.pack_codes):
    """As in a public file format, whose first version packs zero_point - 1."""
    return pack((codes.int() - 1) % 2**bits if codes.ndim == 1 else codes, bits=bits)


def normal_floats_by_plain_quantiles(bits=4):
    quantiles = torch.special.ndtri((torch.arange(2**bits, dtype=torch.float64) + 0.5) / 2**bits)
    return quantiles / quantiles[-1]


def cache_with_zero_in_its_range(cache, *, bits, by):
    rows = cache.transpose(-1, -2) if by == "channel" else cache
    flat = rows.reshape(-1, rows.shape[-1])
    found = qz.fake_quantize(flat, qz.choose_qparams(flat, bits=bits, axis=0)).reshape(rows.shape)
    return found.transpose(-1, -2) if by == "channel" else found


def cache_the_other_way(cache, *, bits, by, right=qz.quantize_cache):
    return right(cache, bits=bits, by="token" if by == "channel" else "channel")


def never_clipped(weight, *, hessian=None, steps=20, **options):
    return qz.choose_qparams(weight, axis=0, **options)


def clipped_as_if_inputs_were_alike(weight, *, hessian=None, right=qz.clipped_qparams, **options):
    return right(weight, **options)


def gptq_with_scales_of_its_own(weight, hessian, *, params=None, **options):
    return gptq(weight, hessian, **options)


LEAST_SQUARES = "test_gptq_is_least_squares_solved_anew_after_every_input", {"bits": 3, "symmetric": False}
GROUPED, WHOLE = {"group_size": 8}, {"group_size": None}
PRUNED = "test_sparsegpt_is_least_squares_solved_anew_after_every_input", {"amount": {"sparsity": 0.5}, "width": 24}
RANKED = "test_wanda_ranks_by_weight_times_norm_within_each_output", {"sparsity": 0.5}
CLIPPED = "test_clipping_is_the_best_of_its_grid_for_every_group"
BYTES = "test_packed_bytes_are_numpys_and_come_back", {"bits": 4, "count": 7}
CACHE = {"by": "channel", "shape": (2, 5, 3), "shift": 40.0}
MUTANTS = {
    gptq_with_a_stale_inverse: ("gptq", LEAST_SQUARES[0], LEAST_SQUARES[1] | WHOLE),
    gptq_with_the_factor_of_the_hessian: ("gptq", LEAST_SQUARES[0], LEAST_SQUARES[1] | WHOLE),
    gptq_without_repair: ("gptq", LEAST_SQUARES[0], LEAST_SQUARES[1] | WHOLE),
    gptq_with_the_scales_of_the_first_weights: ("gptq", LEAST_SQUARES[0], LEAST_SQUARES[1] | GROUPED),
    gptq_falling_back_to_rounding: (
        "gptq",
        "test_fewer_rows_than_inputs_need_damping_and_are_not_rounded_in_silence",
        {},
    ),
    gptq_damped_by_the_mean: ("gptq", "test_the_units_of_inputs_do_not_matter", {}),
    wanda_over_the_whole_layer: ("wanda_mask", *RANKED),
    wanda_with_squared_norms: ("wanda_mask", *RANKED),
    wanda_over_the_first_position: ("wanda_mask", *RANKED),
    gptq_with_scales_of_its_own: (
        "gptq",
        "test_with_fixed_scales_the_codes_are_those_of_the_result",
        {"symmetric": False} | GROUPED,
    ),
    never_clipped: ("clipped_qparams", CLIPPED, {"group_size": 4, "symmetric": True, "weighted": False}),
    clipped_as_if_inputs_were_alike: (
        "clipped_qparams",
        CLIPPED,
        {"group_size": 4, "symmetric": False, "weighted": True},
    ),
    sparsegpt_without_repair: ("sparsegpt", *PRUNED),
    sparsegpt_by_the_whole_inverse: ("sparsegpt", *PRUNED),
    codes_with_the_first_on_top: ("qz.pack_codes", *BYTES),
    zeros_stored_less_one: (
        "qz.pack_codes",
        "test_codes_and_zero_points_at_both_ends_come_back_through_bytes",
        {"bits": 4},
    ),
    normal_floats_by_plain_quantiles: ("qz.normal_float_codebook", "test_the_codebook_is_the_published_table", {}),
    cache_with_zero_in_its_range: (
        "qz.quantize_cache",
        "test_a_cache_is_rounded_between_the_extremes_of_each_channel_or_token",
        CACHE,
    ),
    cache_the_other_way: (
        "qz.quantize_cache",
        "test_a_shift_of_all_keys_is_free_and_per_channel_it_stays_so",
        {},
    ),
}
NAMES = {id(wrong): name for name, wrong in list(globals().items()) if callable(wrong)}


@pytest.mark.parametrize("wrong", MUTANTS, ids=lambda wrong: NAMES[id(wrong)])
def test_a_mistake_in_compression_is_killed_by_its_named_test(wrong, monkeypatch):
    right, name, arguments = MUTANTS[wrong]
    (tests,) = (module for module in (test_groups, test_packed, test_second_order) if hasattr(module, name))
    killer = getattr(tests, name)
    killer(**arguments)  # the right function passes, so what fails below is the mistake
    monkeypatch.setattr(f"{tests.__name__}.{right}", wrong)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        killer(**arguments)
    print(f"\n{right:<25}{NAMES[id(wrong)]:<45}killed by {name}", end="")


PATCHES = {
    "ranges of the first reader alone": (
        "_readers",
        lambda *given, right=smoothing._readers: right(*given)[:1],
        "test_scales_are_those_of_the_definition",
        {"alpha": 0.3},
    ),
    "nothing is compared": (
        "SAME",
        float("inf"),
        "test_a_reader_that_was_left_out_is_noticed",
        {"move": qz.smooth, "missing": "gate"},
    ),
    "scales without the largest entries": (
        "_run",
        lambda *given, right=smoothing._run: right(*given)._replace(inputs=right(*given).inputs.clamp(-1, 1)),
        "test_planted_outliers_change_no_output_break_int8_and_are_undone_by_smoothing",
        {},
    ),
    "errors without the hessian": (
        "input_hessian",
        lambda inputs: torch.eye(inputs.shape[1], dtype=inputs.dtype),
        "test_awq_finds_the_best_of_its_exponents_and_is_never_worse_than_rounding",
        {"group_size": 8},
    ),
}


@pytest.mark.parametrize("wrong", PATCHES)
def test_a_mistake_in_smoothing_is_killed_by_its_named_test(wrong, monkeypatch):
    part, value, name, arguments = PATCHES[wrong]
    killer = getattr(test_smoothing, name)
    killer(**arguments)
    monkeypatch.setattr(f"kdcourse.quantization.smoothing.{part}", value)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        killer(**arguments)
    print(f"\n{part:<25}{wrong:<45}killed by {name}", end="")


def test_the_stale_inverse_is_worse_than_rounding():
    """What its users saw: a model worse than without the method."""
    weight, hessian = test_second_order.sample(8, 24, seed=5), input_hessian(test_second_order.mixed_inputs())
    errors = [
        test_second_order.error(weight, changed, hessian)
        for changed in (
            gptq(weight, hessian, bits=4),
            test_second_order.rounded(weight, 4, False),
            gptq_with_a_stale_inverse(weight, hessian, bits=4),
        )
    ]
    assert errors == sorted(errors)
