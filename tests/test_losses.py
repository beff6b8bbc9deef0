"""The losses against oracles that share no code with them. Functions are reached as ``losses.NAME`` so that
`test_loss_mutants` can put a wrong one in place and watch these tests fail."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_loss_invariances import (
    LOSSES,
    WITH_LABELS,
    WITH_TEACHER,
    WITH_TEMPERATURE,
    Case,
    T,
    call,
    every_loss,
    every_loss_with_labels,
    every_loss_with_teacher,
    random_case,
)
from torch import Tensor

from kdcourse import losses

# the same examples every time: a red run can be repeated anywhere
quickly = settings(derandomize=True, deadline=None, max_examples=40)

CALLS = {name: lambda s, t, y, name=name: call(name, Case(s, t, y)) for name in LOSSES}


def logs(*odds: int) -> Tensor:
    """Logits whose softmax at temperature 1 is ``odds`` divided by their sum."""
    return torch.tensor([odds], dtype=torch.float64).log()


def gradient(value: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(value, of)[0]


# --- the definitions, written as loops over Python floats -----------------------------------------------------------


def softmax(row, temperature=1.0):
    shifted = [math.exp((z - max(row)) / temperature) for z in row]
    return [value / math.fsum(shifted) for value in shifted]


def kl(p, q):
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def kd_row(s, t, y):
    return T * T * kl(softmax(t, T), softmax(s, T))


def reverse_row(s, t, y):
    return T * T * kl(softmax(s, T), softmax(t, T))


def distillation_row(s, t, y):
    return 0.3 * -math.log(softmax(s)[y]) + 0.7 * kd_row(s, t, y)


def mse_row(s, t, y):
    centre_s, centre_t = math.fsum(s) / len(s), math.fsum(t) / len(t)
    return math.fsum(((a - centre_s) - (b - centre_t)) ** 2 for a, b in zip(s, t, strict=True)) / (2 * len(s))


def js_row(s, t, y):
    p, q = softmax(s, T), softmax(t, T)
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return T * T * (kl(p, middle) + kl(q, middle)) / 2


def dkd_row(s, t, y):
    p, q = softmax(s, T), softmax(t, T)
    rest_p, rest_q = (math.fsum(value for c, value in enumerate(row) if c != y) for row in (p, q))
    others_p = [value / rest_p for c, value in enumerate(p) if c != y]
    others_q = [value / rest_q for c, value in enumerate(q) if c != y]
    return T * T * (1.5 * kl([q[y], rest_q], [p[y], rest_p]) + 3.0 * kl(others_q, others_p))


def multilabel_row(s, t, y):
    pairs = [(softmax([b, 0], T), softmax([a, 0], T)) for a, b in zip(s, t, strict=True)]
    return T * T * math.fsum(kl(p, q) for p, q in pairs)


def smoothing_row(s, t, y):
    p = softmax(s)
    return -math.fsum((0.9 * (c == y) + 0.1 / len(p)) * math.log(value) for c, value in enumerate(p))


ROWS = {
    "kd_loss": kd_row, "distillation_loss": distillation_row, "logit_mse_loss": mse_row,
    "reverse_kd_loss": reverse_row, "js_loss": js_row, "dkd_loss": dkd_row, "label_smoothing_loss": smoothing_row,
    "multilabel_kd_loss": multilabel_row,
}  # fmt: skip


def by_loops(name: str, student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> float:
    places = list(np.ndindex(labels.shape))
    values = [ROWS[name](student[at].tolist(), teacher[at].tolist(), int(labels[at])) for at in places]
    return math.fsum(values) / len(values)


@st.composite
def cases(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    leading = tuple(draw(st.lists(st.integers(1, 4), max_size=2)))  # (C,), (N, C) or (N, L, C)
    classes = draw(st.integers(2, 6))
    logits = arrays(np.float64, (*leading, classes), elements=st.floats(-12, 12))
    return draw(logits), draw(logits), draw(arrays(np.int64, leading, elements=st.integers(0, classes - 1)))


@every_loss
@given(case=cases())
@quickly
def test_equals_the_definition_written_as_loops_on_any_shape(name, case):
    # the definition rounds too: p is right to some 1e-16 of itself, log p to 1e-15
    student, teacher, labels = case
    found = CALLS[name](*(torch.from_numpy(np.asarray(part)) for part in case))
    assert found.item() == pytest.approx(by_loops(name, student, teacher, labels), rel=1e-11, abs=1e-12)


@every_loss
@pytest.mark.parametrize("leading", [(), (7,), (3, 4)], ids=["C", "N,C", "N,L,C"])
def test_equals_the_definition_on_each_rank_and_returns_0d_float64(name, leading):
    case = random_case(*leading)
    found = CALLS[name](*case)
    assert found.shape == ()
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(by_loops(name, *(part.numpy() for part in case)), rel=1e-12)


# --- fractions worked by hand: p_s = (1/2, 1/4, 1/4), p_t = (1/4, 1/4, 1/2) -------------------------------------------


def test_kd_loss_of_a_fraction_worked_by_hand():
    # ¼ ln(¼/½) + ¼ ln 1 + ½ ln(½/¼) = ¼ ln 2
    assert losses.kd_loss(logs(2, 1, 1), logs(1, 1, 2), temperature=1.0).item() == pytest.approx(math.log(2) / 4)


def test_kd_loss_of_a_fraction_that_tells_the_two_directions_apart():
    # p_t = (3/4, 1/4), p_s = (1/2, 1/2): ¾ ln(3/2) + ¼ ln(1/2) = ¾ ln 3 - ln 2
    found = losses.kd_loss(logs(1, 1), logs(3, 1), temperature=1.0)
    assert found.item() == pytest.approx(0.75 * math.log(3) - math.log(2))


def test_kd_loss_at_temperature_two_of_a_fraction_worked_by_hand():
    # logits ln 9 and ln 1 at T = 2 are p_t = (3/4, 1/4); times T² = 4
    found = losses.kd_loss(logs(1, 1), logs(9, 1), temperature=2.0)
    assert found.item() == pytest.approx(3 * math.log(3) - 4 * math.log(2))


def test_reverse_kd_loss_of_a_fraction_worked_by_hand():
    # ½ ln(½/¾) + ½ ln(½/¼) = ln 2 - ½ ln 3, not the forward value ¾ ln 3 - ln 2; at T = 2 times 4
    expected = math.log(2) - 0.5 * math.log(3)
    assert losses.reverse_kd_loss(logs(1, 1), logs(3, 1), temperature=1.0).item() == pytest.approx(expected)
    assert losses.reverse_kd_loss(logs(1, 1), logs(9, 1), temperature=2.0).item() == pytest.approx(4 * expected)


def test_distillation_loss_of_a_fraction_worked_by_hand():
    # label 0: cross-entropy ln 2; distillation ¼ ln 2; alpha = 2/5 weights the teacher
    found = losses.distillation_loss(logs(2, 1, 1), logs(1, 1, 2), torch.tensor([0]), temperature=1.0, alpha=0.4)
    assert found.item() == pytest.approx(float(Fraction(3, 5) + Fraction(2, 5) / 4) * math.log(2))


def test_distillation_loss_leaves_the_label_term_at_temperature_one():
    student, teacher, labels = random_case(6)
    for temperature in (1.0, 4.0, 20.0):
        found = losses.distillation_loss(student, teacher, labels, temperature=temperature, alpha=0.0)
        assert found.item() == pytest.approx(F.cross_entropy(student, labels).item(), rel=1e-12)


def test_distillation_loss_with_alpha_one_is_kd_loss_and_needs_no_right_labels():
    student, teacher, labels = random_case(6)
    expected = np.mean([kd_row(s, t, 0) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)])
    for wrong in (labels, labels.flip(0)):
        found = losses.distillation_loss(student, teacher, wrong, temperature=T, alpha=1.0)
        assert found.item() == pytest.approx(expected, rel=1e-12)


def test_logit_mse_loss_of_a_fraction_worked_by_hand():
    # differences (1, 2, 6), centred (-2, -1, 3): 14 / (2 · 3)
    found = losses.logit_mse_loss(torch.tensor([[1.0, 3.0, 6.0]]), torch.tensor([[0.0, 1.0, 0.0]]))
    assert found.item() == pytest.approx(14 / 6)


def test_js_loss_of_a_fraction_worked_by_hand():
    # p_s = (1/2, 1/2), p_t = (1, 0): m = (3/4, 1/4); ½ ln(4/3) + ½ (½ ln(2/3) + ½ ln 2)
    student, teacher = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[0.0, -5000.0]], dtype=torch.float64)
    expected = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)
    assert losses.js_loss(student, teacher, temperature=1.0).item() == pytest.approx(expected)
    assert losses.js_loss(student, 2 * teacher, temperature=2.0).item() == pytest.approx(4 * expected)


def test_dkd_loss_of_a_fraction_worked_by_hand():
    # label 0; p_s = (1/2, 1/4, 1/4), p_t = (1/4, 1/4, 1/2)
    # TCKD: ¼ ln ½ + ¾ ln(3/2); NCKD: others (½, ½) against (1/3, 2/3): ⅓ ln(2/3) + ⅔ ln(4/3)
    target = 0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2)
    others = math.log(2 / 3) / 3 + 2 * math.log(4 / 3) / 3
    for weights in ((1.0, 0.0), (0.0, 1.0), (1.0, 8.0), (2.0, 3.0)):
        found = losses.dkd_loss(
            logs(2, 1, 1), logs(1, 1, 2), torch.tensor([0]),
            temperature=1.0, target_weight=weights[0], non_target_weight=weights[1],
        )  # fmt: skip
        assert found.item() == pytest.approx(weights[0] * target + weights[1] * others)


def test_dkd_loss_weights_the_non_target_part_by_eight_unless_told():
    case = random_case(5)
    parts = [
        losses.dkd_loss(*case, temperature=T, target_weight=target, non_target_weight=others).item()
        for target, others in ((1.0, 0.0), (0.0, 1.0))
    ]
    assert losses.dkd_loss(*case, temperature=T).item() == pytest.approx(parts[0] + 8 * parts[1])


def test_label_smoothing_loss_of_a_fraction_worked_by_hand():
    # targets (¾ + ¼/4, 1/16, 1/16, 1/16) against p = (1/2, 1/6, 1/6, 1/6)
    found = losses.label_smoothing_loss(logs(3, 1, 1, 1), torch.tensor([0]), smoothing=0.25)
    assert found.item() == pytest.approx(13 / 16 * math.log(2) + 3 / 16 * math.log(6))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 1.0])
def test_label_smoothing_loss_equals_pytorchs_cross_entropy_with_soft_targets(smoothing):
    student, _, labels = random_case(9)
    targets = (1 - smoothing) * F.one_hot(labels, 5).double() + smoothing / 5
    expected = F.cross_entropy(student, targets).item()
    assert losses.label_smoothing_loss(student, labels, smoothing=smoothing).item() == pytest.approx(expected)


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_kd_loss_gradient_is_temperature_times_the_difference_of_probabilities_over_n(temperature):
    student, teacher, _ = random_case(6)
    student.requires_grad_()
    found = gradient(losses.kd_loss(student, teacher, temperature=temperature), student)
    p = np.array([softmax(row, temperature) for row in student.tolist()])
    q = np.array([softmax(row, temperature) for row in teacher.tolist()])
    np.testing.assert_allclose(found.numpy(), temperature * (p - q) / 6, rtol=1e-9, atol=1e-13)


def test_kd_loss_gradient_over_sequences_is_divided_by_every_position():
    student, teacher, _ = random_case(3, 4)
    student.requires_grad_()
    found = gradient(losses.kd_loss(student, teacher, temperature=2.0), student)
    p = np.apply_along_axis(softmax, -1, student.detach().numpy(), 2.0)
    q = np.apply_along_axis(softmax, -1, teacher.numpy(), 2.0)
    np.testing.assert_allclose(found.numpy(), 2.0 * (p - q) / (3 * 4), rtol=1e-9, atol=1e-13)


def test_kd_loss_gradient_keeps_its_size_as_the_temperature_grows():
    # T · (p_s - p_t) → centred difference of logits / C, a limit that is not zero
    student, teacher, _ = random_case(1)
    student.requires_grad_()
    difference = (student - teacher).detach()
    limit = (difference - difference.mean()) / 5
    found = gradient(losses.kd_loss(student, teacher, temperature=1e5), student)
    torch.testing.assert_close(found, limit, rtol=1e-3, atol=1e-4)


def test_reverse_kd_loss_gradient_equals_its_closed_form():
    # T · p_s · (ln(p_s / p_t) - KL(p_s ‖ p_t)) / N: the student's own entropy takes part in it
    student, teacher, _ = random_case(6)
    student.requires_grad_()
    found = gradient(losses.reverse_kd_loss(student, teacher, temperature=T), student)
    for row, s, t in zip(found.tolist(), student.tolist(), teacher.tolist(), strict=True):
        p, q = softmax(s, T), softmax(t, T)
        expected = [T * a * (math.log(a / b) - kl(p, q)) / 6 for a, b in zip(p, q, strict=True)]
        assert row == pytest.approx(expected, rel=1e-9, abs=1e-13)


def test_distillation_loss_gradient_is_the_mix_of_both_closed_forms():
    student, teacher, labels = random_case(6)
    student.requires_grad_()
    found = gradient(losses.distillation_loss(student, teacher, labels, temperature=T, alpha=0.7), student)
    for row, s, t, y in zip(found.tolist(), student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        hard = [p - (c == y) for c, p in enumerate(softmax(s))]
        soft = [T * (p - q) for p, q in zip(softmax(s, T), softmax(t, T), strict=True)]
        assert row == pytest.approx([(0.3 * a + 0.7 * b) / 6 for a, b in zip(hard, soft, strict=True)], abs=1e-13)


@every_loss_with_teacher
def test_a_step_against_the_gradient_brings_student_and_teacher_together(name):
    student, teacher, labels = random_case(6)
    if name in WITH_LABELS:
        labels = teacher.argmax(dim=-1)
    distances = []
    for _ in range(200):
        student = student.detach().requires_grad_()
        loss = CALLS[name](student, teacher, labels)
        assert loss.requires_grad
        student = student - 0.5 * gradient(loss, student)
        distances.append(np.mean([kd_row(s, t, 0) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]))
    assert distances[-1] < distances[0] / 2


@every_loss
def test_float16_logits_at_the_edge_of_their_range_stay_finite(name):
    edge = torch.tensor([[65504.0, -65504.0, 0.0]], dtype=torch.float16)
    student = edge.clone().requires_grad_()
    found = CALLS[name](student, edge.flip(-1), torch.tensor([1]))
    assert torch.isfinite(found)
    assert found > 0


# --- numerics ---------------------------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_of_ten_thousand_give_finite_value_and_gradient(name, dtype):
    student = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0], [1e4, -1e4, -1e4]], dtype=dtype)
    found = CALLS[name](student, teacher, torch.tensor([1, 0]))
    assert torch.isfinite(found)
    assert found > 0
    assert torch.isfinite(gradient(found, student)).all()


def test_values_at_ten_thousand_are_the_exact_limits():
    # student sure of class 0, teacher of class 1, T = 1: ln p_s(1) = -20,000 and every p is 0 or 1
    student, teacher = torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]])
    label = torch.tensor([1])
    assert losses.kd_loss(student, teacher, temperature=1.0).item() == 20_000
    assert losses.reverse_kd_loss(student, teacher, temperature=1.0).item() == 20_000
    assert losses.js_loss(student, teacher, temperature=1.0).item() == pytest.approx(math.log(2))
    assert losses.dkd_loss(student, teacher, label, temperature=1.0).item() == 20_000
    assert losses.logit_mse_loss(student, teacher).item() == 2e8
    assert losses.label_smoothing_loss(student, label, smoothing=0.1).item() == pytest.approx(0.95 * 20_000)
    assert losses.distillation_loss(student, teacher, label, temperature=1.0, alpha=0.5).item() == 20_000


def test_a_class_that_the_student_holds_impossible_costs_a_finite_amount_and_is_pulled_up():
    student = torch.tensor([[0.0, -2000.0]], requires_grad=True)  # its probability underflows to 0
    teacher = torch.tensor([[0.0, 0.0]])
    found = losses.kd_loss(student, teacher, temperature=1.0)
    assert found.item() == pytest.approx(1000 - math.log(2))
    assert gradient(found, student).tolist() == [[0.5, -0.5]]


# --- -inf: a class that cannot be -----------------------------------------------------------------------------------


@st.composite
def impossible_cases(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    student, teacher, labels = draw(cases())
    nowhere = st.booleans() if draw(st.booleans()) else st.just(False)
    same, by_student, by_teacher = (draw(arrays(bool, student.shape, elements=nowhere)) for _ in range(3))
    return np.where(same | by_student, -np.inf, student), np.where(same | by_teacher, -np.inf, teacher), labels


def defined(name: str, case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float | None:
    """The definition's value; None where it divides by zero, takes the log of zero, or is infinite or undefined."""
    impossible = [np.isneginf(part) for part in case[:2]]
    if any(part.all(axis=-1).any() for part in impossible):
        return None
    if name == "multilabel_kd_loss" and any(part.any() for part in impossible):
        return None  # it has no exclusive classes, and refuses -inf
    try:
        value = by_loops(name, *case)
    except (ZeroDivisionError, ValueError):
        return None
    return value if math.isfinite(value) else None


@every_loss
@given(case=impossible_cases())
@quickly
def test_with_impossible_classes_the_value_is_the_definitions_or_it_is_refused(name, case):
    expected = defined(name, case)
    given = [torch.from_numpy(np.asarray(part)) for part in case]
    if expected is None:
        with pytest.raises(ValueError, match="-inf"):
            CALLS[name](*given)
    else:
        assert CALLS[name](*given).item() == pytest.approx(expected, rel=1e-11, abs=1e-12)


# which side may hold a class impossible that the other does not
ALONE = {"kd_loss": "teacher", "distillation_loss": "teacher", "dkd_loss": "teacher", "reverse_kd_loss": "student"}
LONELY = [*ALONE.items(), ("js_loss", "teacher"), ("js_loss", "student")]


@pytest.mark.parametrize(("name", "side"), LONELY)
@pytest.mark.parametrize("at", [0, 2], ids=["label", "other class"])
def test_where_one_side_holds_a_class_impossible_value_and_gradient_are_right(name, side, at):
    if (side, at) == ("student", 0) and name in WITH_LABELS:
        return
    case = random_case(4, classes=4)
    case.labels.fill_(0)
    getattr(case, side)[1:3, at] = -math.inf
    parts = tuple(part.numpy() for part in case)
    assert call(name, case).item() == pytest.approx(defined(name, parts), rel=1e-12)
    leaf = case.student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: call(name, case._replace(student=s)), leaf)
    temperature = torch.tensor([T], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: call(name, case, temperature=t), temperature)


@pytest.mark.parametrize(("name", "side"), [(n, "student" if s == "teacher" else "teacher") for n, s in ALONE.items()])
def test_where_the_loss_is_infinite_it_is_refused_naming_the_side_and_the_place(name, side):
    case = random_case(4, classes=4)
    case.labels.fill_(0)
    getattr(case, side)[2, 3] = -math.inf
    with pytest.raises(ValueError, match=rf"^{side}_logits is -inf where .* the loss is infinite.*index \(2, 3\)"):
        call(name, case)


def test_a_student_that_holds_the_label_impossible_is_refused():
    student, teacher, labels = random_case(4)
    labels[3] = 1
    student[3, 1] = teacher[3, 1] = -math.inf
    for loss in (
        lambda **o: losses.distillation_loss(student, teacher, labels, temperature=T, alpha=0.9, **o),
        lambda **o: losses.label_smoothing_loss(student, labels, smoothing=0.0, **o),
    ):
        with pytest.raises(ValueError, match=r"student_logits is -inf at the label.* index \(3,\)"):
            loss()
        assert torch.isfinite(loss(mask=torch.arange(4) < 3))
    soft = losses.distillation_loss(student, teacher, labels, temperature=T, alpha=1)
    assert soft == losses.kd_loss(student, teacher, temperature=T)


def test_label_smoothing_gives_no_probability_to_impossible_classes_only_at_zero():
    student, _, labels = random_case(4)
    labels.fill_(0)
    student[2, 3] = -math.inf
    found = losses.label_smoothing_loss(student, labels, smoothing=0.0)
    assert found.item() == pytest.approx(F.cross_entropy(student, labels).item())
    with pytest.raises(ValueError, match=r"student_logits contains -inf.* index \(2, 3\)"):
        losses.label_smoothing_loss(student, labels, smoothing=0.1)


def test_an_impossible_class_stays_impossible_however_large_the_logits():
    # p_t = (1, 0) against p_s = (1/2, 1/2)
    for size in (1.0, 1e6, 1e12, 1e30, -1e30):
        teacher = torch.tensor([[size, -math.inf]])
        assert losses.kd_loss(torch.zeros(1, 2), teacher, temperature=3.0).item() == pytest.approx(9 * math.log(2))


def test_dkd_loss_of_a_teacher_that_leaves_the_label_alone_is_refused():
    student, teacher, labels = random_case(4)
    teacher[1] = torch.full((5,), -math.inf).index_fill(0, labels[1], 2.0)
    with pytest.raises(ValueError, match=r"everywhere but at the label.* undefined.* index \(1,\)"):
        losses.dkd_loss(student, teacher, labels, temperature=T)


# --- relations between the losses -------------------------------------------------------------------------------------


def excess(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """What `kd_loss` has more than its limit."""
    limit = np.mean([mse_row(s, t, 0) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)])
    return losses.kd_loss(student, teacher, temperature=temperature).item() - limit


def test_kd_loss_approaches_logit_mse_loss_with_an_error_of_the_predicted_size_over_t():
    # the next term of the expansion, with logits centred over the classes: Σ_c (s³ - 3 t² s + 2 t³) / 6CT
    student, teacher, _ = random_case(8)
    s, t = (z - z.mean(dim=-1, keepdim=True) for z in (student, teacher))
    predicted = ((s**3 - 3 * t**2 * s + 2 * t**3).mean() / 6).item()
    errors = [abs(excess(student, teacher, temperature) * temperature - predicted) for temperature in (250, 500, 1000)]
    # what the prediction leaves over halves with every doubling of T; a wrong prediction would leave a constant
    assert [a / b for a, b in pairwise(errors)] == pytest.approx([2, 2], rel=0.1)


def test_with_two_classes_the_error_of_the_limit_shrinks_as_one_over_t_squared():
    # centred logits of two classes are opposite, so every odd term of the expansion is zero
    student, teacher, _ = random_case(8, classes=2)
    errors = [abs(excess(student, teacher, temperature)) for temperature in (100, 200, 400)]
    assert [a / b for a, b in pairwise(errors)] == pytest.approx([4, 4], rel=0.01)


def test_logit_mse_loss_is_the_limit_of_kd_loss():
    student, teacher, _ = random_case(8)
    found = losses.logit_mse_loss(student, teacher).item()
    assert found == pytest.approx(losses.kd_loss(student, teacher, temperature=1e5).item(), rel=1e-3)


def test_cross_entropy_against_the_teacher_is_its_entropy_plus_kd_loss():
    student, teacher, _ = random_case(7)
    p = F.softmax(teacher, dim=-1)
    entropy = torch.distributions.Categorical(logits=teacher).entropy().mean().item()
    found = entropy + losses.kd_loss(student, teacher, temperature=1.0).item()
    assert found == pytest.approx(F.cross_entropy(student, p).item(), rel=1e-12)


def test_the_mean_probability_of_an_ensemble_gives_the_gradient_of_distilling_from_each_member():
    generator = torch.Generator().manual_seed(0)
    student, *members = torch.randn(5, 3, 7, generator=generator, dtype=torch.float64)
    together = torch.stack(members).softmax(dim=-1).mean(dim=0).log()
    each = [gradient(losses.kd_loss(z := student.clone().requires_grad_(), m, temperature=1.0), z) for m in members]
    of_mean = gradient(losses.kd_loss(z := student.clone().requires_grad_(), together, temperature=1.0), z)
    torch.testing.assert_close(of_mean, torch.stack(each).mean(dim=0), rtol=0, atol=1e-14)


def test_the_mean_of_the_members_logits_minimises_the_mean_of_the_reverse_divergences():
    members = torch.randn(4, 3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    student = members.mean(dim=0).requires_grad_()
    total = sum(losses.reverse_kd_loss(student, member, temperature=1.0) for member in members)
    torch.testing.assert_close(gradient(total, student), torch.zeros(3, 7, dtype=torch.float64), rtol=0, atol=1e-14)


def test_kd_loss_equals_target_part_plus_muted_non_target_part_in_value_and_gradient():
    # KD = TCKD + (1 - p_t) · NCKD, image by image, since p_t differs between images
    for seed in range(10):
        student, teacher, labels = random_case(1, seed=seed)
        student.requires_grad_()
        other = 1 - softmax(teacher[0].tolist(), T)[labels.item()]
        parts = losses.dkd_loss(
            student, teacher, labels, temperature=T, target_weight=1.0, non_target_weight=other
        )  # fmt: skip
        whole = losses.kd_loss(student, teacher, temperature=T)
        assert parts.item() == pytest.approx(whole.item(), rel=1e-10)
        torch.testing.assert_close(gradient(parts, student), gradient(whole, student), rtol=1e-9, atol=1e-12)


@given(case=cases(), temperature=st.floats(0.3, 30))
@quickly
def test_js_loss_is_symmetric_and_between_zero_and_t_squared_ln_two(case, temperature):
    student, teacher = torch.from_numpy(case[0]), torch.from_numpy(case[1])
    found = losses.js_loss(student, teacher, temperature=temperature).item() / temperature**2
    assert found == pytest.approx(losses.js_loss(teacher, student, temperature=temperature).item() / temperature**2)
    assert -1e-15 <= found <= math.log(2) * (1 + 1e-12)


def test_js_loss_reaches_its_bound_where_the_two_exclude_each_other():
    student, teacher = torch.tensor([[1e3, 0.0]]).double(), torch.tensor([[0.0, 1e3]]).double()
    assert losses.js_loss(student, teacher, temperature=3.0).item() == pytest.approx(9 * math.log(2))


def test_smoothing_zero_is_cross_entropy_and_one_is_blind_to_the_labels():
    student, _, labels = random_case(5)
    plain = losses.label_smoothing_loss(student, labels, smoothing=0.0).item()
    by_hand = [-math.log(softmax(s)[y]) for s, y in zip(student.tolist(), labels.tolist(), strict=True)]
    assert plain == pytest.approx(np.mean(by_hand))
    blind = [losses.label_smoothing_loss(student, each, smoothing=1.0).item() for each in (labels, (labels + 1) % 5)]
    assert blind[0] == blind[1]


# --- what is refused --------------------------------------------------------------------------------------------------

NUMBERS = torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64)


@every_loss_with_teacher
@pytest.mark.parametrize("shape", [(3, 1), (1, 4), (3, 5), (4,), (3, 1, 4)])
def test_unequal_shapes_are_refused_naming_both(name, shape):
    # most of these would broadcast
    with pytest.raises(ValueError, match=r"\(3, 4\).*" + str(shape).replace("(", r"\(").replace(")", r"\)")):
        CALLS[name](NUMBERS[0], torch.zeros(shape), NUMBERS[2])


@pytest.mark.parametrize("name", WITH_TEMPERATURE)
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_temperature_that_is_not_a_finite_number_above_zero_is_refused(name, temperature):
    assert torch.isfinite(call(name, Case(*NUMBERS), temperature=0.1))
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
        call(name, Case(*NUMBERS), temperature=temperature)


@pytest.mark.parametrize("share", [-0.01, 1.01, math.nan, math.inf])
def test_alpha_and_smoothing_outside_zero_to_one_are_refused(share):
    student, teacher, labels = NUMBERS
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\]"):
        losses.distillation_loss(student, teacher, labels, temperature=1.0, alpha=share)
    with pytest.raises(ValueError, match=r"smoothing must lie in \[0, 1\]"):
        losses.label_smoothing_loss(student, labels, smoothing=share)


@pytest.mark.parametrize("wrong", ["0.5", None, [0.5], torch.ones(2)])
def test_weights_that_are_no_numbers_are_refused_by_their_name(wrong):
    for name, keyword in (
        ("distillation_loss", "alpha"),
        ("label_smoothing_loss", "smoothing"),
        ("dkd_loss", "target_weight"),
        ("dkd_loss", "non_target_weight"),
    ):
        with pytest.raises(TypeError, match=f"^{keyword} must be a number, got {type(wrong).__name__}"):
            call(name, Case(*NUMBERS), **{keyword: wrong})


def test_distillation_loss_needs_labels_unless_the_teacher_has_all_the_weight():
    student, teacher, labels = random_case(3, 4)
    for options in ({}, {"mask": labels > 1}, {"reduction": "none"}, {"validate": False}):
        found = losses.distillation_loss(student, teacher, None, temperature=T, alpha=1, **options)
        expected = losses.distillation_loss(student, teacher, labels, temperature=T, alpha=1, **options)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    with pytest.raises(TypeError, match="labels may be None only where alpha is 1.*; alpha is 0.9"):
        losses.distillation_loss(student, teacher, None, temperature=T, alpha=0.9)


@every_loss
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("at", [(1, 0), (1, 2)], ids=["label", "other class"])
def test_logits_that_are_not_finite_are_refused_naming_whose_they_are_and_where(name, value, at):
    student, teacher, labels = NUMBERS
    bad = student.clone()
    bad[at] = value
    for reduction in ("mean", "sum", "none"):
        with pytest.raises(ValueError, match=rf"student_logits contains NaN or infinity.* index \(1, {at[1]}\)"):
            call(name, Case(bad, teacher, labels), reduction=reduction)
        if name in WITH_TEACHER:
            with pytest.raises(ValueError, match=rf"teacher_logits contains NaN or infinity.* index \(1, {at[1]}\)"):
                call(name, Case(student, bad, labels), reduction=reduction)


@every_loss
def test_a_row_in_which_no_class_is_possible_is_refused_naming_whose_it_is(name):
    student, teacher, labels = random_case(3, 4)
    nothing = student.clone()
    nothing[2, 1] = -math.inf
    message = r"_logits is -inf for every class .* index \(2, 1\)"
    with pytest.raises(ValueError, match="student" + message):
        CALLS[name](nothing, teacher, labels)
    if name in WITH_TEACHER:
        with pytest.raises(ValueError, match="teacher" + message):
            CALLS[name](student, nothing, labels)


@every_loss
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [(1, 0), (1, 2)], ids=["label", "other class"])
def test_a_finite_number_came_from_finite_logits(name, value, at):
    # what lets the checks look at the finished number alone
    student, teacher, labels = random_case(3)
    labels[1] = 0
    for part in (student, teacher) if name in WITH_TEACHER else (student,):
        kept, part[at] = part[at].item(), value
        assert not torch.isfinite(call(name, Case(student, teacher, labels), validate=False))
        part[at] = kept


@pytest.mark.parametrize("name", [name for name in CALLS if name != "js_loss"])  # which has a bound
def test_a_loss_too_large_for_its_dtype_is_refused(name):
    student = torch.tensor([[3e38, -3e38, 0.0]])
    with pytest.raises(ValueError, match="the loss overflows torch.float32"):
        CALLS[name](student, student.flip(-1), torch.tensor([1]))


@every_loss
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_logits_that_are_not_floating_point_are_refused_naming_whose_they_are(name, dtype):
    student, teacher, labels = NUMBERS
    with pytest.raises(TypeError, match="student_logits must be floating point"):
        CALLS[name](student.to(dtype), teacher, labels)
    if name in WITH_TEACHER:
        with pytest.raises(TypeError, match="teacher_logits must be floating point"):
            CALLS[name](student, teacher.to(dtype), labels)


@every_loss
def test_what_is_no_tensor_is_refused(name):
    student, teacher, labels = NUMBERS
    with pytest.raises(TypeError, match="student_logits must be a torch.Tensor, got list"):
        CALLS[name](student.tolist(), teacher, labels)
    if name in WITH_LABELS:
        with pytest.raises(TypeError, match="labels must be an int64 tensor of class indices, got list"):
            CALLS[name](student, teacher, labels.tolist())


@every_loss
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 2, 4), ()])
def test_an_empty_batch_and_a_missing_class_dimension_are_refused(name, shape):
    empty = torch.zeros(shape)
    with pytest.raises(ValueError, match="student_logits is empty or has no class dimension"):
        CALLS[name](empty, empty, torch.zeros(shape[:-1], dtype=torch.int64))


@every_loss_with_labels
@pytest.mark.parametrize("label", [-1, 4, -101])
def test_a_label_out_of_range_is_refused_naming_range_and_label(name, label):
    student, teacher, labels = NUMBERS
    labels = labels.clone()
    labels[1] = label
    with pytest.raises(ValueError, match=rf"labels must lie in \[0, 3\], .*found \[{label}\]"):
        CALLS[name](student, teacher, labels)


@every_loss_with_labels
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.float32, torch.bool])
def test_labels_of_another_dtype_are_refused(name, dtype):
    student, teacher, labels = NUMBERS
    with pytest.raises(TypeError, match="labels must be an int64 tensor of class indices, got torch"):
        CALLS[name](student, teacher, labels.to(dtype))


@every_loss_with_labels
def test_classes_in_the_second_dimension_are_refused_with_the_way_out(name):
    student, teacher, _ = random_case(2, 5, 7, classes=3)  # (N, C, H, W) as segmentation networks give it
    with pytest.raises(ValueError, match=r"Classes come last here: pass logits.movedim\(1, -1\)"):
        CALLS[name](student, teacher, torch.zeros(2, 7, 3, dtype=torch.int64))


@every_loss_with_labels
@pytest.mark.parametrize("shape", [(4,), (3, 1), (), (3, 4)])
def test_labels_that_do_not_pair_up_are_refused_naming_both_shapes(name, shape):
    student, teacher, _ = NUMBERS
    with pytest.raises(ValueError, match=r"labels has shape .* the logits \(3, 4\)"):
        CALLS[name](student, teacher, torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_dkd_weights_that_are_negative_or_not_finite_are_refused(weight):
    for name in ("target_weight", "non_target_weight"):
        with pytest.raises(ValueError, match=f"^{name} must be a finite number >= 0"):
            losses.dkd_loss(*NUMBERS, temperature=1.0, **{name: weight})


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "multilabel_kd_loss"])
def test_a_single_class_is_refused(name):
    # its softmax is 1 whatever the logit: a loss of 0 that trains nothing
    one = torch.zeros(3, 1, requires_grad=True)
    with pytest.raises(ValueError, match="student_logits has a single class.* at least two classes"):
        CALLS[name](one, torch.zeros(3, 1), NUMBERS[2])
