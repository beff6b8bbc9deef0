"""Losses on sequences against enumeration, plain loops in float64, and identities that no implementation shares."""

import itertools
import math

import pytest
import torch

from kdcourse.losses import js_loss, kd_loss, reverse_kd_loss
from kdcourse.losses.sequences import generalized_js_loss, sequence_kd, shift, top_k_kd_loss

T = 1.7


def logits(*shape, seed=0, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, *shape, generator=generator, dtype=torch.float64) * spread


def stored(teacher, k, temperature=T):
    return (teacher / temperature).log_softmax(-1).topk(k, dim=-1)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


def slope(loss, student):
    leaf = student.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf).sum(), leaf)[0]


# --- top-k ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 8, 9])
def test_full_divergence_is_the_one_with_a_tail_plus_what_happens_within_the_tail(k):
    student, teacher = logits(40, 9)
    p, q = ((each / T).softmax(-1) for each in (teacher, student))
    top, indices = stored(teacher, k)
    outside = torch.ones_like(p, dtype=torch.bool).scatter(-1, indices, False)
    rest_p, rest_q = ((each * outside).sum(-1, keepdim=True) for each in (p, q))
    within = torch.where(outside, p * ((p / rest_p) / (q / rest_q)).log(), 0.0).sum(-1)
    full = kd_loss(student, teacher, temperature=T, reduction="none")
    found = top_k_kd_loss(student, top, indices, temperature=T, reduction="none")
    close(found + T**2 * within, full)
    assert (found <= full + 1e-12).all()
    assert (found >= -1e-12).all()


@pytest.mark.parametrize("tail", [True, False])
def test_nothing_is_lost_where_every_class_is_kept(tail):
    student, teacher = logits(5, 6)
    found = top_k_kd_loss(student, *stored(teacher, 6), temperature=T, tail=tail)
    close(found, kd_loss(student, teacher, temperature=T))


def test_without_a_tail_both_sides_are_renormalised_over_the_classes_kept():
    student, teacher = logits(5, 6)
    top, indices = stored(teacher, 3)
    columns = kd_loss(student.gather(-1, indices), teacher.gather(-1, indices), temperature=T)
    close(top_k_kd_loss(student, top, indices, temperature=T, tail=False), columns)


@pytest.mark.parametrize("tail", [True, False])
@pytest.mark.parametrize("k", [2, 4])
def test_teacher_itself_loses_nothing_and_has_no_gradient(k, tail):
    teacher = logits(3, 4, 7)[0]
    top = stored(teacher, k)
    found = top_k_kd_loss(teacher + 5.0, *top, temperature=T, tail=tail, reduction="none")
    close(found, torch.zeros(3, 4, dtype=torch.float64))
    gradient = slope(lambda leaf: top_k_kd_loss(leaf, *top, temperature=T, tail=tail), teacher)
    assert gradient.abs().max() < 1e-14


def test_tail_gradient_is_what_the_definition_says():
    student, teacher = logits(2, 5)
    top, indices = stored(teacher, 2)

    def bare(leaf):
        q = (leaf / T).softmax(-1).gather(-1, indices)
        p, rest = top.exp(), 1 - top.exp().sum(-1)
        return T**2 * ((p * (p / q).log()).sum(-1) + rest * (rest / (1 - q.sum(-1))).log()).mean()

    close(slope(lambda leaf: top_k_kd_loss(leaf, top, indices, temperature=T), student), slope(bare, student))


@pytest.mark.parametrize(("k", "tail"), [(1, True), (3, True), (3, False), (6, True)])
def test_gradients_of_logits_and_temperature_are_those_of_finite_differences(k, tail):
    student, teacher = logits(3, 6)
    heat = torch.tensor([1.5, 2.0, 0.7], dtype=torch.float64)

    def loss(leaf, temperature):
        return top_k_kd_loss(leaf, *stored(teacher, k), temperature=temperature, tail=tail, reduction="none")

    assert torch.autograd.gradcheck(loss, (student.requires_grad_(), heat.requires_grad_()))


def test_unlikely_tail_of_a_confident_student_is_not_rounded_away():
    student = torch.tensor([[60.0, 0.0, 0.0]])
    top, indices = torch.tensor([[0.5]]).log(), torch.tensor([[0]])
    expected = -math.log(2) + (60 - math.log(2)) / 2
    assert top_k_kd_loss(student, top, indices, temperature=1.0).item() == pytest.approx(expected, rel=1e-6)


def test_order_of_the_classes_kept_and_names_of_all_do_not_matter():
    student, teacher = logits(4, 8)
    top, indices = stored(teacher, 3)
    new = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    found = top_k_kd_loss(student[:, new], top.flip(-1), new.argsort()[indices].flip(-1), temperature=T)
    close(found, top_k_kd_loss(student, top, indices, temperature=T))


def test_what_the_mask_leaves_out_is_not_read():
    student, teacher = logits(4, 8)
    top, indices = stored(teacher, 3)
    mask = torch.tensor([True, True, False, True])
    expected = top_k_kd_loss(student[mask], top[mask], indices[mask], temperature=T)
    student[2], top[2], indices[2] = math.nan, 9.0, 99
    close(top_k_kd_loss(student, top, indices, temperature=T, mask=mask), expected)
    gradient = slope(lambda leaf: top_k_kd_loss(leaf, top, indices, temperature=T, mask=mask), student)
    assert not gradient[2].any()


def test_impossible_classes_of_both_sides_add_nothing():
    student, teacher = logits(4, 5)
    student[:, 1], teacher[:, 1] = -math.inf, -math.inf
    short = [0, 2, 3, 4]
    top, indices = stored(teacher, 5)
    heat = torch.tensor(T, dtype=torch.float64, requires_grad=True)
    found = top_k_kd_loss(student, top, indices, temperature=heat)
    close(found, kd_loss(student[:, short], teacher[:, short], temperature=heat))
    assert torch.isfinite(torch.autograd.grad(found, heat)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_of_stored_half_precision_is_no_sum_above_one(dtype):
    student, teacher = logits(200, 64)
    top, indices = stored(teacher, 64)
    found = top_k_kd_loss(student, top.to(dtype), indices, temperature=T)
    assert found.item() == pytest.approx(kd_loss(student, teacher, temperature=T).item(), rel=2e-2)


def test_stored_probabilities_that_rounding_lifts_above_one_leave_nothing_to_the_rest():
    top = torch.tensor([[0.5, 0.5]]).log().half() + 1e-3
    assert top.float().exp().sum() > 1
    student, indices = torch.tensor([[0.0, 0.0, -3.0]]), torch.tensor([[0, 1]])
    q = student.softmax(-1)[0, :2]
    p = top.float().exp()[0]
    expected = (p * (p / q).log()).sum()
    torch.testing.assert_close(top_k_kd_loss(student, top, indices, temperature=1.0), expected)


def test_stored_teacher_gets_no_gradient():
    student, teacher = logits(2, 5)
    top, indices = stored(teacher, 2)
    top, student = top.requires_grad_(), student.requires_grad_()
    top_k_kd_loss(student, top, indices, temperature=T).backward()
    assert top.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("tail", [True, False])
def test_bare_formula_is_one_graph_and_vectorises(tail):
    student, teacher = logits(4, 3, 5)
    top, indices = stored(teacher, 2)

    def bare(*given):
        return top_k_kd_loss(*given, temperature=T, tail=tail, validate=False)

    each = torch.func.vmap(bare)(student, top, indices)
    expected = top_k_kd_loss(student, top, indices, temperature=T, tail=tail)
    close(each.mean(), expected)
    close(torch.compile(bare, backend="eager", fullgraph=True)(student, top, indices), expected)


def wrong_top(**changed):
    student, teacher = logits(2, 5)
    top, indices = stored(teacher, 2)
    given = {"student_logits": student, "top_log_probs": top, "top_indices": indices, "temperature": T} | changed
    return lambda: top_k_kd_loss(**given)


@pytest.mark.parametrize(
    ("changed", "error", "sentence"),
    [
        ({"top_log_probs": torch.zeros(2, 2)}, ValueError, "sum above 1"),
        (
            {"top_log_probs": torch.full((2, 5), -2.0), "top_indices": torch.arange(5).expand(2, 5)},
            ValueError,
            "less than 1",
        ),
        ({"top_log_probs": torch.full((2, 2), math.nan)}, ValueError, "NaN"),
        ({"top_log_probs": torch.full((2, 2), -math.inf)}, ValueError, "one must be possible"),
        ({"top_log_probs": torch.full((2, 3), -2.0)}, ValueError, "both must be"),
        ({"top_indices": torch.tensor([[0, 0], [0, 1]])}, ValueError, "twice"),
        ({"top_indices": torch.tensor([[0, 1], [0, 5]])}, ValueError, r"\[0, 4\]"),
        ({"top_indices": torch.tensor([[0, 1], [0, 2]]).int()}, TypeError, "int64"),
        ({"student_logits": torch.tensor([[0.0, -math.inf, 0, 0, 0]] * 2)}, ValueError, "infinite"),
        ({"temperature": 0.0}, ValueError, "temperature"),
    ],
)
def test_stored_teacher_that_cannot_be_is_refused(changed, error, sentence):
    if "student_logits" in changed:
        changed = changed | {
            "top_log_probs": torch.full((2, 2), -2.0),
            "top_indices": torch.tensor([[0, 1]] * 2),
        }
    with pytest.raises(error, match=sentence):
        wrong_top(**changed)()


@pytest.mark.parametrize("shape", [(3, 2), (2, 6), (2, 2, 2), (2,)], ids=str)
def test_stored_teacher_of_other_positions_or_more_classes_than_there_are_is_refused(shape):
    indices = torch.arange(shape[-1]).expand(shape)
    with pytest.raises(ValueError, match="both must be"):
        wrong_top(top_log_probs=torch.full(shape, -3.0), top_indices=indices)()


def test_student_that_leaves_nothing_to_the_rest_is_refused():
    student = torch.tensor([[0.0, -math.inf, -math.inf]])
    with pytest.raises(ValueError, match="leaves something to the rest"):
        top_k_kd_loss(student, torch.tensor([[-1.0]]), torch.tensor([[0]]), temperature=1.0)


def test_single_class_without_a_tail_is_refused():
    with pytest.raises(ValueError, match="use tail=True"):
        wrong_top(top_log_probs=torch.full((2, 1), -1.0), top_indices=torch.zeros(2, 1).long(), tail=False)()


# --- generalized Jensen-Shannon ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "loss"), [(0.0, kd_loss), (0.5, js_loss), (1.0, reverse_kd_loss)])
def test_ends_and_middle_of_the_family_are_the_losses_known(beta, loss):
    student, teacher = logits(3, 4, 6)
    found = generalized_js_loss(student, teacher, beta=beta, temperature=T, reduction="none")
    close(found, loss(student, teacher, temperature=T, reduction="none"))


@pytest.mark.parametrize("beta", [1e-9, 0.2, 0.7, 1 - 1e-9])
def test_mixture_is_of_probabilities(beta):
    student, teacher = logits(4, 6)
    p, q = ((each / T).softmax(-1) for each in (teacher, student))
    m = beta * p + (1 - beta) * q
    by_hand = T**2 * ((1 - beta) * (p * (p / m).log()).sum(-1) + beta * (q * (q / m).log()).sum(-1)).mean()
    found = generalized_js_loss(student, teacher, beta=beta, temperature=T)
    torch.testing.assert_close(found, by_hand, rtol=1e-9, atol=1e-12)


def test_family_runs_into_its_ends_and_mirrors():
    student, teacher = logits(4, 6)
    for end, near in ((0.0, 1e-8), (1.0, 1 - 1e-8)):
        there, beside = (generalized_js_loss(student, teacher, beta=beta, temperature=T) for beta in (end, near))
        torch.testing.assert_close(beside, there, rtol=1e-5, atol=0)
    one = generalized_js_loss(student, teacher, beta=0.3, temperature=T)
    close(one, generalized_js_loss(teacher, student, beta=0.7, temperature=T))


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_family_has_the_gradients_of_finite_differences(beta):
    student, teacher = logits(3, 6)
    heat = torch.tensor(T, dtype=torch.float64, requires_grad=True)

    def loss(leaf, temperature):
        return generalized_js_loss(leaf, teacher, beta=beta, temperature=temperature)

    assert torch.autograd.gradcheck(loss, (student.requires_grad_(), heat))


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_beta_outside_the_family_is_refused(beta):
    with pytest.raises(ValueError, match="beta"):
        generalized_js_loss(*logits(2, 3), beta=beta, temperature=T)


@pytest.mark.parametrize(("beta", "side"), [(0.0, "student_logits"), (1.0, "teacher_logits")])
def test_impossible_classes_are_refused_at_the_ends_alone(beta, side):
    given = dict(zip(("student_logits", "teacher_logits"), logits(2, 3), strict=True))
    given[side][0, 0] = -math.inf
    with pytest.raises(ValueError, match=f"{side} is -inf"):
        generalized_js_loss(**given, beta=beta, temperature=T)
    assert torch.isfinite(generalized_js_loss(**given, beta=0.5, temperature=T))


# --- whole sequences --------------------------------------------------------------------------------------------------

CLASSES, LENGTH = 3, 5


def table(seed):
    """Logits of the next token after every token: a language with a memory of one."""
    return logits(CLASSES, CLASSES, seed=seed)[0]


def all_sequences():
    return torch.tensor([(0, *rest) for rest in itertools.product(range(CLASSES), repeat=LENGTH - 1)])


def probability(law, tokens):
    log_probs = law.log_softmax(-1)
    return torch.stack(
        [sum(log_probs[a, b] for a, b in zip(line[:-1], line[1:], strict=True)) for line in tokens]
    ).exp()


def test_divergence_of_all_sequences_is_what_both_losses_by_token_give_on_the_teachers():
    teacher, student, tokens = table(1), table(2), all_sequences()
    p, q = probability(teacher, tokens), probability(student, tokens)
    assert p.sum().item() == pytest.approx(1)
    expected, entropy = (p * (p / q).log()).sum(), -(p * p.log()).sum()
    by_token = sequence_kd(student[tokens], tokens, reduction="none").sum(-1)
    close((p * by_token).sum() - entropy, expected)
    soft, _, _ = shift(student[tokens], tokens)
    soft_teacher, _, counts = shift(teacher[tokens], tokens)
    each = kd_loss(soft, soft_teacher, temperature=1.0, mask=counts, reduction="none").sum(-1)
    close((p * each).sum(), expected)


def test_shift_differs_from_none_and_from_two():
    given = torch.tensor([[1.0, 2.0, 4.0], [8.0, 1.0, 3.0], [5.0, 0.0, 2.0]], dtype=torch.float64)
    tokens = torch.tensor([-100, 2, 0])
    log_probs = given.log_softmax(-1)
    close(sequence_kd(given, tokens), -(log_probs[0, 2] + log_probs[1, 0]) / 2)


def test_shift_says_which_pairs_count_for_losses_that_see_no_tokens():
    tokens = torch.tensor([[3, -100, 2, 1]])
    mask = torch.tensor([[True, True, True, False]])
    assert shift(torch.zeros(1, 4, 5), tokens)[2].tolist() == [[False, True, True]]
    assert shift(torch.zeros(1, 4, 5), tokens, mask)[2].tolist() == [[False, True, False]]


def test_no_gradient_at_the_prompt_or_the_padding_and_none_missing_between():
    given, tokens = logits(1, 7, 5)[0], torch.tensor([[1, 2, 3, 4, 0, 0, 0]])
    mask = torch.tensor([[False, False, False, True, True, False, False]])
    gradient = slope(lambda leaf: sequence_kd(leaf, tokens, mask=mask), given)[0]
    assert gradient.any(dim=-1).tolist() == [False, False, True, True, False, False, False]


@pytest.mark.parametrize("padding", [0, -100, 77])
def test_padding_changes_nothing_whatever_it_is(padding):
    given, tokens = logits(3, 6, 5)[0], torch.randint(5, (3, 6), generator=torch.Generator().manual_seed(3))
    longer = torch.cat([given, torch.full((3, 2, 5), math.nan, dtype=torch.float64)], dim=1)
    padded = torch.cat([tokens, torch.full((3, 2), padding)], dim=1)
    mask = torch.arange(8).expand(3, 8) < 6
    close(sequence_kd(longer, padded, mask=mask), sequence_kd(given, tokens))


def test_ragged_chunks_give_the_whole():
    given, tokens = logits(4, 6, 5)[0], torch.randint(5, (4, 6), generator=torch.Generator().manual_seed(4))
    mask = torch.arange(6) < torch.tensor([[6], [2], [4], [3]])
    sums = sum(sequence_kd(given[i], tokens[i], mask=mask[i], reduction="sum") for i in range(4))
    close(sums / mask[:, 1:].sum(), sequence_kd(given, tokens, mask=mask))


@pytest.mark.parametrize(
    ("tokens", "mask", "sentence"),
    [
        (torch.zeros(2, 3).long(), None, "one label is needed"),
        (torch.zeros(2, 4).long(), torch.ones(2, 3, dtype=torch.bool), "one bool"),
        (torch.zeros(2, 4).long(), torch.arange(4).expand(2, 4) < 1, "no position is left"),
        (torch.full((2, 4), 5), None, "must lie in"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(tokens, mask, sentence):
    with pytest.raises(ValueError, match=sentence):
        sequence_kd(logits(2, 4, 5)[0], tokens, mask=mask)


def test_shift_refuses_tokens_that_do_not_fit_its_logits():
    with pytest.raises(ValueError, match="one label is needed"):
        shift(torch.zeros(2, 4, 5), torch.zeros(2, 3).long())
    with pytest.raises(TypeError, match="int64"):
        shift(torch.zeros(2, 4, 5), torch.zeros(2, 4))


def test_sequence_of_one_token_is_refused():
    with pytest.raises(ValueError, match="two tokens or more"):
        shift(torch.zeros(2, 1, 5), torch.zeros(2, 1).long())
