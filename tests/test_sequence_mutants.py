"""The bugs of public code that distils language models, written afresh and put in place of the right losses.

Every one must make a named test of `test_sequence_losses` fail; one that survives fails here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import test_sequence_losses as tests
import torch
import torch.nn.functional as F

from kdcourse.losses import kd_loss
from kdcourse.losses.sequences import generalized_js_loss, sequence_kd, shift, top_k_kd_loss


class Mutant(NamedTuple):
    replaces: str
    wrong: Callable[..., Any]
    killer: str
    arguments: tuple[object, ...] = ()


def soft(logits, temperature):
    return (logits / temperature).softmax(-1)


def kl(p, q):
    return (p * (p / q).log()).sum(-1)


# --- a stored teacher -------------------------------------------------------------------------------------------------


def reduced(values, temperature, reduction="mean"):
    return temperature**2 * (values if reduction == "none" else values.mean())


def tail_dropped(student, top, indices, *, temperature, tail=True, reduction="mean"):
    """Its minimum is not at the teacher, and lies below 0."""
    q = soft(student, temperature).gather(-1, indices)
    return reduced(kl(top.exp(), q), temperature, reduction)


def teacher_alone_renormalised(student, top, indices, *, temperature, tail=True, reduction="mean"):
    q = soft(student, temperature).gather(-1, indices)
    return reduced(kl(top.softmax(-1), q), temperature, reduction)


def renormalised_although_a_tail_was_asked_for(*given, tail=True, **options):
    return top_k_kd_loss(*given, tail=False, **options)


def tail_of_the_student_from_the_teacher(student, top, indices, *, temperature, tail=True, reduction="mean"):
    q = soft(student, temperature).gather(-1, indices)
    rest = 1 - top.exp().sum(-1)
    return reduced(kl(top.exp(), q) + rest * (rest / (1 - q.detach().sum(-1))).log(), temperature, reduction)


def tail_by_subtraction(student, top, indices, *, temperature, tail=True, reduction="mean"):
    q = soft(student, temperature).gather(-1, indices)
    p, rest = top.exp(), 1 - top.exp().sum(-1)
    return reduced(kl(p, q) + rest * (rest / (1 - q.sum(-1)).clamp_min(1e-12)).log(), temperature, reduction)


def without_t_squared(*given, temperature, **options):
    return top_k_kd_loss(*given, temperature=temperature, **options) / temperature**2


def stored_at_temperature_one(student, top, indices, *, temperature, **options):
    """What was stored is softened once more."""
    return top_k_kd_loss(student, (top / temperature).log_softmax(-1), indices, temperature=temperature, **options)


def first_columns(student, top, indices, **options):
    """The indices are not used: the k most probable classes are taken for the first ones."""
    return top_k_kd_loss(student, top, torch.arange(top.shape[-1]).expand_as(indices), **options)


# --- between the two divergences --------------------------------------------------------------------------------------


def mixture_of_logits(student, teacher, *, beta, temperature, reduction="mean"):
    p, q = soft(teacher, temperature), soft(student, temperature)
    m = (beta * p.log() + (1 - beta) * q.log()).exp()  # its sum is below 1
    return reduced((1 - beta) * kl(p, m) + beta * kl(q, m), temperature, reduction)


def weights_of_the_paper(student, teacher, *, beta, temperature, reduction="mean"):
    """Tends to 0 at both ends: β acts as a learning rate."""
    p, q = soft(teacher, temperature), soft(student, temperature)
    m = beta * p + (1 - beta) * q
    return reduced(beta * kl(p, m) + (1 - beta) * kl(q, m), temperature, reduction)


def beta_at_the_other_distribution(student, teacher, **options):
    return generalized_js_loss(teacher, student, **options)


def clamped_ends(*given, beta, **options):
    return generalized_js_loss(*given, beta=min(max(beta, 1e-4), 1 - 1e-4), **options)


# --- whole sequences --------------------------------------------------------------------------------------------------


def by_token(logits, tokens, mask, reduction="mean"):
    """Cross-entropy where the mask is True, of logits and tokens that stand at one place."""
    tokens = torch.where(mask, tokens, -100)
    each = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens.reshape(-1), reduction="none")
    each = each.reshape(tokens.shape)
    return each if reduction == "none" else each.sum() if reduction == "sum" else each.sum() / mask.sum()


def counted(tokens, mask):
    return (tokens != -100) & (torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask)


def no_shift(logits, tokens, *, mask=None, reduction="mean"):
    return by_token(logits, tokens, counted(tokens, mask), reduction)


def one_shift_too_many(logits, tokens, *, mask=None, reduction="mean"):
    return by_token(logits[..., :-2, :], tokens[..., 2:], counted(tokens, mask)[..., 2:], reduction)


def mask_not_shifted(logits, tokens, *, mask=None, reduction="mean"):
    return by_token(logits[..., :-1, :], tokens[..., 1:], counted(tokens, mask)[..., :-1], reduction)


def mean_over_all_positions(logits, tokens, *, mask=None, reduction="mean"):
    total = sequence_kd(logits, tokens, mask=mask, reduction="sum")
    return total / tokens[..., 1:].numel() if reduction == "mean" else total


def mean_of_the_means_of_sequences(logits, tokens, *, mask=None, reduction="mean"):
    if reduction != "mean" or tokens.ndim == 1:
        return sequence_kd(logits, tokens, mask=mask, reduction=reduction)
    masks = [None] * len(tokens) if mask is None else mask
    each = [sequence_kd(*given, mask=part) for *given, part in zip(logits, tokens, masks, strict=True)]
    return torch.stack(each).mean()


def padding_learned(logits, tokens, *, mask=None, reduction="mean"):
    return sequence_kd(logits, tokens.clamp_min(0), reduction=reduction)


def ignored_label_counted(logits, tokens, mask=None):
    logits, targets, counts = shift(logits, tokens.clamp_min(0), mask)
    return logits, targets, counts


def prompt_shifted_twice(logits, tokens, mask=None):
    logits, targets, counts = shift(logits, tokens, mask)
    return logits[..., 1:, :], targets[..., 1:], counts[..., 1:]


TAIL = "test_full_divergence_is_the_one_with_a_tail_plus_what_happens_within_the_tail"
WHOLE = "test_divergence_of_all_sequences_is_what_both_losses_by_token_give_on_the_teachers"
MUTANTS = [
    Mutant("top_k_kd_loss", tail_dropped, TAIL, (3,)),
    Mutant("top_k_kd_loss", teacher_alone_renormalised, TAIL, (3,)),
    Mutant("top_k_kd_loss", renormalised_although_a_tail_was_asked_for, TAIL, (3,)),
    Mutant("top_k_kd_loss", tail_of_the_student_from_the_teacher, "test_tail_gradient_is_what_the_definition_says"),
    Mutant(
        "top_k_kd_loss",
        tail_by_subtraction,
        "test_unlikely_tail_of_a_confident_student_is_not_rounded_away",
    ),
    Mutant("top_k_kd_loss", without_t_squared, TAIL, (3,)),
    Mutant("top_k_kd_loss", stored_at_temperature_one, TAIL, (9,)),
    Mutant("top_k_kd_loss", first_columns, TAIL, (3,)),
    Mutant("generalized_js_loss", mixture_of_logits, "test_mixture_is_of_probabilities", (0.7,)),
    Mutant("generalized_js_loss", weights_of_the_paper, "test_family_runs_into_its_ends_and_mirrors"),
    Mutant("generalized_js_loss", beta_at_the_other_distribution, "test_mixture_is_of_probabilities", (0.2,)),
    Mutant(
        "generalized_js_loss",
        clamped_ends,
        "test_ends_and_middle_of_the_family_are_the_losses_known",
        (0.0, kd_loss),
    ),
    Mutant("sequence_kd", no_shift, "test_shift_differs_from_none_and_from_two"),
    Mutant("sequence_kd", one_shift_too_many, "test_shift_differs_from_none_and_from_two"),
    Mutant(
        "sequence_kd",
        mask_not_shifted,
        "test_no_gradient_at_the_prompt_or_the_padding_and_none_missing_between",
    ),
    Mutant("sequence_kd", mean_over_all_positions, "test_padding_changes_nothing_whatever_it_is", (0,)),
    Mutant("sequence_kd", mean_of_the_means_of_sequences, "test_ragged_chunks_give_the_whole"),
    Mutant("sequence_kd", padding_learned, "test_no_gradient_at_the_prompt_or_the_padding_and_none_missing_between"),
    Mutant("shift", ignored_label_counted, "test_shift_says_which_pairs_count_for_losses_that_see_no_tokens"),
    Mutant("shift", prompt_shifted_twice, WHOLE),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.wrong.__name__)
def test_named_test_passes_on_the_right_loss_and_kills_the_wrong_one(mutant, monkeypatch):
    killer = getattr(tests, mutant.killer)
    killer(*mutant.arguments)
    monkeypatch.setattr(tests, mutant.replaces, mutant.wrong)
    with pytest.raises(AssertionError):
        killer(*mutant.arguments)


def test_the_table_lists_no_mistake_twice():
    assert len({mutant.wrong for mutant in MUTANTS}) == len(MUTANTS)
