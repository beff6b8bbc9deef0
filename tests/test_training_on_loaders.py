"""The loops on what is no `Split`: loaders in every form, logits of every rank, outputs that are no tensor."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from test_training import QUIET, TRAIN, same, student, teacher, weights
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from kdcourse.data import Mnist, Split, random_affine
from kdcourse.models import mlp
from kdcourse.training import cosine, distill, evaluate, fit, predict

ONCE = {"epochs": 1, "progress": False}
TWICE = {"epochs": 2, "progress": False}
BATCHES = [(TRAIN.images[rows], TRAIN.labels[rows]) for rows in torch.arange(40).split(16)]


def trained(data, run=None, model=None, **options):
    model = student(dropout=0.0) if model is None else model
    (run or fit)(model, data, **TWICE | options)
    return weights(model)


def taught(data, source=None, **options):
    return trained(
        data,
        lambda model, data, **more: distill(model, teacher() if source is None else source, data, **more),
        **options,
    )


class AsASplit:
    """Draws its batches as the loops do those of a `Split`."""

    def __init__(self, split, batch_size):
        self.split, self.batch_size = split, batch_size

    def __len__(self):
        return math.ceil(len(self.split.labels) / self.batch_size)

    def __iter__(self):
        for rows in torch.randperm(len(self.split.labels)).split(self.batch_size):
            yield self.split.take(rows)


class Stream(IterableDataset):
    """Examples without a length."""

    def __iter__(self):
        return zip(*TRAIN, strict=True)


class Again:
    """Iterable as often as one likes, and nothing else."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


# --- loaders ----------------------------------------------------------------------------------------------------------


def test_fit_on_a_loader_equals_fit_on_a_split_bit_for_bit():
    assert same(trained(AsASplit(TRAIN, 16)), trained(TRAIN, batch_size=16))


@pytest.mark.parametrize("augment", [None, random_affine()], ids=["plain", "augmented"])
def test_distill_on_a_loader_equals_distill_on_a_split(augment):
    ours, theirs = taught(AsASplit(TRAIN, 16), augment=augment), taught(TRAIN, augment=augment, batch_size=16)
    for name, value in ours.items():  # the teacher's logits are computed in batches of another size
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-6)


def dataloader(seed=5, **options):
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(*TRAIN), batch_size=16, shuffle=True, generator=generator, **options)


def bare_loop(model, loader, targets, *, epochs, temperature=4.0, alpha=0.9):
    """Nothing but the steps of `distill`, or of `fit` without ``targets``, with PyTorch's own functions."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2, fused=True)
    steps, step = epochs * len(loader), 0
    model.train()
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.param_groups[0]["lr"] = 2e-3 * cosine(step / steps)
            step += 1
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            if targets is not None:
                with torch.no_grad():
                    log_q = F.log_softmax(targets(images) / temperature, dim=-1)
                log_p = F.log_softmax(logits / temperature, dim=-1)
                soft = temperature**2 * (log_q.exp() * (log_q - log_p)).sum(dim=-1).mean()
                loss = (1 - alpha) * loss + alpha * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize("with_teacher", [False, True], ids=["fit", "distill"])
def test_training_on_a_dataloader_equals_a_bare_loop_bit_for_bit(with_teacher):
    bare, source = student(dropout=0.0), teacher().eval()
    bare_loop(bare, dataloader(), source if with_teacher else None, epochs=2)
    ours = taught(dataloader(), source) if with_teacher else trained(dataloader())
    assert same(ours, weights(bare))


@pytest.mark.parametrize("with_teacher", [False, True], ids=["fit", "distill"])
@pytest.mark.parametrize("seed", [0, 3])
def test_training_on_a_split_equals_a_bare_loop_bit_for_bit(with_teacher, seed):
    logits = predict(teacher(), TRAIN.images)
    numbered = Split(TRAIN.images, torch.arange(40))  # the rows, to look the kept logits and the labels up

    class Rows(AsASplit):
        def __iter__(self):
            for images, rows in super().__iter__():
                self.rows = rows
                yield images, TRAIN.labels[rows]

    bare, loader = student(dropout=0.0), Rows(numbered, 16)
    torch.manual_seed(seed)
    bare_loop(bare, loader, (lambda images: logits[loader.rows]) if with_teacher else None, epochs=2, temperature=3.0)
    if with_teacher:
        ours = taught(TRAIN, logits, batch_size=16, seed=seed, temperature=3.0)
    else:
        ours = trained(TRAIN, batch_size=16, seed=seed)
    assert same(ours, weights(bare))


def test_a_shuffling_dataloader_repeats_with_the_seed_or_with_its_own_generator():
    def shuffled(**options):
        return trained(DataLoader(TensorDataset(*TRAIN), batch_size=16, shuffle=True), **options)

    torch.manual_seed(1)
    first = shuffled(seed=7)
    torch.manual_seed(2)
    assert same(shuffled(seed=7), first)
    assert not same(shuffled(seed=8), first)
    assert same(trained(dataloader(5), seed=1), trained(dataloader(5), seed=2))
    assert not same(trained(dataloader(6)), trained(dataloader(5)))


@pytest.mark.parametrize(
    "loader",
    [
        Again(BATCHES),
        DataLoader(Stream(), batch_size=16),
        tuple(map(tuple, BATCHES)),
        [list(batch) for batch in BATCHES],
        [{"input": images, "labels": labels} for images, labels in BATCHES],
        [({"input": images}, labels) for images, labels in BATCHES],
        [((images,), labels) for images, labels in BATCHES],
        [([images], labels) for images, labels in BATCHES],
        [Split(*batch) for batch in BATCHES],
    ],
    ids=["no length", "a stream", "tuples", "lists", "dicts", "named inputs", "tuples of inputs", "lists of inputs",
         "splits"],
)  # fmt: skip
def test_every_form_of_loader_trains_alike(loader):
    assert same(trained(loader), trained(BATCHES))
    assert same(taught(loader), taught(BATCHES))
    model = student()
    assert evaluate(model, loader) == evaluate(model, BATCHES)
    assert torch.equal(predict(model, loader), predict(model, BATCHES))


@pytest.mark.parametrize(
    "form", [lambda x: x, lambda x: (x,), lambda x: [x], lambda x: {"input": x}, lambda x: ({"input": x}, None)]
)
def test_labels_may_be_absent_where_nothing_needs_them(form):
    unlabelled = [form(images) for images, labels in BATCHES]
    assert same(taught(unlabelled, alpha=1.0), taught(BATCHES, alpha=1))
    shrink = {"loss": lambda logits, labels: logits.square().mean()}
    assert same(trained(unlabelled, **shrink), trained(BATCHES, **shrink))
    with pytest.raises(TypeError, match="labels are needed"):
        trained(unlabelled)
    with pytest.raises(TypeError, match="labels are needed"):
        taught(unlabelled, alpha=lambda done: 1 - done)


def test_two_inputs_go_in_together_by_place_or_by_name():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp((8,))

        def forward(self, left, right):
            return self.inner(left + 2 * right)

    by_place = [((x, x), y) for x, y in BATCHES]
    by_name = [{"right": x, "left": x, "labels": y} for x, y in BATCHES]
    found = trained(by_place, model=Sum())
    assert same(found, trained(by_name, model=Sum()))
    once = trained([(3 * x, y) for x, y in BATCHES], model=mlp((8,)))
    for name, value in once.items():
        torch.testing.assert_close(found[f"inner.{name}"], value, rtol=0, atol=1e-5)


def test_packed_sequences_go_in_whole():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.cell, self.out = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, sequences):
            return self.out(self.cell(sequences)[1][-1])

    whole, labels = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    packed = pack_padded_sequence(whole, torch.full((6,), 5), batch_first=True)
    found = trained([(packed, labels)], model=Recurrent())
    for name, value in trained([(whole, labels)], model=Recurrent()).items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)
    assert evaluate(Recurrent(), [(packed, labels)]).accuracy == evaluate(Recurrent(), [(whole, labels)]).accuracy


def test_the_history_weighs_each_batch_by_its_examples():
    model = student(dropout=0.0)
    history = fit(model, BATCHES, learning_rate=0.0, **ONCE)  # 16, 16 and 8
    expected = F.cross_entropy(predict(model, TRAIN.images), TRAIN.labels).item()
    assert history.train_loss == pytest.approx([expected], rel=1e-5)


def test_validation_may_be_a_loader_and_does_not_change_the_training():
    loader = DataLoader(TensorDataset(*TRAIN), batch_size=7)  # each pass draws a seed for workers
    model = student()
    history = fit(model, TRAIN, validation=loader, **QUIET)
    assert history.validation_accuracy[-1] == evaluate(model, TRAIN).accuracy
    assert same(weights(model), trained(TRAIN, model=student(), batch_size=16))


def endless():
    while True:
        yield from BATCHES


def test_steps_per_epoch_takes_that_many_batches_from_a_loader_without_end():
    assert same(trained(endless(), steps_per_epoch=3), trained(BATCHES))
    assert len(fit(student(), endless(), steps_per_epoch=5, **TWICE).train_loss) == 2


def test_progress_runs_from_zero_to_one_by_batches():
    seen = []
    trained(Again(BATCHES), before_step=seen.append)
    assert seen == [step / 6 for step in range(6)]


class Claiming(Again):
    def __init__(self, items, length):
        super().__init__(items)
        self.length = length

    def __len__(self):
        return self.length


class OneByOne(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, row):
        return TRAIN.images[row], TRAIN.labels[row]


WRONG = {
    "a generator": ((batch for batch in BATCHES), TypeError, "generator can be read only once"),
    "an empty list": ([], ValueError, "loader is empty"),
    "an empty stream": (Again([]), ValueError, "loader is empty"),
    "fewer than it said": (Claiming(BATCHES, 4), ValueError, "gave 3 batches in an epoch that needs 4"),
    "more than it said": (Claiming(BATCHES, 2), ValueError, "has 2 batches, and gave one more"),
    "a tensor": (TRAIN.images, TypeError, "a tensor is not a loader"),
    "two tensors": (tuple(TRAIN), TypeError, r"pass Split\(inputs, labels\)"),
    "a dataset": (TensorDataset(*TRAIN), TypeError, "wrap it, DataLoader"),
    "three splits": (Mnist(TRAIN, TRAIN, TRAIN), TypeError, "digits.train"),
    "a name": ("train", TypeError, "DataLoader"),
    "nothing": (None, TypeError, "DataLoader"),
    "examples one by one": (DataLoader(OneByOne(), batch_size=None), ValueError, "single example"),
    "arrays": ([TRAIN.images.numpy()], TypeError, "the loader gave a ndarray"),
    "triples": ([(TRAIN.images, TRAIN.labels, TRAIN.labels)], TypeError, "the loader gave a tuple of 3"),
    "labels alone": ([{"labels": TRAIN.labels}], TypeError, "the loader gave a dict of 1"),
    "too few labels": ([(TRAIN.images, TRAIN.labels[1:])], ValueError, "40 inputs has 39 labels"),
    "inputs of two lengths": ([{"x": TRAIN.images, "y": TRAIN.labels[1:]}], ValueError, "one length"),
    "an empty batch": ([(TRAIN.images[:0], TRAIN.labels[:0])], ValueError, "empty batch"),
    "a list of labels": ([(TRAIN.images, TRAIN.labels.tolist())], TypeError, "int64 tensor .* got list"),
    "float labels": ([(TRAIN.images, TRAIN.labels.float())], TypeError, "int64 tensor .* got torch.float32"),
    "int32 labels": ([(TRAIN.images, TRAIN.labels.int())], TypeError, "int64 tensor .* got torch.int32"),
    "an eleventh class": ([(TRAIN.images, TRAIN.labels + 1)], ValueError, r"labels must lie in \[0, 9\]"),
    "a class below zero": ([(TRAIN.images, TRAIN.labels - 1)], ValueError, r"labels must lie in \[0, 9\]"),
    "labels of another shape": ([(TRAIN.images, TRAIN.labels[:, None])], ValueError, r"\(40, 1\)"),
}


@pytest.mark.parametrize("run", [trained, taught], ids=["fit", "distill"])
@pytest.mark.parametrize("name", WRONG)
def test_a_loader_of_another_form_is_refused_before_any_step(name, run):
    data, kind, message = WRONG[name]
    model = student()
    before = weights(model)
    with pytest.raises(kind, match=message):
        run(data, model=model, epochs=1)
    if "it said" not in name:
        assert same(weights(model), before)
    if "it said" not in name and name not in ("a generator", "an eleventh class"):
        with pytest.raises(kind, match=message):
            evaluate(model, data)


def test_a_generator_with_a_known_length_is_refused_at_the_second_epoch():
    assert len(fit(student(), iter(BATCHES), steps_per_epoch=3, **ONCE).train_loss) == 1
    with pytest.raises(ValueError, match="nothing left for another epoch: a generator can be read only once"):
        trained(iter(BATCHES), steps_per_epoch=3)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (BATCHES, {"batch_size": 16}, "a loader makes its own batches"),
        (BATCHES, {"drop_last": True}, "a loader makes its own batches"),
        (TRAIN, {"steps_per_epoch": 3}, "steps_per_epoch is for loaders"),
        (TRAIN, {"drop_last": True, "batch_size": 41}, "leaves nothing of 40 images"),
        (BATCHES, {"steps_per_epoch": 0}, "steps_per_epoch must be >= 1"),
        (TRAIN, {"clip_norm": 0.0}, "clip_norm must be a finite number > 0"),
        (TRAIN, {"clip_norm": math.nan}, "clip_norm must be a finite number > 0"),
        (TRAIN, {"validation": Split(TRAIN.images, TRAIN.labels[1:])}, "40 images and 39 labels"),
    ],
)
def test_options_that_do_not_go_with_the_data_are_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        trained(data, **options)


@pytest.mark.parametrize("run", [trained, taught], ids=["fit", "distill"])
def test_an_unknown_or_missing_option_is_named_with_the_public_function(run):
    name = "fit" if run is trained else "distill"
    with pytest.raises(
        TypeError,
        match=rf"{name}\(\) got an unexpected keyword argument 'learning_rates': its options are .*learning_rate",
    ):
        run(TRAIN, learning_rates=0.1)
    with pytest.raises(TypeError, match=rf"{name}\(\) missing 1 required keyword-only argument: 'epochs'"):
        {"fit": fit, "distill": partial(distill, student())}[name](student(), TRAIN)


def test_bare_logits_for_a_loader_are_refused():
    with pytest.raises(ValueError, match="pass the network, not its logits"):
        taught(BATCHES, torch.zeros(40, 10))
