"""Buffers by enumeration of every random choice; herding by a search in plain loops."""

import io
import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from kdcourse import replay
from kdcourse.losses import kd_loss
from kdcourse.replay import BalancedBuffer, Reservoir, herding


class Scripted(Reservoir):
    """Takes its random integers from a list, and writes down how many there were to choose from."""

    def script(self, choices):
        self.choices, self.below = iter(choices), []
        return self

    def _draw(self, below):
        if not hasattr(self, "choices"):
            return super()._draw(below)  # the seed of the samples
        self.below.append(below)
        return next(self.choices)


def kept_by_enumeration(kind, items, size):
    """The exact probability of each set that may be kept, over all that the generator may say."""
    found = {}
    late = range(size + 1, items + 1)
    for choices in itertools.product(*(range(n) for n in late)):
        buffer = kind(size).script(choices)
        buffer.add(torch.arange(items))
        chance = Fraction(1)
        for below in buffer.below:
            chance /= below
        kept = frozenset(buffer.contents()[0].tolist())
        found[kept] = found.get(kept, 0) + chance
    return found


def judge_reservoir(kind):
    for items, size in ((4, 1), (5, 2), (5, 4), (6, 3)):
        found = kept_by_enumeration(kind, items, size)
        subsets = [frozenset(each) for each in itertools.combinations(range(items), size)]
        assert found == dict.fromkeys(subsets, Fraction(1, len(subsets)))
        for item in range(items):
            assert sum(chance for kept, chance in found.items() if item in kept) == Fraction(size, items)


def test_every_set_of_items_is_kept_with_the_same_probability():
    judge_reservoir(Scripted)


class OffByOne(Scripted):
    def _places(self, fields):
        placed = {}
        for row in range(len(fields[0])):
            slot = row if row < self.size else self._draw(row)  # an upper bound that is left out already
            if slot < self.size:
                placed[slot] = row
        return placed


class AlwaysReplaced(Scripted):
    def _places(self, fields):
        return {row if row < self.size else self._draw(row + 1) % self.size: row for row in range(len(fields[0]))}


class CountedFromFull(Scripted):
    def _places(self, fields):
        placed = {row: row for row in range(self.size)}
        for row in range(self.size, len(fields[0])):
            slot = self._draw(row - self.size + 1)
            if slot < self.size:
                placed[slot] = row
        return placed


@pytest.mark.parametrize("wrong", [OffByOne, AlwaysReplaced, CountedFromFull])
def test_a_mistake_of_public_code_in_the_reservoir_is_killed(wrong):
    with pytest.raises((AssertionError, StopIteration)):
        judge_reservoir(wrong)


def test_the_generator_keeps_all_items_equally_often():
    counts = np.zeros(12)
    for seed in range(3000):
        buffer = Reservoir(3, seed=seed)
        buffer.add(torch.arange(12))
        counts[buffer.contents()[0].numpy()] += 1
    assert counts.sum() == 9000
    assert chisquare(counts).pvalue > 0.01


def test_what_is_kept_depends_on_neither_batches_nor_samples():
    items, whole = torch.arange(200), Reservoir(20, seed=3)
    whole.add(items)
    pieces = Reservoir(20, seed=3)
    for piece in items.split(7):
        pieces.add(piece)
        pieces.add(piece[:0])
        pieces.sample(5)
    assert torch.equal(whole.contents()[0], pieces.contents()[0])
    assert whole.seen == pieces.seen == 200
    other = Reservoir(20, seed=4)
    other.add(items)
    assert not torch.equal(whole.contents()[0], other.contents()[0])


@pytest.mark.parametrize("kind", [Reservoir, BalancedBuffer])
def test_the_fields_of_an_item_stay_together(kind):
    numbers = torch.arange(300)
    fields = numbers.double().reshape(-1, 1, 1).expand(-1, 2, 3), numbers % 7, numbers.bfloat16(), numbers > 150
    buffer = kind(30)
    for rows in numbers.split(11):
        buffer.add(*(field[rows] for field in fields))
    for held in (buffer.contents(), buffer.sample(9)):
        assert [part.dtype for part in held] == [torch.float64, torch.int64, torch.bfloat16, torch.bool]
        places = held[0][:, 0, 0].long()
        assert len(places.unique()) == len(places)
        assert all(torch.equal(part, field[places]) for part, field in zip(held, fields, strict=True))


def test_what_is_held_is_a_copy_without_gradients():
    images, logits = torch.zeros(4, 2), torch.zeros(4, 3, requires_grad=True)
    buffer = Reservoir(3)
    with torch.inference_mode():
        buffer.add(images, logits)
    buffer.add(images, logits * 1)  # outside, too: what was kept inside can be replaced
    images += 1
    for held in (buffer.sample(3), buffer.contents()):
        assert not held[1].requires_grad
        assert held[0].sum() == 0
        held[0].fill_(7)
    assert buffer.contents()[0].sum() == 0


def test_samples_are_different_items_and_each_comes_equally_often():
    buffer = Reservoir(6, seed=1)
    buffer.add(torch.arange(6))
    counts = torch.zeros(6)
    for _ in range(3000):
        (rows,) = buffer.sample(2)
        assert len(rows.unique()) == 2
        counts[rows] += 1
    assert chisquare(counts.numpy()).pvalue > 0.01
    assert sorted(buffer.sample(6)[0].tolist()) == list(range(6))


@pytest.mark.parametrize("kind", [Reservoir, BalancedBuffer])
def test_a_buffer_goes_on_bit_for_bit(kind):
    items = torch.arange(500), torch.arange(500) % 9 // 2
    whole, first = kind(40, seed=5), kind(40, seed=5)
    for buffer in (whole, first):
        buffer.add(*(field[:300] for field in items))
        buffer.sample(3)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    again = kind(40, seed=0)
    again.load_state_dict(torch.load(file, weights_only=True))
    first.add(*(field[300:] for field in items))  # is not what was loaded
    assert again.seen == len(items[0]) - 200
    again.add(*(field[300:] for field in items))
    whole.add(*(field[300:] for field in items))
    for one, other in ((whole.contents(), again.contents()), (whole.sample(11), again.sample(11))):
        assert all(torch.equal(mine, yours) for mine, yours in zip(one, other, strict=True))


def test_buffers_that_load_one_state_do_not_share_it():
    first = Reservoir(4)
    first.add(torch.arange(4))
    state = first.state_dict()
    one, other = Reservoir(4), Reservoir(4)
    for buffer in (one, other):
        buffer.load_state_dict(state)
    one.add(torch.arange(100, 200))
    assert one.contents()[0].max() >= 100
    for buffer in (first, other):
        assert buffer.contents()[0].tolist() == [0, 1, 2, 3]


def test_a_state_of_another_buffer_is_refused():
    buffer = Reservoir(4)
    with pytest.raises(ValueError, match="a buffer of size 5, this one has 4"):
        buffer.load_state_dict(Reservoir(5).state_dict())
    with pytest.raises(ValueError, match="load one of its kind"):
        buffer.load_state_dict(BalancedBuffer(4).state_dict())
    with pytest.raises(ValueError, match="load one of its kind"):
        BalancedBuffer(4).load_state_dict(buffer.state_dict())


@pytest.mark.parametrize("kind", [Reservoir, BalancedBuffer])
def test_a_buffer_of_size_zero_keeps_nothing(kind):
    buffer = kind(0)
    assert buffer.contents() == ()
    buffer.add(torch.rand(5, 2), torch.arange(5))
    assert len(buffer) == 0
    assert buffer.seen == 5
    assert [tuple(field.shape) for field in buffer.contents()] == [(0, 2), (0,)]
    with pytest.raises(ValueError, match="cannot sample 2 items, the buffer of size 0 keeps nothing"):
        buffer.sample(2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b: Reservoir(-1), ValueError, "size must be an integer >= 0, got -1"),
        (lambda b: Reservoir(2.0), ValueError, "size must be an integer >= 0, got 2.0"),
        (lambda b: b.add(), ValueError, "need fields"),
        (lambda b: b.add(torch.tensor(1.0)), ValueError, r"need fields \(N, \.\.\.\)"),
        (lambda b: b.add(torch.zeros(3, 2), torch.zeros(2)), ValueError, r"one entry per item.*\(3, 2\), \(2,\)"),
        (lambda b: b.add([1, 2]), TypeError, "field 0 must be a torch.Tensor, got list"),
        (lambda b: b.add(torch.zeros(3, 2)), ValueError, "give the same fields"),
        (lambda b: b.add(torch.zeros(3, 4), torch.arange(3)), ValueError, r"torch.float32 \(N, 2\).*\(N, 4\)"),
        (lambda b: b.add(torch.zeros(3, 2), torch.zeros(3)), ValueError, "give the same fields"),
        (lambda b: b.add(torch.arange(3), torch.zeros(3, 2)), ValueError, "in the same order"),
        (lambda b: b.sample(3), ValueError, r"the buffer holds 2: ask for min\(3, len\(buffer\)\)"),
        (lambda b: b.sample(0), ValueError, "count must be an integer >= 1"),
        (lambda b: BalancedBuffer(2).add(torch.zeros(3, 2)), ValueError, "second field must be labels"),
        (lambda b: BalancedBuffer(2).add(torch.zeros(3, 2), torch.zeros(3)), ValueError, "second field must be labels"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(call, error, message):
    buffer = Reservoir(5)
    buffer.add(torch.ones(2, 2), torch.arange(2))
    with pytest.raises(error, match=message):
        call(buffer)
    assert buffer.seen == len(buffer) == 2


# --- GDumb's memory ---------------------------------------------------------------------------------------------------


class ScriptedBalanced(BalancedBuffer):
    def _draw(self, below):
        drawn = super()._draw(below)
        self.__dict__.setdefault("drawn", []).append(drawn)
        return drawn


def greedy(labels, size, drawn):
    """Algorithm 1 of GDumb as it is printed, on (number, label) pairs, with a list for each class."""
    memory, classes = {}, set()
    for number, label in enumerate(labels):
        quota = Fraction(size, max(1, len(classes)))
        if label not in classes or len(memory[label]) < quota:
            if sum(map(len, memory.values())) >= size:
                most = max(len(kept) for kept in memory.values())
                largest = next(kept for kept in memory.values() if len(kept) == most)
                del largest[next(drawn)]
            memory.setdefault(label, []).append(number)
            classes.add(label)
    return memory


@pytest.mark.parametrize(("size", "classes"), [(6, 3), (7, 3), (3, 5), (1, 2), (20, 4), (10, 10)])
def test_the_balanced_buffer_is_gdumbs_algorithm(size, classes):
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(classes, (60,), generator=generator)
        labels = labels.sort().values if seed % 2 else labels  # a class after the other, as in Split MNIST
        buffer = ScriptedBalanced(size, seed=seed)
        for rows in torch.arange(60).split(7):
            buffer.add(rows, labels[rows])
        expected = greedy(labels.tolist(), size, iter(buffer.drawn[1:]))
        kept, of = buffer.contents()
        assert torch.equal(of, labels[kept])
        assert sorted(kept.tolist()) == sorted(number for numbers in expected.values() for number in numbers)
        counts = of.bincount(minlength=classes)
        if size >= classes:
            assert counts.max() - counts.min() <= 1
        assert len(kept) == size


# --- herding ----------------------------------------------------------------------------------------------------------


def features(n=8, size=3, seed=0):
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 1


def herding_by_search(rows, count):
    rows = rows.numpy()
    mean, chosen = rows.mean(axis=0), []
    for k in range(1, count + 1):
        best, nearest = None, np.inf
        for candidate in range(len(rows)):
            if candidate not in chosen:
                distance = np.linalg.norm(mean - (rows[candidate] + sum(rows[j] for j in chosen)) / k)
                if distance < nearest:
                    best, nearest = candidate, distance
        chosen.append(best)
    return chosen


def judge_herding(function):
    for seed in range(20):
        rows = features(seed=seed, n=3 + seed % 6)
        before = rows.clone()
        found = function(rows, len(rows))
        assert found.tolist() == herding_by_search(rows, len(rows))
        assert sorted(found.tolist()) == list(range(len(rows)))
        assert found[0] == (rows - rows.mean(dim=0)).norm(dim=1).argmin()
        assert torch.equal(rows, before)
        assert function(rows, 2).tolist() == found[:2].tolist()


def test_herding_is_the_greedy_search():
    judge_herding(herding)
    assert herding(features(), 3).dtype == torch.int64
    assert herding(features(), 0).tolist() == []


def nearest_to_the_mean(rows, count):
    return (rows - rows.mean(dim=0)).norm(dim=1).argsort()[:count]


def with_duplicates(rows, count):
    chosen, total = [], 0 * rows[0]
    for k in range(1, count + 1):
        chosen.append(int((rows.mean(0) - (rows + total) / k).norm(dim=1).argmin()))
        total = total + rows[chosen[-1]]
    return torch.tensor(chosen)


def forgetting_the_mean_of_k(rows, count):
    chosen, total, left = [], 0 * rows[0], rows.clone()
    for _ in range(count):
        chosen.append(int((rows.mean(0) - (left + total)).norm(dim=1).argmin()))
        total, left[chosen[-1]] = total + rows[chosen[-1]], torch.inf
    return torch.tensor(chosen)


def zeroed_in_place(rows, count):
    chosen, total, left = [], 0 * rows[0], rows
    for k in range(1, count + 1):
        chosen.append(int((rows.mean(0) - (left + total) / k).norm(dim=1).argmin()))
        left[chosen[-1]] = 1e9  # the alias: what was chosen counts as 1e9 from here on
        total = total + rows[chosen[-1]]
    return torch.tensor(chosen)


MISTAKES = [nearest_to_the_mean, with_duplicates, forgetting_the_mean_of_k, zeroed_in_place]


@pytest.mark.parametrize("wrong", MISTAKES)
def test_a_mistake_of_public_code_in_herding_is_killed(wrong):
    with pytest.raises(AssertionError):
        judge_herding(wrong)


def test_herding_of_equal_features_goes_by_their_order():
    assert herding(torch.ones(4, 2), 3).tolist() == [0, 1, 2]
    twice = features(4).repeat(2, 1)
    assert herding(twice, 1).item() < 4


@pytest.mark.parametrize("size", [1e-200, 1e200, 0.0])
def test_herding_knows_no_scale(size):
    expected = herding(features() * bool(size), 5)
    assert torch.equal(herding(features() * size, 5), expected)


def test_herding_takes_maps_half_precision_and_gradients():
    rows = features(200, 6).bfloat16()
    maps = rows.reshape(200, 2, 3, 1).requires_grad_()
    assert torch.equal(herding(maps, 50), herding(rows.double(), 50))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: herding(features(), 9), ValueError, "cannot choose 9 of 8 examples"),
        (lambda: herding(features(), -1), ValueError, "count must be an integer >= 0"),
        (lambda: herding(features() * torch.nan, 2), ValueError, "features contains NaN or infinity"),
        (lambda: herding(features()[:0], 0), ValueError, "features is empty"),
        (lambda: herding(features().long(), 1), TypeError, "features must be floating point"),
        (lambda: herding(features().tolist(), 1), TypeError, "features must be a torch.Tensor"),
    ],
)
def test_what_cannot_be_herded_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- learning without forgetting: kd_loss serves ----------------------------------------------------------------------


def kl(teacher, student, temperature):
    """In float64, from the definition."""
    p, q = (np.exp(each / temperature) for each in (teacher, student))
    p, q = (each / each.sum(axis=1, keepdims=True) for each in (p, q))
    return temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()


@pytest.mark.parametrize("old", [[0, 1, 2], [4, 0, 2]])
def test_old_classes_are_distilled_by_slicing_logits_before_the_softmax(old):
    generator = torch.Generator().manual_seed(0)
    student, before = (torch.randn(5, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    loss = kd_loss(student[:, old], before[:, old], temperature=2.0)
    assert loss.item() == pytest.approx(kl(before[:, old].numpy(), student.detach()[:, old].numpy(), 2.0), abs=1e-12)
    loss.backward()
    new = [column for column in range(6) if column not in old]
    assert not student.grad[:, new].any()
    assert student.grad[:, old].any()
    # the same with columns that cannot be; and nothing to forget where the outputs are the old ones
    impossible = torch.full((6,), -torch.inf, dtype=torch.float64)
    impossible[old] = 0.0
    hidden = kd_loss(student + impossible, before + impossible, temperature=2.0)
    torch.testing.assert_close(hidden, loss)
    same = before.clone().requires_grad_()
    at_start = kd_loss(same[:, old], before[:, old], temperature=2.0)
    at_start.backward()
    assert abs(at_start.item()) < 1e-12
    assert same.grad.abs().max() < 1e-12


def test_sliced_after_the_softmax_the_divergence_falls_below_zero():
    student, before = torch.tensor([[2.0, 1.0, -1.0]]), torch.tensor([[2.0, 1.0, 3.0]])
    p, q = (logits.softmax(dim=1)[:, :2] for logits in (before, student))
    assert (p * (p / q).log()).sum() < -0.1
    assert kd_loss(student[:, :2], before[:, :2], temperature=1.0).abs() < 1e-7


def test_the_room_says_so():
    assert "kd_loss(logits[:, :old], old_logits[:, :old], temperature=2.0)" in replay.__doc__
