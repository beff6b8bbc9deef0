"""The distillation bugs that circulate in public code, written afresh and put in place of the right losses.

Every one must make a named test of `test_losses` or `test_loss_invariances` fail; one that survives fails here.
``-s`` prints the table.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import test_loss_invariances
import test_losses
import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse import losses

RIGHT = {name: getattr(losses, name) for name in losses.__all__}


def soft(logits, temperature=1.0):
    return F.softmax(logits / temperature, dim=-1)


def log_soft(logits, temperature=1.0):
    return F.log_softmax(logits / temperature, dim=-1)


def kl_mean(p, log_p, log_q):
    return (p * (log_p - log_q)).sum(dim=-1).mean()


# --- kd_loss ----------------------------------------------------------------------------------------------------------


def reduction_mean(student, teacher, *, temperature):
    divergence = F.kl_div(log_soft(student, temperature), soft(teacher.detach(), temperature), reduction="none")
    return temperature**2 * divergence.mean()


def batchmean_on_sequences(student, teacher, *, temperature):
    total = F.kl_div(log_soft(student, temperature), soft(teacher.detach(), temperature), reduction="sum")
    return temperature**2 * total / (len(student) if student.ndim > 1 else 1)


def summed_over_the_batch(student, teacher, *, temperature):
    return temperature**2 * F.kl_div(
        log_soft(student, temperature), soft(teacher.detach(), temperature), reduction="sum"
    )  # fmt: skip


def without_t_squared(student, teacher, *, temperature):
    return RIGHT["kd_loss"](student, teacher, temperature=temperature) / temperature**2


def t_instead_of_t_squared(student, teacher, *, temperature):
    return RIGHT["kd_loss"](student, teacher, temperature=temperature) / temperature


def temperature_multiplied(student, teacher, *, temperature):
    return temperature**2 * RIGHT["kd_loss"](student * temperature, teacher * temperature, temperature=1.0)


def student_not_softened(student, teacher, *, temperature):
    log_p = log_soft(teacher.detach(), temperature)
    return temperature**2 * kl_mean(log_p.exp(), log_p, log_soft(student))


def probabilities_for_log_probabilities(student, teacher, *, temperature):
    target = soft(teacher.detach(), temperature)
    return temperature**2 * (target * (target.log() - soft(student, temperature))).sum(dim=-1).mean()


def kl_div_arguments_swapped(student, teacher, *, temperature):
    target = soft(student, temperature)
    return temperature**2 * (target * (target.log() - log_soft(teacher.detach(), temperature))).sum(dim=-1).mean()


def both_log_probabilities(student, teacher, *, temperature):
    log_t = log_soft(teacher.detach(), temperature)
    return temperature**2 * (log_t * (log_t - log_soft(student, temperature))).sum(dim=-1).mean()


def never_reads_the_student(student, teacher, *, temperature):
    # 0 · student keeps the graph alive: as in the wild, nothing crashes
    return RIGHT["kd_loss"](teacher + 0 * student, teacher, temperature=temperature)


def never_reads_the_teacher(student, teacher, *, temperature):
    return RIGHT["kd_loss"](student, student, temperature=temperature)


def student_and_teacher_swapped(student, teacher, *, temperature):
    return RIGHT["kd_loss"](teacher, student, temperature=temperature)


def gradient_to_the_teacher(student, teacher, *, temperature):
    log_p = log_soft(teacher, temperature)
    return temperature**2 * kl_mean(log_p.exp(), log_p, log_soft(student, temperature))


def student_detached_instead_of_teacher(student, teacher, *, temperature):
    log_p = log_soft(teacher, temperature)
    return temperature**2 * kl_mean(log_p.exp(), log_p, log_soft(student.detach(), temperature))


def log_of_softmax(student, teacher, *, temperature):
    p, q = soft(student, temperature), soft(teacher.detach(), temperature)
    return temperature**2 * (q * (q.log() - p.log())).nansum(dim=-1).mean()


def log_of_softmax_plus_epsilon(student, teacher, *, temperature):
    p, q = soft(student, temperature), soft(teacher.detach(), temperature)
    return temperature**2 * (q * ((q + 1e-8).log() - (p + 1e-8).log())).sum(dim=-1).mean()


def relu_on_the_logits(student, teacher, *, temperature):
    return RIGHT["kd_loss"](F.relu(student), F.relu(teacher), temperature=temperature)


def binary_cross_entropy_over_classes(student, teacher, *, temperature):
    p, q = soft(student, temperature), soft(teacher.detach(), temperature)
    return temperature**2 * F.binary_cross_entropy(p, q, reduction="none").sum(dim=-1).mean()


def minus_sign_missing(student, teacher, *, temperature):
    # cross-entropy without its minus: minimising it makes the model worse
    return temperature**2 * (soft(teacher.detach(), temperature) * log_soft(student, temperature)).sum(dim=-1).mean()


def sign_flipped(student, teacher, *, temperature):
    return -RIGHT["kd_loss"](student, teacher, temperature=temperature)


def teacher_entropy_dropped(student, teacher, *, temperature):
    # the same gradient, another value: cross-entropy, not a divergence
    return -minus_sign_missing(student, teacher, temperature=temperature)


def teacher_not_normalised(student, teacher, *, temperature):
    weights = (teacher.detach() / temperature - (teacher.detach() / temperature).amax(dim=-1, keepdim=True)).exp()
    return temperature**2 * (weights * (log_soft(teacher.detach(), temperature) - log_soft(student, temperature))).sum(
        dim=-1
    ).mean()  # fmt: skip


def softmax_over_the_batch(student, teacher, *, temperature):
    log_p = F.log_softmax(teacher.detach() / temperature, dim=0)
    return temperature**2 * kl_mean(log_p.exp(), log_p, F.log_softmax(student / temperature, dim=0))


def half_precision_not_widened(student, teacher, *, temperature):
    log_p = log_soft(teacher.detach(), temperature)
    return temperature**2 * kl_mean(log_p.exp(), log_p, log_soft(student, temperature))


def narrowed_to_float32(student, teacher, *, temperature):
    return RIGHT["kd_loss"](student.float(), teacher.float(), temperature=temperature)


# --- distillation_loss ------------------------------------------------------------------------------------------------


def mixed(soft_part, student, labels, alpha, label_logits=None):
    logits = student if label_logits is None else label_logits
    hard = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
    return (1 - alpha) * hard + alpha * soft_part


def temperature_on_the_label_term(student, teacher, labels, *, temperature, alpha):
    part = RIGHT["kd_loss"](student, teacher, temperature=temperature)
    return mixed(part, student, labels, alpha, student / temperature)


def labels_only(student, teacher, labels, *, temperature, alpha):
    return mixed(0.0, student, labels, 0.0)


def alpha_weights_the_labels(student, teacher, labels, *, temperature, alpha):
    return RIGHT["distillation_loss"](student, teacher, labels, temperature=temperature, alpha=1 - alpha)


def mix_without_t_squared(student, teacher, labels, *, temperature, alpha):
    return mixed(RIGHT["kd_loss"](student, teacher, temperature=temperature) / temperature**2, student, labels, alpha)


def t_squared_on_the_whole_mix(student, teacher, labels, *, temperature, alpha):
    return temperature**2 * mix_without_t_squared(student, teacher, labels, temperature=temperature, alpha=alpha)


def weights_that_do_not_sum_to_one(student, teacher, labels, *, temperature, alpha):
    return mixed(0.0, student, labels, 0.0) + alpha * RIGHT["kd_loss"](student, teacher, temperature=temperature)


def relu_before_the_mix(student, teacher, labels, *, temperature, alpha):
    return RIGHT["distillation_loss"](F.relu(student), teacher, labels, temperature=temperature, alpha=alpha)


def softmax_before_cross_entropy(student, teacher, labels, *, temperature, alpha):
    part = RIGHT["kd_loss"](student, teacher, temperature=temperature)
    return mixed(part, student, labels, alpha, soft(student))


def label_loss_of_the_teacher(student, teacher, labels, *, temperature, alpha):
    part = RIGHT["kd_loss"](student, teacher, temperature=temperature)
    return mixed(part, student, labels, alpha, teacher.detach())


# --- the others -------------------------------------------------------------------------------------------------------


def student_entropy_dropped(student, teacher, *, temperature):
    # constant in KL(p_t ‖ p_s), not in KL(p_s ‖ p_t)
    return -(temperature**2) * (soft(student, temperature) * log_soft(teacher.detach(), temperature)).sum(-1).mean()


def student_entropy_without_gradient(student, teacher, *, temperature):
    log_p = log_soft(student, temperature)
    entropy = -(log_p.exp() * log_p).sum(dim=-1).mean().detach()
    return student_entropy_dropped(student, teacher, temperature=temperature) - temperature**2 * entropy


def forward_for_reverse(student, teacher, *, temperature):
    return RIGHT["kd_loss"](student, teacher, temperature=temperature)


def js_without_the_middle(student, teacher, *, temperature):
    # half of each direction: Jeffreys' divergence, symmetric too, but without a bound
    both = (RIGHT["kd_loss"], RIGHT["reverse_kd_loss"])
    return sum(loss(student, teacher, temperature=temperature) for loss in both) / 2


def js_middle_of_the_logits(student, teacher, *, temperature):
    log_p, log_q = log_soft(student, temperature), log_soft(teacher.detach(), temperature)
    log_m = (log_p + log_q) / 2  # does not sum to 1
    return temperature**2 * (kl_mean(log_p.exp(), log_p, log_m) + kl_mean(log_q.exp(), log_q, log_m)) / 2


def js_not_halved(student, teacher, *, temperature):
    return 2 * RIGHT["js_loss"](student, teacher, temperature=temperature)


def mse_not_centred(student, teacher):
    return 0.5 * F.mse_loss(student, teacher.detach())


def mse_not_halved(student, teacher):
    return 2 * RIGHT["logit_mse_loss"](student, teacher)


def mse_summed_over_classes(student, teacher):
    return student.shape[-1] * RIGHT["logit_mse_loss"](student, teacher)


def mse_of_relu(student, teacher):
    return RIGHT["logit_mse_loss"](F.relu(student), F.relu(teacher))


def dkd_parts(student, teacher, labels, temperature, *, others_keep_target=False):
    p, q = soft(student, temperature), soft(teacher.detach(), temperature)
    hit = F.one_hot(labels, student.shape[-1]).bool()
    log_p = torch.stack([p[hit], p.masked_fill(hit, 0).sum(-1).reshape(-1)], dim=-1).log()
    q_two = torch.stack([q[hit], q.masked_fill(hit, 0).sum(-1).reshape(-1)], dim=-1)
    tckd = (q_two * (q_two.log() - log_p)).nansum(dim=-1).mean()
    low = 0.0 if others_keep_target else 1000.0
    log_others_p = log_soft(student / temperature - low * hit)
    log_others_q = log_soft(teacher.detach() / temperature - low * hit)
    return tckd, kl_mean(log_others_q.exp(), log_others_q, log_others_p)


def dkd_mixed(parts, temperature, target_weight, non_target_weight):
    return temperature**2 * (target_weight * parts[0] + non_target_weight * parts[1])


def dkd_log_of_a_sum(student, teacher, labels, *, temperature, target_weight=1.0, non_target_weight=8.0):
    parts = dkd_parts(student, teacher, labels, temperature)
    return dkd_mixed(parts, temperature, target_weight, non_target_weight)


def dkd_target_among_the_others(student, teacher, labels, *, temperature, target_weight=1.0, non_target_weight=8.0):
    parts = dkd_parts(student, teacher, labels, temperature, others_keep_target=True)
    return dkd_mixed(parts, temperature, target_weight, non_target_weight)


def dkd_weights_swapped(student, teacher, labels, *, temperature, target_weight=1.0, non_target_weight=8.0):
    return RIGHT["dkd_loss"](
        student, teacher, labels,
        temperature=temperature, target_weight=non_target_weight, non_target_weight=target_weight,
    )  # fmt: skip


def dkd_without_t_squared(student, teacher, labels, *, temperature, **weights):
    return RIGHT["dkd_loss"](student, teacher, labels, temperature=temperature, **weights) / temperature**2


def smoothing_shared_by_the_other_classes_only(student, labels, *, smoothing):
    classes = student.shape[-1]
    return RIGHT["label_smoothing_loss"](student, labels, smoothing=smoothing * classes / (classes - 1))


def smoothing_not_normalised(student, labels, *, smoothing):
    # 1 at the label and the share on top: the targets sum to 1 + smoothing
    extra = -smoothing * log_soft(student).mean(dim=-1).mean()
    return RIGHT["label_smoothing_loss"](student, labels, smoothing=0.0) + extra


def smoothing_sign_flipped(student, labels, *, smoothing):
    return -RIGHT["label_smoothing_loss"](student, labels, smoothing=smoothing)


def smoothing_log_of_softmax(student, labels, *, smoothing):
    log_p = soft(student).log()
    hard = -log_p.gather(-1, labels.unsqueeze(-1)).mean()
    return (1 - smoothing) * hard - smoothing * log_p.mean()


class Mutant(NamedTuple):
    replaces: str
    wrong: Callable[..., Tensor]
    killer: str
    arguments: dict[str, object] = {}


MUTANTS = [
    Mutant("kd_loss", reduction_mean, "test_kd_loss_of_a_fraction_worked_by_hand"),
    Mutant(
        "kd_loss",
        batchmean_on_sequences,
        "test_unchanged_by_splitting_the_batch_into_sequences",
        {"name": "kd_loss", "shape": (3, 4)},
    ),
    Mutant("kd_loss", summed_over_the_batch, "test_unchanged_by_giving_every_example_twice", {"name": "kd_loss"}),
    Mutant("kd_loss", without_t_squared, "test_kd_loss_gradient_keeps_its_size_as_the_temperature_grows"),
    Mutant("kd_loss", t_instead_of_t_squared, "test_kd_loss_at_temperature_two_of_a_fraction_worked_by_hand"),
    Mutant("kd_loss", temperature_multiplied, "test_logit_mse_loss_is_the_limit_of_kd_loss"),
    Mutant(
        "kd_loss",
        student_not_softened,
        "test_zero_with_zero_gradient_where_student_and_teacher_agree",
        {"name": "kd_loss"},
    ),
    Mutant(
        "kd_loss",
        probabilities_for_log_probabilities,
        "test_zero_with_zero_gradient_where_student_and_teacher_agree",
        {"name": "kd_loss"},
    ),
    Mutant("kd_loss", kl_div_arguments_swapped, "test_kd_loss_of_a_fraction_that_tells_the_two_directions_apart"),
    Mutant("kd_loss", both_log_probabilities, "test_cross_entropy_against_the_teacher_is_its_entropy_plus_kd_loss"),
    Mutant(
        "kd_loss",
        never_reads_the_student,
        "test_reads_the_student_and_where_it_has_one_the_teacher",
        {"name": "kd_loss"},
    ),
    Mutant(
        "kd_loss",
        never_reads_the_teacher,
        "test_reads_the_student_and_where_it_has_one_the_teacher",
        {"name": "kd_loss"},
    ),
    Mutant(
        "kd_loss",
        student_and_teacher_swapped,
        "test_teacher_gets_no_gradient_and_the_student_does",
        {"name": "kd_loss"},
    ),
    Mutant(
        "kd_loss", gradient_to_the_teacher, "test_teacher_gets_no_gradient_and_the_student_does", {"name": "kd_loss"}
    ),
    Mutant(
        "kd_loss",
        student_detached_instead_of_teacher,
        "test_teacher_gets_no_gradient_and_the_student_does",
        {"name": "kd_loss"},
    ),
    Mutant("kd_loss", log_of_softmax, "test_values_at_ten_thousand_are_the_exact_limits"),
    Mutant(
        "kd_loss",
        log_of_softmax_plus_epsilon,
        "test_a_class_that_the_student_holds_impossible_costs_a_finite_amount_and_is_pulled_up",
    ),
    Mutant("kd_loss", relu_on_the_logits, "test_unchanged_by_a_shift_of_every_row_of_logits", {"name": "kd_loss"}),
    Mutant(
        "kd_loss",
        binary_cross_entropy_over_classes,
        "test_kd_loss_gradient_is_temperature_times_the_difference_of_probabilities_over_n",
        {"temperature": 4.0},
    ),
    Mutant(
        "kd_loss",
        minus_sign_missing,
        "test_a_step_against_the_gradient_brings_student_and_teacher_together",
        {"name": "kd_loss"},
    ),
    Mutant("kd_loss", sign_flipped, "test_above_zero_wherever_student_and_teacher_differ", {"name": "kd_loss"}),
    Mutant("kd_loss", teacher_entropy_dropped, "test_cross_entropy_against_the_teacher_is_its_entropy_plus_kd_loss"),
    Mutant("kd_loss", teacher_not_normalised, "test_kd_loss_of_a_fraction_worked_by_hand"),
    Mutant("kd_loss", softmax_over_the_batch, "test_unchanged_by_giving_every_example_twice", {"name": "kd_loss"}),
    Mutant(
        "kd_loss",
        half_precision_not_widened,
        "test_half_precision_gives_what_float32_gives_of_the_same_numbers",
        {"name": "kd_loss", "dtype": torch.bfloat16, "validate": True},
    ),
    Mutant(
        "kd_loss",
        narrowed_to_float32,
        "test_equals_the_definition_on_each_rank_and_returns_0d_float64",
        {"name": "kd_loss", "leading": (7,)},
    ),
    Mutant(
        "distillation_loss",
        temperature_on_the_label_term,
        "test_distillation_loss_leaves_the_label_term_at_temperature_one",
    ),
    Mutant(
        "distillation_loss", labels_only, "test_distillation_loss_with_alpha_one_is_kd_loss_and_needs_no_right_labels"
    ),
    Mutant("distillation_loss", alpha_weights_the_labels, "test_distillation_loss_of_a_fraction_worked_by_hand"),
    Mutant(
        "distillation_loss", mix_without_t_squared, "test_distillation_loss_gradient_is_the_mix_of_both_closed_forms"
    ),
    Mutant(
        "distillation_loss",
        t_squared_on_the_whole_mix,
        "test_distillation_loss_leaves_the_label_term_at_temperature_one",
    ),
    Mutant("distillation_loss", weights_that_do_not_sum_to_one, "test_distillation_loss_of_a_fraction_worked_by_hand"),
    Mutant(
        "distillation_loss",
        relu_before_the_mix,
        "test_unchanged_by_a_shift_of_every_row_of_logits",
        {"name": "distillation_loss"},
    ),
    Mutant(
        "distillation_loss",
        softmax_before_cross_entropy,
        "test_distillation_loss_leaves_the_label_term_at_temperature_one",
    ),
    Mutant(
        "distillation_loss",
        label_loss_of_the_teacher,
        "test_distillation_loss_gradient_is_the_mix_of_both_closed_forms",
    ),
    Mutant("reverse_kd_loss", student_entropy_dropped, "test_reverse_kd_loss_of_a_fraction_worked_by_hand"),
    Mutant("reverse_kd_loss", student_entropy_without_gradient, "test_reverse_kd_loss_gradient_equals_its_closed_form"),
    Mutant("reverse_kd_loss", forward_for_reverse, "test_reverse_kd_loss_of_a_fraction_worked_by_hand"),
    Mutant("js_loss", js_without_the_middle, "test_js_loss_reaches_its_bound_where_the_two_exclude_each_other"),
    Mutant("js_loss", js_middle_of_the_logits, "test_js_loss_reaches_its_bound_where_the_two_exclude_each_other"),
    Mutant("js_loss", js_not_halved, "test_js_loss_of_a_fraction_worked_by_hand"),
    Mutant(
        "logit_mse_loss",
        mse_not_centred,
        "test_unchanged_by_a_shift_of_every_row_of_logits",
        {"name": "logit_mse_loss"},
    ),
    Mutant("logit_mse_loss", mse_not_halved, "test_logit_mse_loss_is_the_limit_of_kd_loss"),
    Mutant("logit_mse_loss", mse_summed_over_classes, "test_logit_mse_loss_of_a_fraction_worked_by_hand"),
    Mutant(
        "logit_mse_loss", mse_of_relu, "test_unchanged_by_a_shift_of_every_row_of_logits", {"name": "logit_mse_loss"}
    ),
    Mutant("dkd_loss", dkd_log_of_a_sum, "test_values_at_ten_thousand_are_the_exact_limits"),
    Mutant(
        "dkd_loss",
        dkd_target_among_the_others,
        "test_kd_loss_equals_target_part_plus_muted_non_target_part_in_value_and_gradient",
    ),
    Mutant("dkd_loss", dkd_weights_swapped, "test_dkd_loss_of_a_fraction_worked_by_hand"),
    Mutant(
        "dkd_loss",
        dkd_without_t_squared,
        "test_kd_loss_equals_target_part_plus_muted_non_target_part_in_value_and_gradient",
    ),
    Mutant(
        "label_smoothing_loss",
        smoothing_shared_by_the_other_classes_only,
        "test_label_smoothing_loss_equals_pytorchs_cross_entropy_with_soft_targets",
        {"smoothing": 0.5},
    ),
    Mutant("label_smoothing_loss", smoothing_not_normalised, "test_label_smoothing_loss_of_a_fraction_worked_by_hand"),
    Mutant(
        "label_smoothing_loss",
        smoothing_sign_flipped,
        "test_label_smoothing_loss_equals_pytorchs_cross_entropy_with_soft_targets",
        {"smoothing": 0.1},
    ),
    Mutant("label_smoothing_loss", smoothing_log_of_softmax, "test_values_at_ten_thousand_are_the_exact_limits"),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.wrong.__name__}-{mutant.replaces}")
def test_mutant_is_killed_by_its_named_test(mutant, monkeypatch):
    killer = (vars(test_losses) | vars(test_loss_invariances))[mutant.killer]
    killer(**mutant.arguments)  # the right loss passes, so what fails below is the mutant
    monkeypatch.setattr(losses, mutant.replaces, mutant.wrong)
    # not any error: a mutant that crashes on its own would prove nothing about the test
    with pytest.raises(AssertionError):
        killer(**mutant.arguments)
    print(f"\n{mutant.replaces:<21}{mutant.wrong.__name__:<44}killed by {mutant.killer}", end="")


def test_mutants_run_on_ordinary_input_and_differ_from_the_right_loss_there_or_at_an_extreme():
    # a mutant that raised, or equalled the right loss in value and gradient everywhere, would be no mutant
    student, teacher, labels = test_losses.random_case(4)
    extreme = torch.tensor([[1e4, -1e4, 0.0, 1.0, 2.0]] * 4)
    for mutant in MUTANTS:
        seen = []
        for s, t in ((student, teacher), (extreme, extreme.flip(-1)), (student.half(), teacher.half())):
            for function in (RIGHT[mutant.replaces], mutant.wrong):
                leaf_s, leaf_t = s.clone().requires_grad_(), t.clone().requires_grad_()
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(losses, mutant.replaces, function)
                    value = test_losses.CALLS[mutant.replaces](leaf_s, leaf_t, labels)
                seen.append((value.item(), value.dtype, value.requires_grad and slopes(value, leaf_s, leaf_t)))
        same = all(alike(right, wrong) for right, wrong in zip(seen[::2], seen[1::2], strict=True))
        # the batch of sequences is the one input on which this one differs
        assert not same or mutant.wrong is batchmean_on_sequences, mutant.wrong.__name__


def slopes(value: Tensor, *leaves: Tensor) -> list[float]:
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    return [0.0 if slope is None else slope.double().norm().item() for slope in found]


def alike(right, wrong) -> bool:
    numbers = [(right[0], wrong[0]), *zip(right[2] or [0.0, 0.0], wrong[2] or [0.0, 0.0], strict=True)]
    return right[1] == wrong[1] and all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in numbers)
