"""The metrics against torchmetrics, scikit-learn, SciPy and numbers worked by hand."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

from kdcourse import metrics
from kdcourse.models import conv_net, mlp


def predictions(count: int = 500, classes: int = 5, seed: int = 0, spread: float = 2.0):
    """Logits, and labels drawn from them: calibrated where the logits are used as they are."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator) * spread
    return logits, torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(1)


def test_accuracy_is_the_share_of_rows_named_right():
    logits = torch.tensor([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0], [0.0, 1.0]])
    assert metrics.accuracy(logits, torch.tensor([0, 1, 1, 1])) == 0.75
    logits, labels = predictions()
    assert metrics.accuracy(logits, labels) == accuracy_score(labels, logits.argmax(dim=1))


def test_agreement_counts_rows_with_the_same_class_whatever_the_labels():
    student = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [5.0, 4.0, 9.0]])
    teacher = torch.tensor([[9.0, 1.0, 8.0], [0.0, 1.0, 2.0], [0.0, 0.0, 0.1]])
    assert metrics.agreement(student, teacher) == pytest.approx(2 / 3)
    assert metrics.agreement(teacher, student) == pytest.approx(2 / 3)
    assert metrics.agreement(student, 5 * student) == 1


def test_agreement_refuses_unequal_shapes_naming_both():
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(3, 5\)"):
        metrics.agreement(torch.zeros(3, 4), torch.zeros(3, 5))


def test_confusion_matrix_has_labels_as_rows_and_equals_scikit_learns():
    logits, labels = predictions()
    found = metrics.confusion_matrix(logits, labels)
    np.testing.assert_array_equal(found.numpy(), sklearn_confusion(labels, logits.argmax(dim=1)))
    assert not torch.equal(found, found.T)


def test_confusion_matrix_keeps_the_rows_and_columns_of_classes_that_do_not_occur():
    found = metrics.confusion_matrix(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), torch.tensor([2]))
    expected = torch.zeros(4, 4, dtype=torch.int64)
    expected[2, 1] = 1
    assert torch.equal(found, expected)


def test_entropy_of_fractions_worked_by_hand():
    # (1/2, 1/4, 1/4): ½ ln 2 + 2 · ¼ ln 4 = 1.5 ln 2; uniform over 4: ln 4
    logits = torch.tensor([[2.0, 1.0, 1.0]]).log()
    assert metrics.entropy(logits).item() == pytest.approx(1.5 * math.log(2))
    assert metrics.entropy(torch.zeros(2, 3, 4)).tolist() == [[pytest.approx(math.log(4))] * 3] * 2
    # logits ln 9 and 0 at T = 2: (3/4, 1/4)
    softened = metrics.entropy(torch.tensor([math.log(9), 0.0]), temperature=2.0)
    assert softened.item() == pytest.approx(math.log(4) - 0.75 * math.log(3))


def test_entropy_equals_scipys_on_random_logits():
    logits, _ = predictions()
    expected = stats.entropy(logits.double().softmax(dim=-1).numpy(), axis=-1)
    np.testing.assert_allclose(metrics.entropy(logits.double()).numpy(), expected, rtol=1e-10)


def test_entropy_of_a_sure_network_is_zero_and_not_nan():
    assert metrics.entropy(torch.tensor([1e4, -1e4, 0.0])).item() == 0


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_entropy_refuses_a_temperature_that_is_not_above_zero(temperature):
    with pytest.raises(ValueError, match="temperature must be > 0"):
        metrics.entropy(torch.zeros(2, 3), temperature=temperature)


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_expected_calibration_error_equals_torchmetrics(bins, scale):
    logits, labels = predictions(2000)
    logits = logits.double() * scale
    expected = multiclass_calibration_error(logits.softmax(dim=-1), labels, num_classes=5, n_bins=bins, norm="l1")
    # torchmetrics adds 2,000 numbers in float32; a row in a wrong bin would show as 1e-4 and more
    assert metrics.expected_calibration_error(logits, labels, bins=bins) == pytest.approx(expected.item(), abs=1e-5)


def test_expected_calibration_error_of_four_rows_worked_by_hand():
    # confidences 0.9, 0.9 (one right) and 0.6, 0.6 (both right): ½ · 0.4 + ½ · 0.4
    logits = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]], dtype=torch.float64).log()
    labels = torch.tensor([0, 1, 0, 0])
    assert metrics.expected_calibration_error(logits, labels, bins=5) == pytest.approx(0.4)
    groups = metrics.reliability(logits, labels, bins=5)
    assert groups.confidence.tolist() == pytest.approx([0.6, 0.9])
    assert groups.accuracy.tolist() == [1.0, 0.5]
    assert groups.examples.tolist() == [2, 2]


def test_reliability_counts_every_row_once_also_those_on_an_edge():
    # confidences exactly ½ and 1: the bins are (0, ½] and (½, 1]
    logits = torch.tensor([[0.0, 0.0], [1e4, 0.0], [1e4, 0.0]])
    groups = metrics.reliability(logits, torch.tensor([0, 0, 1]), bins=2)
    assert groups.confidence.tolist() == [0.5, 1.0]
    assert groups.examples.tolist() == [1, 2]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_fit_temperature_finds_the_temperature_that_labels_were_drawn_at(temperature):
    logits, labels = predictions(50_000)
    # the standard error of the fit over seeds is below 0.7 % here
    assert metrics.fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.04)


def test_fit_temperature_finds_the_minimum_of_the_cross_entropy():
    logits, labels = predictions()
    logits = 3 * logits.double()
    found = metrics.fit_temperature(logits, labels)

    def loss(temperature):
        return nn.functional.cross_entropy(logits / temperature, labels).item()

    assert loss(found) < loss(found * 1.01)
    assert loss(found) < loss(found / 1.01)


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (7, 10), (981, 1000)])
def test_accuracy_interval_is_wilsons_formula(correct, total):
    z = 1.959963984540054
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    found = metrics.accuracy_interval(correct, total)
    assert found == pytest.approx((share, centre - reach, centre + reach), abs=1e-12)


def test_accuracy_interval_narrows_with_less_confidence():
    wide, narrow = (metrics.accuracy_interval(90, 100, confidence=level) for level in (0.99, 0.5))
    assert wide.low < narrow.low < 0.9 < narrow.high < wide.high


@pytest.mark.parametrize(("correct", "total"), [(-1, 10), (11, 10), (0, 0)])
def test_accuracy_interval_refuses_counts_that_cannot_be(correct, total):
    with pytest.raises(ValueError, match="correct <= total"):
        metrics.accuracy_interval(correct, total)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_paired_interval_equals_scipys_paired_t_test(confidence):
    first, second = [0.953, 0.961, 0.949, 0.958, 0.955], [0.941, 0.957, 0.944, 0.95, 0.951]
    expected = stats.ttest_rel(first, second).confidence_interval(confidence)
    found = metrics.paired_interval(first, second, confidence=confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.mean == pytest.approx(np.mean(np.subtract(first, second)))


def test_paired_interval_of_two_pairs_worked_by_hand():
    # differences 1 and 3: mean 2, standard error 1, t(0.975, 1 degree) = tan(0.475 π)
    found = metrics.paired_interval([2.0, 5.0], [1.0, 2.0])
    assert found == pytest.approx((2.0, 2 - math.tan(0.475 * math.pi), 2 + math.tan(0.475 * math.pi)))


@pytest.mark.parametrize(("first", "second"), [([1.0], [1.0]), ([], []), ([1.0, 2.0], [1.0])])
def test_paired_interval_refuses_what_has_no_spread_or_no_pairs(first, second):
    with pytest.raises(ValueError, match="equally many results, at least 2"):
        metrics.paired_interval(first, second)


def undominated_by_definition(costs, gains):
    """Every point held against every other."""
    points = list(zip(costs, gains, strict=True))

    def dominates(one, other):
        return one[0] <= other[0] and one[1] >= other[1] and one != other

    kept = [k for k, point in enumerate(points) if not any(dominates(other, point) for other in points)]
    return sorted(kept, key=lambda k: costs[k])


@pytest.mark.parametrize("most", [2, 5, 40])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 40])
def test_pareto_front_is_what_nothing_dominates(count, most):
    random = np.random.default_rng(count * most)
    for _ in range(60):  # few values, so that most points tie with others in one coordinate or both
        costs, gains = random.integers(0, most, size=(2, count)).tolist()
        assert metrics.pareto_front(costs, gains) == undominated_by_definition(costs, gains)


def test_pareto_front_worked_by_hand():
    # 20 kB is beaten at its own price, 30 kB by a cheaper equal; the twins at 10 kB both stay
    costs, gains = [30, 20, 10, 40, 20, 10], [0.97, 0.96, 0.9, 0.98, 0.97, 0.9]
    assert metrics.pareto_front(costs, gains) == [2, 5, 4, 3]
    assert metrics.pareto_front([-1.0, 0.0], [-5.0, -math.inf]) == [0]


@pytest.mark.parametrize(
    ("costs", "gains", "says"),
    [
        ([], [], "at least one point, got 0 costs and 0 gains"),
        ([1.0, 2.0], [0.5], "got 2 costs and 1 gains"),
        ([1.0], [0.5, 0.6], "got 1 costs and 2 gains"),
        ([1.0, math.nan], [0.5, 0.6], "must not be NaN"),
        ([1.0, 2.0], [math.nan, 0.6], "must not be NaN"),
    ],
)
def test_pareto_front_refuses_what_has_no_order(costs, gains, says):
    with pytest.raises(ValueError, match=says):
        metrics.pareto_front(costs, gains)


def test_parameters_and_multiply_accumulates_of_conv_net_equal_the_sums_by_hand():
    # sides 28 → 14 → 7 → 4; batch norm has two numbers a channel; no biases but the last layer's
    weights = 1 * 16 * 9, 16 * 32 * 9, 32 * 48 * 9, 48 * 4 * 4 * 10
    assert metrics.count_parameters(conv_net()) == sum(weights) + 2 * (16 + 32 + 48) + 10 == 26_458
    macs = weights[0] * 14**2 + weights[1] * 7**2 + weights[2] * 4**2 + weights[3]
    assert metrics.count_macs(conv_net(), torch.zeros(1, 1, 28, 28)) == macs == 482_880
    assert metrics.count_macs(conv_net(), torch.zeros(3, 1, 28, 28)) == 3 * macs


def test_parameters_and_multiply_accumulates_of_mlp_equal_the_sums_by_hand():
    assert metrics.count_parameters(mlp((128,))) == (784 + 1) * 128 + (128 + 1) * 10 == 101_770
    assert metrics.count_macs(mlp((128,)), torch.zeros(1, 1, 28, 28)) == 784 * 128 + 128 * 10
    assert metrics.count_parameters(mlp((30, 20))) == 785 * 30 + 31 * 20 + 21 * 10


def test_frozen_parameters_are_not_counted():
    model = mlp((128,))
    model.classes.requires_grad_(False)
    assert metrics.count_parameters(model) == 785 * 128


def test_counting_changes_neither_statistics_nor_the_mode_of_any_part():
    model = conv_net().train()
    model.norm2.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    metrics.count_macs(model, torch.ones(4, 1, 28, 28))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


MEASURES = [
    metrics.accuracy,
    metrics.confusion_matrix,
    metrics.reliability,
    metrics.expected_calibration_error,
    metrics.fit_temperature,
]
every_measure = pytest.mark.parametrize("measure", MEASURES)


@every_measure
@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ((3, 4), (4,)),
        ((0, 4), (0,)),
        ((3, 4), (3, 1)),
        ((4,), ()),
        ((3, 2, 4), (3,)),
        ((3, 0), (3,)),
        ((3, 4, 2), (3, 2)),
    ],
)
def test_logits_and_labels_that_do_not_pair_up_are_refused_naming_both_shapes(measure, logits, labels):
    with pytest.raises(
        ValueError, match=r"need logits \(N, C\) and labels \(N,\).*" + re.escape(f"{logits} and {labels}")
    ):
        measure(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))


def as_plain(found):
    return [part.tolist() for part in found] if isinstance(found, tuple) else torch.as_tensor(found).tolist()


@every_measure
def test_logits_of_any_rank_are_rows_of_logits_and_minus_100_is_left_out(measure):
    logits, labels = predictions(120)
    expected = as_plain(measure(logits, labels))
    assert as_plain(measure(logits.reshape(4, 10, 3, 5), labels.reshape(4, 10, 3))) == expected
    padded = torch.cat([logits, torch.full((30, 5), 7.0)]).reshape(10, 15, 5)
    assert as_plain(measure(padded, torch.cat([labels, torch.full((30,), -100)]).reshape(10, 15))) == expected
    with pytest.raises(ValueError, match="nothing is left to measure"):
        measure(logits, torch.full_like(labels, -100))


@every_measure
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_are_refused(measure, number):
    logits, labels = predictions(20)
    for broken in (torch.full_like(logits, number), logits.index_fill(1, torch.tensor([2]), number)):
        with pytest.raises(ValueError, match="logits contains NaN or infinity"):
            measure(broken, labels)
    logits[7, 3] = number
    with pytest.raises(ValueError, match="logits contains NaN or infinity"):
        measure(logits, labels)


@every_measure
@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (torch.tensor([0, 1, 5]), ValueError, r"\[0, 4\].*\[5\]"),
        (torch.tensor([0, 1, -1]), ValueError, r"\[0, 4\].*\[-1\]"),
        (torch.tensor([0, -100, -7]), ValueError, r"\[-7\]"),
        (torch.tensor([0.0, 1.0, 2.0]), TypeError, "int64 tensor of class indices, got torch.float32"),
        (torch.tensor([0, 1, 2], dtype=torch.int32), TypeError, "got torch.int32"),
        ([0, 1, 2], TypeError, "got list"),
    ],
)
def test_labels_that_are_no_class_are_refused(measure, labels, kind, message):
    with pytest.raises(kind, match=message):
        measure(torch.zeros(3, 5), labels)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_agreement_and_entropy_refuse_what_is_no_number_on_either_side(number):
    good, broken = torch.zeros(3, 5), torch.zeros(3, 5).index_fill(1, torch.tensor([2]), number)
    for one, two in ((good, broken), (broken, good), (broken, broken)):
        with pytest.raises(ValueError, match="logits contains NaN or infinity"):
            metrics.agreement(one, two)
    with pytest.raises(ValueError, match="logits contains NaN or infinity"):
        metrics.entropy(broken)
    with pytest.raises(ValueError, match="empty"):
        metrics.entropy(torch.zeros(0, 5))
    with pytest.raises(ValueError, match="need logits"):
        metrics.agreement(torch.zeros(0, 5), torch.zeros(0, 5))


def test_agreement_of_any_rank_counts_positions():
    one, two = (predictions(24, seed=seed)[0] for seed in (1, 2))
    assert metrics.agreement(one.reshape(2, 3, 4, 5), two.reshape(2, 3, 4, 5)) == metrics.agreement(one, two)


def test_half_precision_is_measured_in_full():
    logits, labels = predictions(200)
    half = logits.bfloat16()
    for measure in MEASURES:
        assert as_plain(measure(half, labels)) == as_plain(measure(half.float(), labels))
    torch.testing.assert_close(metrics.entropy(half), metrics.entropy(half.float()), rtol=0, atol=0)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_intervals_refuse_what_is_no_number(number):
    for pair in (([0.9, number], [0.8, 0.8]), ([0.9, 0.9], [0.8, number])):
        with pytest.raises(ValueError, match="must not be NaN or infinite"):
            metrics.paired_interval(*pair)
    with pytest.raises(ValueError, match="correct <= total"):
        metrics.accuracy_interval(number, 10)
    for interval in (metrics.paired_interval([1, 2], [0, 0], confidence=0.5), metrics.accuracy_interval(1, 2)):
        assert all(map(math.isfinite, interval))
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        metrics.paired_interval([1, 2], [0, 0], confidence=number)
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        metrics.accuracy_interval(1, 2, confidence=number)


@pytest.mark.parametrize("bins", [0, -1])
def test_reliability_refuses_no_bins(bins):
    with pytest.raises(ValueError, match="bins must be >= 1"):
        metrics.reliability(*predictions(), bins=bins)


# --- similarity of features -------------------------------------------------------------------------------------------


def two_features(n=30, seed=0, shared=0.0):
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(n, 6, generator=generator, dtype=torch.float64) + 1 for _ in range(2))
    return first, (shared * first + (1 - shared) * second)[:, :4]


def cka_by_kernels(first, second):
    """As the paper writes it: HSIC of centred Gram matrices."""
    first, second = first.numpy(), second.numpy()
    n = len(first)
    centring = np.eye(n) - 1 / n
    k, other = centring @ first @ first.T @ centring, centring @ second @ second.T @ centring
    return (k * other).sum() / np.sqrt((k * k).sum() * (other * other).sum())


def cka_by_four_examples(first, second):
    """The unbiased estimate from its definition: a mean over all quadruples of different examples."""

    def hsic(k, other):
        total, count = 0.0, 0
        for i, j, q, r in itertools.permutations(range(len(k)), 4):
            total += k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q])
            count += 1
        return total / count

    k, other = (features.numpy() @ features.numpy().T for features in (first, second))
    return hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9])
def test_cka_equals_both_definitions(shared):
    first, second = two_features(shared=shared)
    assert metrics.cka(first, second) == pytest.approx(cka_by_kernels(first, second), abs=1e-12)
    few = first[:8], second[:8]
    assert metrics.cka(*few, debiased=True) == pytest.approx(cka_by_four_examples(*few), abs=1e-10)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_is_one_for_equal_features_and_unchanged_by_rotation_scale_and_shift(debiased):
    first, second = two_features(shared=0.5)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0]
    found = metrics.cka(first, second, debiased=debiased)
    assert 1 - 1e-12 < metrics.cka(first, first, debiased=debiased) <= 1
    for size in (1e-200, 1e-5, 3.0, 1e200):
        changed = size * (first @ rotation + 5)
        assert metrics.cka(changed, second, debiased=debiased) == pytest.approx(found, abs=1e-9)
        assert metrics.cka(second, changed, debiased=debiased) == pytest.approx(found, abs=1e-9)
    stretched = first * torch.tensor([10.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    assert abs(metrics.cka(stretched, second, debiased=debiased) - found) > 0.01


@pytest.mark.parametrize(("n", "biased"), [(16, 0.80), (64, 0.51), (256, 0.20)])
def test_independent_features_look_alike_unless_the_estimate_is_debiased(n, biased):
    found = []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        pair = torch.randn(2, n, 64, generator=generator, dtype=torch.float64)
        found.append([metrics.cka(*pair), metrics.cka(*pair, debiased=True)])
    plain, corrected = np.mean(found, axis=0)
    assert plain == pytest.approx(biased, abs=0.03)
    assert abs(corrected) < 0.06


def test_cka_takes_maps_and_half_precision_and_gives_a_number():
    first, second = two_features(24, shared=0.5)
    maps = first.reshape(24, 2, 3, 1).requires_grad_()
    assert metrics.cka(maps, second) == metrics.cka(first, second)
    assert isinstance(metrics.cka(first, second), float)
    assert metrics.cka(first.bfloat16(), second.float()) == pytest.approx(metrics.cka(first, second), abs=0.01)


def test_cka_refuses_what_has_no_answer():
    first, second = two_features(6)
    with pytest.raises(ValueError, match="same 3 examples or more, got 2 and 2"):
        metrics.cka(first[:2], second[:2])
    with pytest.raises(ValueError, match="same 4 examples or more, got 3 and 3"):
        metrics.cka(first[:3], second[:3], debiased=True)
    with pytest.raises(ValueError, match="got 6 and 5"):
        metrics.cka(first, second[:5])
    with pytest.raises(ValueError, match="the second features are the same for all examples: CKA is undefined"):
        metrics.cka(first, second[:1].expand(6, 4))
    with pytest.raises(ValueError, match="second contains NaN or infinity"):
        metrics.cka(first, second / 0)
    with pytest.raises(ValueError, match=r"first must be features \(N, ...\), examples first, got \(6,\)"):
        metrics.cka(first[:, 0], second)
    with pytest.raises(TypeError, match="first must be a torch.Tensor, got list"):
        metrics.cka(first.tolist(), second)


def vector_for_a_diagonal(first, second, *, debiased=False):
    """`K - torch.diag(K)` takes a row from every row: the diagonal is 0, and nothing else is right."""

    def hsic(k, other):
        n = len(k)
        k, other = k - k.diagonal(), other - other.diagonal()
        sums = k.sum() * other.sum() / ((n - 1) * (n - 2)) - 2 * k.sum(0) @ other.sum(0) / (n - 2)
        return (k * other).sum() + sums

    k, other = first @ first.T, second @ second.T
    return (hsic(k, other) / (hsic(k, k) * hsic(other, other)).sqrt()).item() if debiased else 0.0


def without_the_root(first, second, *, debiased=False):
    k, other = ((each - each.mean(0)) @ (each - each.mean(0)).T for each in (first, second))
    return ((k * other).sum() / ((k * k).sum() * (other * other).sum())).item()


def not_centred(first, second, *, debiased=False):
    k, other = first @ first.T, second @ second.T
    return ((k * other).sum() / ((k * k).sum() * (other * other).sum()).sqrt()).item()


@pytest.mark.parametrize("wrong", [vector_for_a_diagonal, without_the_root, not_centred])
def test_a_mistake_of_public_code_in_cka_is_killed(wrong, monkeypatch):
    monkeypatch.setattr(metrics, "cka", wrong)
    with pytest.raises(AssertionError):
        test_cka_equals_both_definitions(0.5)


# --- what changed -----------------------------------------------------------------------------------------------------


def flips_by_hand(before, after, labels):
    changed = broken = fixed = positions = 0
    for one, other, label in zip(before.tolist(), after.tolist(), labels.tolist(), strict=True):
        if label == -100:
            continue
        first, second = one.index(max(one)), other.index(max(other))
        positions += 1
        changed += first != second
        broken += first == label != second
        fixed += first != label == second
    return changed, broken, fixed, positions


def judge_flips(function):
    for seed in range(10):
        (before, labels), (after, _) = (predictions(60, seed=each) for each in (seed, seed + 100))
        labels = labels.masked_fill(torch.arange(60) % 7 == seed % 7, -100)
        found = function(before.round(), after.round(), labels)  # with ties
        assert tuple(found) == flips_by_hand(before.round(), after.round(), labels)
        gained = metrics.accuracy(after.round(), labels) - metrics.accuracy(before.round(), labels)
        assert gained == pytest.approx((found.fixed - found.broken) / found.positions)
        assert abs(gained) <= found.changed / found.positions
        assert found.changed > found.broken + found.fixed


def test_flips_are_counted_as_by_hand_and_bound_the_change_of_accuracy():
    judge_flips(metrics.flips)
    before, _ = predictions(30)
    assert metrics.flips(before, before) == (0, None, None, 30)
    assert metrics.flips(before, -before).changed == 30
    assert metrics.flips(before, 5 * before + 3).changed == 0  # no class changes its rank


def net_change(before, after, labels):
    found = metrics.flips(before, after, labels)
    return found._replace(broken=max(0, found.broken - found.fixed), fixed=max(0, found.fixed - found.broken))


def other_wrong_classes_left_out(before, after, labels):
    found = metrics.flips(before, after, labels)
    return found._replace(changed=found.broken + found.fixed)


def turned_round(before, after, labels):
    return metrics.flips(after, before, labels)


@pytest.mark.parametrize("wrong", [net_change, other_wrong_classes_left_out, turned_round])
def test_a_mistake_in_flips_is_killed(wrong):
    with pytest.raises(AssertionError):
        judge_flips(wrong)


def test_flips_of_any_rank_and_refused():
    (one, labels), (two, _) = predictions(24, seed=1), predictions(24, seed=2)
    ranked = (each.reshape(2, 3, 4, 5) for each in (one, two))
    assert metrics.flips(*ranked, labels.reshape(2, 3, 4)) == metrics.flips(one, two, labels)
    assert metrics.flips(one.bfloat16(), two.bfloat16()).positions == 24
    with pytest.raises(ValueError, match=r"shapes differ: \(24, 5\) and \(24, 4\)"):
        metrics.flips(one, two[:, :4])
    with pytest.raises(ValueError, match="after contains NaN or infinity"):
        metrics.flips(one, two / 0)
    with pytest.raises(ValueError, match="need logits"):
        metrics.flips(one[:, :0], two[:, :0])
    with pytest.raises(ValueError, match="need logits"):
        metrics.flips(one, two, labels[:5])
    with pytest.raises(TypeError, match="before must be a torch.Tensor, got list"):
        metrics.flips(one.tolist(), two)


def forgetting_by_hand(table):
    last = len(table) - 1
    return [max(table[i][j] for i in range(j, last)) - table[last][j] for j in range(last)] + [0.0]


def tables():
    """Squares of accuracies, what is above the diagonal high on purpose."""
    generator = np.random.default_rng(0)
    for tasks in (2, 3, 5):
        table = generator.uniform(0.2, 0.8, (tasks, tasks))
        table[np.triu_indices(tasks, 1)] = 0.99
        yield table


def judge_forgetting(function):
    for table in tables():
        found = function(table)
        expected = forgetting_by_hand(table)
        assert found.by_task.tolist() == pytest.approx(expected, abs=1e-12)
        assert found.mean == pytest.approx(sum(expected) / (len(table) - 1), abs=1e-12)
        assert found.accuracy == pytest.approx(table[-1].mean(), abs=1e-12)
    assert function([[0.5, 0.0], [0.75, 0.5]]).mean == -0.25  # it may be a gain


def test_forgetting_is_the_best_of_the_past_less_the_end():
    judge_forgetting(metrics.forgetting)
    for table in tables():
        unknown = table.copy()
        unknown[np.triu_indices(len(table), 1)] = math.nan
        found, same = metrics.forgetting(unknown), metrics.forgetting(torch.tensor(table))
        assert found.mean == same.mean
        assert torch.equal(found.by_task, same.by_task)
    single = metrics.forgetting([[0.75]])
    assert (single.mean, single.by_task.tolist(), single.accuracy) == (0.0, [0.0], 0.75)


def of_rows(by_task, table):
    by_task = torch.as_tensor(by_task)
    return metrics.Forgetting(by_task[:-1].mean().item(), by_task, float(np.asarray(table)[-1].mean()))


def from_the_diagonal(table):
    table = np.asarray(table)
    return of_rows(table.diagonal() - table[-1], table)


def never_negative(table):
    table = np.tril(np.asarray(table))
    return of_rows(table.max(axis=0) - table[-1], table)


def above_the_diagonal_read(table):
    table = np.asarray(table)
    return of_rows(np.append(table[:-1].max(axis=0) - table[-1], 0)[: len(table)], table)


def divided_by_all(table):
    found = metrics.forgetting(table)
    return found._replace(mean=found.by_task.mean().item())


@pytest.mark.parametrize("wrong", [from_the_diagonal, never_negative, above_the_diagonal_read, divided_by_all])
def test_a_mistake_in_forgetting_is_killed(wrong):
    with pytest.raises(AssertionError):
        judge_forgetting(wrong)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[0.5, 0.5]], r"must be \(K, K\), K >= 1, a row after each task, got \(1, 2\)"),
        (torch.zeros(0, 0), "K >= 1"),
        (torch.tensor(0.5), r"got \(\)"),
        ([[0.5], [0.5, 0.5]], "square table, fill what was not measured with NaN"),
        ([[50.0, 0.0], [40.0, 30.0]], "divide percentages by 100"),
        ([[0.5, 0.1], [math.nan, 0.5]], "transpose a table with a row per task"),
        ([[0.5, math.nan], [0.5, math.nan]], "none may be NaN"),
    ],
)
def test_what_is_no_table_of_accuracies_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        metrics.forgetting(table)
