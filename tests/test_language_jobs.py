"""The jobs of notebook 17: the teacher that counts, the losses of the arms, the texts that a student writes itself."""

import math
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from kdcourse.language import Decoder
from kdcourse.losses import kd_loss
from kdcourse.seeds import seeded

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data" / "results"))
import language_losses  # noqa: E402 (the jobs are scripts, no package)
import language_students  # noqa: E402
import speech  # noqa: E402
import store  # noqa: E402
from ngrams import NGrams  # noqa: E402

TEXT, V, ORDER = [0, 1, 0, 1, 2, 0, 1, 0, 0, 3, 1, 0, 1, 2, 2, 0], 5, 3


def by_hand(context: list[int], token: int) -> Fraction:
    """Witten and Bell, interpolated, from the definition."""
    shorter = by_hand(context[1:], token) if context else Fraction(1, V)
    size = len(context)
    followers = [TEXT[i + size] for i in range(len(TEXT) - size) if TEXT[i : i + size] == context]
    if not followers:
        return shorter
    different = len(set(followers))
    return (followers.count(token) + different * shorter) / (len(followers) + different)


def counted() -> NGrams:
    return NGrams(torch.tensor(TEXT), vocabulary=V, order=ORDER)


def test_counts_are_those_worked_by_hand():
    read = [1, 0, 1, 4, 0, 1]  # 4 was never seen
    found = counted().log_probs(torch.tensor([read])).exp()[0]
    for i in range(len(read)):
        context = read[max(0, i + 1 - ORDER) : i + 1]
        exact = torch.tensor([float(by_hand(context, token)) for token in range(V)])
        torch.testing.assert_close(found[i], exact)


def test_counts_look_at_no_later_character():
    read = torch.tensor([[0, 1, 0, 1, 2, 0], [0, 1, 0, 3, 3, 1]])
    one, two = counted().log_probs(read)
    torch.testing.assert_close(one[:3], two[:3])
    assert not torch.allclose(one[3], two[3])


def test_bits_of_counts_are_the_mean_cost_from_a_character_on():
    text = torch.tensor([[0, 1, 0, 1, 2]])
    costs = [-math.log2(by_hand(text[0, max(0, i - ORDER) : i].tolist(), int(text[0, i]))) for i in range(1, 5)]
    assert counted().bits(text, first=1) == pytest.approx(sum(costs) / 4, rel=1e-5)
    assert counted().bits(text, first=3) == pytest.approx(sum(costs[2:]) / 2, rel=1e-5)


@pytest.fixture
def batch() -> speech.Batch:
    with seeded(0):
        return speech.Batch(torch.randint(9, (3, 20)), torch.randint(9, (3, 20)), 2 * torch.randn(3, 20, 9))


@pytest.mark.parametrize("arm", sorted(language_losses.LOSSES))
def test_the_losses_tell_a_student_that_equals_its_teacher_what_their_names_say(arm, batch):
    logits = batch.soft.clone().requires_grad_()
    language_losses.LOSSES[arm](logits, batch).backward()
    still = logits.grad.abs().max() < 1e-7
    exact = arm.startswith(("forward", "reverse", "Jensen", "half own", "top 4 and", "top 4 renormalised"))
    assert bool(still) == exact


def test_four_of_nine_as_if_all_is_the_sum_over_the_four(batch):
    logits = torch.zeros_like(batch.soft)
    p = batch.soft.softmax(dim=-1).sort(dim=-1, descending=True).values[..., :4]
    exact = (p * (p * 9).log()).sum(dim=-1).mean()
    torch.testing.assert_close(language_losses.raw_top_loss(logits, batch), exact)


def test_draws_have_the_gradient_of_the_soft_target_on_average(batch):
    logits = torch.zeros_like(batch.soft, requires_grad=True)
    with seeded(1):
        language_losses.drawn_loss(logits, batch, draws=4000).backward()
    drawn, logits.grad = logits.grad, None
    kd_loss(logits, batch.soft, temperature=1.0).backward()
    torch.testing.assert_close(drawn, logits.grad, atol=0.05 / 60, rtol=0)


def test_confidence_alone_keeps_of_the_teacher_the_true_characters_probability(batch):
    right = batch.soft.softmax(dim=-1).gather(-1, batch.following.unsqueeze(-1))
    target = torch.where(F.one_hot(batch.following, 9).bool(), right, (1 - right) / 8)
    with seeded(2):
        logits = torch.randn(3, 20, 9)
    exact = -(target * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    torch.testing.assert_close(language_losses.confidence_loss(logits, batch), exact)


def test_a_written_text_is_learned_after_its_start(batch):
    logits = torch.randn(3, 20, 9, requires_grad=True)
    language_losses.written_loss(logits, batch).backward()
    norms = logits.grad.norm(dim=-1)
    first = language_losses.START - 1  # it predicts the first character that was written
    assert (norms[:, :first] == 0).all()
    assert (norms[:, first:] > 0).all()


def test_batches_read_every_window_once_before_one_comes_again():
    text = torch.arange(64)[:, None] + torch.zeros(speech.WINDOW + 1, dtype=torch.int64)
    batches = iter(speech.Batches(text, None, seed=0))
    seen = torch.cat([next(batches)[0][:, 0] for _ in range(4)])
    assert seen.sort().values.tolist() == list(range(64))
    again = torch.cat([next(batches)[0][:, 0] for _ in range(4)])
    assert again.sort().values.tolist() == list(range(64))
    assert again.tolist() != seen.tolist()


def test_half_of_a_batch_is_the_students_own(monkeypatch):
    monkeypatch.setattr(language_losses, "POOL", 32)
    monkeypatch.setattr(language_losses, "AHEAD", 1)
    student = Decoder(len(speech.teacher()[1]), width=8, layers=1, heads=1, context=speech.WINDOW + 1)
    read, batch = next(iter(language_losses.OwnTexts(student, seed=0)))
    known = {tuple(row) for row in speech.windows("train", 32)[:, :-1].tolist()}
    starts = {row[: language_losses.START] for row in known}
    assert [tuple(row) in known for row in read.tolist()] == [True] * 8 + [False] * 8
    assert all(tuple(row[: language_losses.START]) in starts for row in read.tolist())
    with torch.no_grad():
        torch.testing.assert_close(
            batch.soft, speech.teacher()[0](read), atol=0.02, rtol=2e-3
        )  # kept in half precision


def test_a_start_in_the_teachers_layers_has_their_weights():
    student, large = language_losses.of_teachers_width("the teacher's layers", 0), speech.teacher()[0]
    for block, kept in zip(student.blocks, language_losses.KEPT_LAYERS, strict=True):
        for one, other in zip(block.parameters(), large.blocks[kept].parameters(), strict=True):
            assert torch.equal(one, other)
            assert one is not other
    assert torch.equal(student.head.weight, large.head.weight)
    assert not torch.equal(language_losses.of_teachers_width("a random start", 0).head.weight, large.head.weight)


JOBS = pytest.mark.parametrize("job", [language_students, language_losses], ids=lambda job: job.__name__)


@JOBS
def test_every_arm_has_three_tries_and_five_seeds(job):
    arms: dict[tuple, list] = {}
    for key in job.wanted():
        arms.setdefault((key.get("size"), key["arm"]), []).append(key)
    tries_then_seeds = [(True, False)] * 3 + [(False, True)] * 5
    for keys in arms.values():
        assert [("rate" in key, key["seed"] in speech.SEEDS) for key in keys] == tries_then_seeds


@JOBS
def test_every_arm_is_stored_and_its_seeds_took_the_rate_that_was_best_on_validation(job):
    measured = [record for record in store.load(job.RESULTS)["records"] if "arm" in record]
    assert len(measured) == len(job.wanted())
    for key in job.wanted():
        record = store.find({"records": measured}, key)
        if "rate" not in key:
            arm = {name: key[name] for name in ("size", "arm") if name in key}
            tries = [each for each in measured if "rate" in each and arm.items() <= each.items()]
            assert record["used"] == min(tries, key=lambda each: each["validation"])["rate"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "key"),
    [
        (language_students, {"size": "small", "arm": "labels only", "seed": 0}),
        (language_losses, {"arm": "forward KL", "seed": 0}),
        (language_losses, {"arm": "the teacher's layers, labels", "seed": 0}),
    ],
    ids=lambda value: getattr(value, "__name__", "") or value["arm"],
)
def test_a_stored_arm_can_be_measured_again(job, key):
    # another instruction set rounds differently: the five seeds of an arm lie within 0.2 bits of each other
    assert job.measure(**key)["test"] == pytest.approx(store.find(store.load(job.RESULTS), key)["test"], abs=0.15)
