"""The loops on what is no `Split`: loaders in every form, logits of every rank, outputs that are no tensor."""

import copy
import math
from collections import OrderedDict, namedtuple
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from test_training import QUIET, TRAIN, same, student, teacher, weights
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from kdcourse import losses
from kdcourse.data import Mnist, Split, random_affine
from kdcourse.models import conv_net, mlp
from kdcourse.training import constant, cosine, distill, evaluate, fit, predict

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
    "a tensor": (TRAIN.images, TypeError, "a tensor is no loader"),
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
    with pytest.raises(TypeError, match=rf"{name}\(\) has no option 'learning_rates'; it has .*learning_rate"):
        run(TRAIN, learning_rates=0.1)
    with pytest.raises(TypeError, match=rf"{name}\(\) needs epochs="):
        {"fit": fit, "distill": partial(distill, student())}[name](student(), TRAIN)


def test_bare_logits_for_a_loader_are_refused():
    with pytest.raises(ValueError, match="pass the network, not its logits"):
        taught(BATCHES, torch.zeros(40, 10))


# --- logits of any rank -----------------------------------------------------------------------------------------------


class PositionWise(nn.Module):
    """Logits (N, L, C) from indices (N, L), L = C."""

    def __init__(self, classes=7):
        super().__init__()
        torch.manual_seed(classes)
        self.embed, self.out = nn.Embedding(classes, 8), nn.Linear(8, classes)

    def forward(self, ids):
        return self.out(self.embed(ids))


class Flattened(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, ids):
        return self.inner(ids).flatten(0, -2)


def sequences(count=24, length=7):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(7, (count, length), generator=generator), torch.randint(
        7, (count, length), generator=generator
    )


IDS, NEXT = sequences()
PLAIN = {"epochs": 3, "learning_rate": 0.01, "progress": False}


def flat_batches(labels=NEXT):
    """The same positions as rows: a loader whose labels are flat already."""
    return [({"ids": ids}, wanted.flatten()) for ids, wanted in zip(IDS.split(8), labels.split(8), strict=True)]


def batches(labels=NEXT):
    return list(zip(IDS.split(8), labels.split(8), strict=True))


@pytest.mark.parametrize("classifier", [F.cross_entropy, nn.CrossEntropyLoss(), partial(F.cross_entropy)])
def test_fit_takes_the_last_dimension_for_the_classes(classifier):
    ours, theirs = PositionWise(), Flattened(PositionWise())
    fit(ours, batches(), loss=classifier, **PLAIN)
    fit(theirs, flat_batches(), **PLAIN)
    assert same(weights(ours), weights(theirs.inner))


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_distill_takes_the_last_dimension_for_the_classes(alpha):
    ours, theirs, source = PositionWise(), Flattened(PositionWise()), PositionWise(7)
    nn.init.normal_(source.out.weight)
    distill(ours, source, batches(), alpha=alpha, **PLAIN)
    distill(theirs, Flattened(source), flat_batches(), alpha=alpha, **PLAIN)
    assert same(weights(ours), weights(theirs.inner))
    kept = PositionWise()
    distill(kept, predict(source, IDS), Split(IDS, NEXT), alpha=alpha, **PLAIN | {"batch_size": 8})
    assert not same(weights(kept), weights(PositionWise()))


def test_evaluate_and_predict_take_any_rank():
    model = PositionWise()
    logits = predict(model, IDS)
    assert logits.shape == (24, 7, 7)
    for data in (Split(IDS, NEXT), batches()):
        found = evaluate(model, data)
        assert found.accuracy == (logits.argmax(-1) == NEXT).double().mean().item()
        assert found.cross_entropy == pytest.approx(F.cross_entropy(logits.flatten(0, 1), NEXT.flatten()).item())


def masked():
    """Labels of which a third are left out, and one row wholly."""
    labels = NEXT.masked_fill(torch.arange(24 * 7).reshape(24, 7) % 3 == 0, -100)
    labels[5] = -100
    return labels


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("split", [False, True], ids=["loader", "split"])
def test_positions_labelled_minus_100_count_in_no_term(alpha, split):
    labels, source = masked(), PositionWise(7)
    nn.init.normal_(source.out.weight)
    data = Split(IDS, labels) if split else [(IDS, labels)]
    ours, theirs = PositionWise(), PositionWise()
    distill(ours, source, data, alpha=alpha, schedule=constant, **ONCE)
    # one step by hand in float64, on the positions that are left
    theirs, kept = theirs.double(), labels != -100
    logits, soft = theirs(IDS)[kept], source.double()(IDS)[kept].detach()
    log_p, log_q = (logits / 4).log_softmax(-1), (soft / 4).log_softmax(-1)
    loss = alpha * 16 * (log_q.exp() * (log_q - log_p)).sum(-1).mean()
    if alpha < 1:
        loss = loss + (1 - alpha) * F.cross_entropy(logits, labels[kept])
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=2e-3)
    loss.backward()
    optimizer.step()
    for name, value in weights(theirs).items():
        torch.testing.assert_close(ours.state_dict()[name].double(), value, rtol=0, atol=2e-5)
    scores = evaluate(ours, data)
    assert scores.accuracy == (predict(ours, IDS).argmax(-1) == labels)[kept].double().mean().item()


def test_what_stands_where_no_label_is_does_not_matter():
    labels = masked()
    logits = torch.randn(24, 7, 7, generator=torch.Generator().manual_seed(0))
    broken = logits.masked_fill((labels == -100).unsqueeze(-1), math.nan)
    found = []
    for targets in (logits, broken):
        model = PositionWise()
        distill(model, targets, Split(IDS, labels), **PLAIN)
        found.append(weights(model))
    assert same(*found)


def test_a_batch_without_any_label_is_refused():
    nothing = torch.full_like(NEXT, -100)
    for run in (fit, lambda model, data, **options: distill(model, PositionWise(), data, **options)):
        with pytest.raises(ValueError, match="no position of a batch is left"):
            run(PositionWise(), [(IDS, nothing)], **ONCE)


def test_classes_that_cannot_be_for_the_teacher_add_nothing():
    generator = torch.Generator().manual_seed(0)
    logits, impossible = torch.randn(40, 10, generator=generator), torch.rand(40, 10, generator=generator) < 0.3
    found = []
    for low in (-math.inf, -1e4):
        model = student(dropout=0.0)
        distill(model, logits.masked_fill(impossible, low), TRAIN, **QUIET)
        found.append(weights(model))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=0, atol=1e-5)


def test_labels_that_are_probabilities_are_taken_as_pytorch_does():
    soft = torch.rand(40, 10, generator=torch.Generator().manual_seed(0)).softmax(-1)
    model = student(dropout=0.0)
    history = fit(model, Split(TRAIN.images, soft), learning_rate=0.0, **ONCE)
    assert history.train_loss[0] == pytest.approx(F.cross_entropy(predict(model, TRAIN.images), soft).item())


def test_a_network_with_one_output_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 1))
    with pytest.raises(ValueError, match="a single class"):
        fit(model, Split(TRAIN.images, torch.zeros(40, dtype=torch.int64)), **ONCE)


# --- outputs that are no tensor ---------------------------------------------------------------------------------------


class Returning(nn.Module):
    """A network that wraps its logits."""

    def __init__(self, wrap, inner=None):
        super().__init__()
        self.inner, self.wrap = student(dropout=0.0) if inner is None else inner, wrap

    def forward(self, x):
        return self.wrap(self.inner(x))


Named = namedtuple("Named", "logits hidden")
Inception = namedtuple("Inception", "logits aux_logits")
PLAIN_LOGITS = {
    "a dict": lambda logits: {"logits": logits, "hidden": None},
    "a model output": lambda logits: OrderedDict(logits=logits, past=(1, 2)),
    "a named tuple": lambda logits: Named(logits, 0),
    "an object": lambda logits: SimpleNamespace(logits=logits),
}
DOUBTFUL = {
    "a tuple": lambda logits: (logits, 0),
    "a list": lambda logits: [logits],
    "a dict of another name": lambda logits: {"scores": logits},
    "two kinds of logits": lambda logits: Inception(logits, logits),
    "several heads": lambda logits: {"logits": logits, "cls_logits": logits},
    "a number": lambda logits: 0.5,
}


@pytest.mark.parametrize("name", PLAIN_LOGITS)
def test_logits_are_picked_where_there_is_no_doubt(name):
    model = Returning(PLAIN_LOGITS[name])
    found = trained(TRAIN, model=model)
    assert same(weights(model.inner), trained(TRAIN))
    assert same(taught(TRAIN, Returning(PLAIN_LOGITS[name], teacher())), taught(TRAIN))
    assert torch.equal(predict(model, TRAIN.images), predict(model.inner, TRAIN.images))
    assert evaluate(model, TRAIN) == evaluate(model.inner, TRAIN)
    assert len(found) == len(weights(model.inner))


@pytest.mark.parametrize("name", DOUBTFUL)
@pytest.mark.parametrize("data", [TRAIN, BATCHES], ids=["split", "loader"])
def test_other_outputs_are_refused_naming_the_option_that_helps(name, data):
    wrap = DOUBTFUL[name]
    with pytest.raises(TypeError, match="the student's output is .* pass output="):
        trained(data, model=Returning(wrap))
    with pytest.raises(TypeError, match="the teacher's output is .* pass teacher_output="):
        taught(data, Returning(wrap, teacher()))
    with pytest.raises(TypeError, match="pass output="):
        evaluate(Returning(wrap), data)
    with pytest.raises(TypeError, match="pass output="):
        predict(Returning(wrap), TRAIN.images, output=lambda out: "logits")


def first(out):
    return out[0]


@pytest.mark.parametrize("data", [TRAIN, BATCHES], ids=["split", "loader"])
def test_output_picks_the_logits_of_both_and_teacher_output_those_of_the_teacher(data):
    pair = DOUBTFUL["a tuple"]
    expected = taught(data)
    both = Returning(pair)
    distill(both, Returning(pair, teacher()), data, output=first, validation=data, **TWICE)
    assert same(weights(both.inner), expected)
    assert same(taught(data, Returning(pair, teacher()), teacher_output=first), expected)
    alone = Returning(pair)
    distill(alone, teacher(), data, output=first, teacher_output=lambda out: out, **TWICE)
    assert same(weights(alone.inner), expected)
    assert evaluate(alone, data, output=first) == evaluate(alone.inner, data)


def test_output_may_move_the_classes_to_the_last_dimension():
    # logits (N, C, L), as convolutions give them
    model, plain = Returning(lambda logits: logits.transpose(1, 2), PositionWise()), PositionWise()
    fit(model, batches(), output=lambda out: out.transpose(1, 2), **PLAIN)
    fit(plain, batches(), **PLAIN)
    assert same(weights(model.inner), weights(plain))


def test_whole_numbers_are_no_logits():
    with pytest.raises(TypeError, match="must be floating point"):
        trained(TRAIN, model=Returning(lambda logits: logits.argmax(-1, keepdim=True)))


# --- the teacher ------------------------------------------------------------------------------------------------------


class WithoutParameters(nn.Module):
    def forward(self, x):
        return 4 * x.flatten(1)[:, :10]


@pytest.mark.parametrize("data", [TRAIN, BATCHES], ids=["split", "loader"])
def test_a_teacher_without_parameters_teaches(data):
    logits = WithoutParameters()(TRAIN.images)
    assert torch.equal(predict(WithoutParameters(), TRAIN.images), logits)
    ours = taught(data, WithoutParameters())
    theirs = taught(data, WithoutParameters()) if data is BATCHES else taught(data, logits)
    assert same(ours, theirs)
    assert not same(ours, taught(data))


def broken_teacher(value=math.nan):
    model = mlp((8,), seed=1)
    nn.init.constant_(model.classes.bias, value)
    return model


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("data", "options"),
    [
        (TRAIN, {}),
        (TRAIN, {"augment": lambda images: images}),
        (BATCHES, {}),
        (BATCHES, {"loss": losses.distillation_loss}),
        (BATCHES, {"loss": lambda logits, soft, labels, temperature, alpha: (logits - soft).square().mean()}),
    ],
    ids=["split", "augmented", "loader", "public loss", "own loss"],
)
def test_a_teacher_that_is_no_longer_a_number_is_named(value, data, options):
    with pytest.raises(ValueError, match=r"(the teacher's logits contain|teacher_logits contains) NaN"):
        taught(data, broken_teacher(value), **options)


@pytest.mark.parametrize(
    ("value", "message"), [(math.nan, "teacher's logits contain NaN"), (-math.inf, "contain -inf")]
)
def test_a_teacher_that_breaks_down_later_is_named_too(value, message):
    class Later(nn.Module):
        calls = 0

        def forward(self, x):
            Later.calls += 1
            return torch.zeros(len(x), 10).index_fill(1, torch.tensor([3]), value if Later.calls == 3 else 0.0)

    with pytest.raises(ValueError, match=message):
        taught(BATCHES, Later())


def test_a_student_that_is_no_number_is_named_before_the_first_step():
    for run in (trained, taught):
        with pytest.raises(ValueError, match="student's logits contain NaN or infinity before the first step"):
            run(TRAIN, model=broken_teacher())


@pytest.mark.parametrize("wrong", [lambda images: images, "teacher", None])
def test_a_teacher_that_is_no_network_is_refused(wrong):
    with pytest.raises(TypeError, match="must be a network"):
        distill(student(), wrong, TRAIN, **QUIET)


def headed(backbone, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), backbone, nn.ReLU(), nn.Linear(12, 10))


@pytest.mark.parametrize("data", [TRAIN, BATCHES], ids=["split", "loader"])
def test_what_student_and_teacher_share_must_not_be_trained(data):
    backbone = nn.Linear(784, 12)
    with pytest.raises(ValueError, match=r"share 1.weight, 1.bias: the teacher would change"):
        distill(headed(backbone, 0), headed(backbone, 1), data, **TWICE)
    model = student()
    with pytest.raises(ValueError, match="share .* and more: the teacher would change"):
        distill(model, model, data, **TWICE)
    copied = nn.Linear(784, 12)
    copied.weight = nn.Parameter(backbone.weight.data)  # another parameter, the same numbers
    with pytest.raises(ValueError, match=r"share 1.weight: "):
        distill(headed(copied, 0), headed(backbone, 1), data, **TWICE)
    norm = nn.BatchNorm1d(12, affine=False)
    with pytest.raises(ValueError, match=r"share 1.0.running_mean"):
        distill(headed(nn.Sequential(norm, nn.Linear(784, 12)), 0), headed(norm, 1), data, **TWICE)


@pytest.mark.parametrize("data", [TRAIN, BATCHES], ids=["split", "loader"])
def test_a_frozen_part_may_be_shared_and_the_teacher_still_runs_in_eval_mode(data):
    backbone = nn.Sequential(nn.Linear(784, 12), nn.BatchNorm1d(12)).eval().requires_grad_(False)
    drop = nn.Dropout(0.5)
    learner, source = headed(backbone, 0), nn.Sequential(*headed(backbone, 1)[:3], drop, nn.Linear(12, 10))
    learner.insert(3, drop)  # shared, and on for the student alone
    modes, before = [], weights(source)
    source[4].register_forward_pre_hook(lambda layer, inputs: modes.append((drop.training, backbone.training)))
    learner[4].register_forward_pre_hook(lambda layer, inputs: modes.append((drop.training, backbone.training)))
    distill(learner, source, data, **TWICE)
    assert (True, False) in modes  # the student's turns
    assert (False, False) in modes  # the teacher's
    assert same(weights(source), before)
    assert learner[4].weight.grad is not None
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_threads_may_distil_from_one_teacher_at_once():
    from threading import Thread

    def one(seed, data, source, found):
        model = mlp((8,), seed=seed, dropout=0.2)
        distill(model, source, data, seed=seed, **{**TWICE, "epochs": 1 + 3 * seed})
        found[seed] = weights(model)

    source, expected, found = teacher().train(), {}, {}
    source.norm2.eval()
    source.conv1.weight.requires_grad_(False)
    before, modes = weights(source), [module.training for module in source.modules()]
    for seed in range(3):
        one(seed, BATCHES, source, expected)
    threads = [Thread(target=one, args=(seed, BATCHES, source, found)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(found[seed], expected[seed]) for seed in range(3))
    assert same(weights(source), before)
    assert [module.training for module in source.modules()] == modes
    assert [name for name, each in source.named_parameters() if not each.requires_grad] == ["conv1.weight"]


# --- the student's own -----------------------------------------------------------------------------------------------


def test_parameters_that_take_no_gradient_stay_and_are_not_in_the_optimizer():
    seen, model = [], student(dropout=0.0)
    model.linear1.requires_grad_(False)
    before = weights(model)
    trained(
        TRAIN, model=model, optimizer=lambda parameters: seen.extend(parameters) or torch.optim.SGD(parameters, 1.0)
    )
    assert [id(each) for each in seen] == [id(each) for each in model.classes.parameters()]
    assert torch.equal(model.linear1.weight, before["linear1.weight"])
    assert not torch.equal(model.classes.weight, before["classes.weight"])


def test_frozen_batch_norms_in_eval_mode_keep_their_statistics_and_others_do_not():
    model = conv_net((4, 4, 4), seed=1)
    model.norm1.eval().requires_grad_(False)
    model.norm2.requires_grad_(False)  # in train mode
    model.norm3.eval()  # takes a gradient
    before = weights(model)
    fit(model, TRAIN, validation=TRAIN, **QUIET)
    moved = [
        name for name, value in weights(model).items() if "running" in name and not torch.equal(value, before[name])
    ]
    assert {name.split(".")[0] for name in moved} == {"norm2", "norm3"}


def test_a_student_given_in_eval_mode_is_trained_in_train_mode():
    assert same(trained(TRAIN, model=student().eval()), trained(TRAIN, model=student().train()))


def test_tied_weights_are_one_parameter():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.out = nn.Embedding(7, 8), nn.Linear(8, 7, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, ids):
            return self.out(self.embed(ids))

    model, hand = Tied(), Tied()
    fit(model, [(IDS, NEXT)], schedule=constant, optimizer=lambda parameters: torch.optim.SGD(parameters, 0.5), **ONCE)
    F.cross_entropy(hand(IDS).flatten(0, 1), NEXT.flatten()).backward()
    assert model.out.weight is model.embed.weight
    torch.testing.assert_close(model.out.weight, hand.embed.weight - 0.5 * hand.embed.weight.grad)


def test_a_network_with_nothing_to_train_is_refused():
    for model in (WithoutParameters(), student().requires_grad_(False)):
        for run in (trained, taught):
            with pytest.raises(ValueError, match="nothing to train"):
                run(TRAIN, model=model)


def test_a_part_that_is_unfrozen_in_the_middle_is_refused():
    model = student(dropout=0.0)
    model.linear1.requires_grad_(False)
    with pytest.raises(ValueError, match="linear1.weight takes a gradient only since the run began"):
        trained(TRAIN, model=model, before_step=lambda done: model.requires_grad_(True))


def test_a_loss_that_does_not_depend_on_the_student_or_is_no_number_is_refused():
    with pytest.raises(ValueError, match="does not depend on the student"):
        trained(TRAIN, loss=lambda logits, labels: labels.float().mean())
    with pytest.raises(TypeError, match=r"0-d tensor, the mean over the batch, got shape \(40, 10\)"):
        trained(TRAIN, loss=lambda logits, labels: logits)
    with pytest.raises(TypeError, match="got float"):
        trained(TRAIN, loss=lambda logits, labels: 1.0)


def test_training_goes_on_where_the_caller_has_gradients_switched_off():
    with torch.no_grad():
        found = taught(TRAIN)
    assert same(found, taught(TRAIN))


# --- steps ------------------------------------------------------------------------------------------------------------


def test_an_optimizer_of_ones_own_takes_the_steps_and_the_schedule_multiplies_each_groups_rate():
    rates = []

    class Noting(torch.optim.SGD):
        def step(self, closure=None):
            rates.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    def two_groups(parameters):
        return Noting([{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.5}], lr=2.0)

    trained(TRAIN, optimizer=two_groups, batch_size=16, schedule=lambda done: 1 - done)
    assert rates == [[2.0 * (1 - step / 6), 0.5 * (1 - step / 6)] for step in range(6)]


def test_sgd_of_one_step_worked_by_hand():
    model, hand = student(dropout=0.0), student(dropout=0.0)
    fit(model, TRAIN, optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1), schedule=constant, **ONCE)
    F.cross_entropy(hand(TRAIN.images), TRAIN.labels).backward()
    for one, two in zip(model.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(one, two - 0.1 * two.grad, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"optimizer": torch.optim.SGD, "learning_rate": 0.1}, ValueError, "give them to the optimizer"),
        ({"optimizer": torch.optim.SGD, "weight_decay": 0.1}, ValueError, "give them to the optimizer"),
        ({"optimizer": lambda parameters: "SGD"}, TypeError, "must return a torch.optim.Optimizer, got str"),
        ({"optimizer": lambda parameters: torch.optim.SGD(teacher().parameters())}, ValueError, "holds no parameter"),
    ],
)  # fmt: skip
def test_an_optimizer_that_cannot_be_is_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        trained(TRAIN, **options)


@pytest.mark.parametrize("norm", [0.05, 1e6])
def test_the_gradient_is_clipped_to_its_norm_over_all_parameters(norm):
    model, hand = student(dropout=0.0), student(dropout=0.0)
    options = {"optimizer": lambda parameters: torch.optim.SGD(parameters, 1.0), "schedule": constant}
    fit(model, TRAIN, clip_norm=norm, **options, **ONCE)
    F.cross_entropy(hand(TRAIN.images), TRAIN.labels).backward()
    whole = math.sqrt(sum(each.grad.double().square().sum().item() for each in hand.parameters()))
    assert whole > 0.05
    for one, two in zip(model.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(one, two - min(1, norm / whole) * two.grad, rtol=0, atol=1e-5)


def test_drop_last_leaves_the_smaller_batch_out():
    sizes, model = [], student()
    model.register_forward_pre_hook(lambda layer, inputs: sizes.append(len(inputs[0])))
    history = fit(model, TRAIN, drop_last=True, schedule=lambda done: 0.0, loss=lambda z, y: z.sum() * 0 + 3, **QUIET)
    assert sizes == [16, 16] * 2
    assert history.train_loss == [3, 3]
    assert same(trained(TRAIN, batch_size=20, drop_last=True), trained(TRAIN, batch_size=20))


def test_on_epoch_is_called_after_each_epoch_and_may_end_the_run():
    seen, model = [], student()

    def note(epoch, history):
        seen.append((epoch, len(history.train_loss), len(history.validation_accuracy), model.training))
        torch.rand(7)  # a report may draw: the training does not
        return epoch == 2

    history = fit(model, TRAIN, **QUIET | {"epochs": 9}, on_epoch=note, validation=TRAIN)
    assert [entry[:3] for entry in seen] == [(0, 1, 1), (1, 2, 2), (2, 3, 3)]
    assert len(history.train_loss) == 3
    assert not model.training
    by_itself, quiet = student(), student()
    fit(by_itself, TRAIN, **QUIET, on_epoch=lambda epoch, history: torch.rand(1).item() > 2)
    fit(quiet, TRAIN, **QUIET)
    assert same(weights(by_itself), weights(quiet))


@pytest.mark.parametrize("answer", [0.93, "stop", 1])
def test_on_epoch_that_answers_neither_yes_nor_no_is_refused(answer):
    with pytest.raises(TypeError, match="on_epoch must return True to end the run"):
        trained(TRAIN, on_epoch=lambda epoch, history: answer)


# --- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": lambda done: 2 + 3 * math.cos(4 * math.pi * done)}, "temperature must be a finite number > 0"),
        ({"temperature": lambda done: 0.0 if done == 0.25 else 4.0}, "temperature .* got 0.0, after 25.0%"),
        ({"temperature": lambda done: math.nan if done == 0.25 else 4.0}, "temperature .* got nan, after 25.0%"),
        ({"alpha": lambda done: 0.5 - 2 * math.sin(2 * math.pi * done)}, r"alpha must lie in \[0, 1\]"),
        (
            {"schedule": lambda done: math.nan if done == 0.25 else 1.0},
            "schedule must be a finite number >= 0, got nan",
        ),
        ({"schedule": lambda done: -1.0 if done == 0.25 else 1.0}, "schedule must be a finite number >= 0, got -1.0"),
        (
            {"schedule": lambda done: math.inf if done == 0.25 else 1.0},
            "schedule must be a finite number >= 0, got inf",
        ),
    ],
)
def test_a_schedule_is_checked_at_every_step_that_uses_it(options, message):
    steps = []
    with pytest.raises(ValueError, match=message):
        taught(TRAIN, batch_size=10, before_step=steps.append, **options)
    assert 2 <= len(steps) <= 3  # the middle and the ends are in order


@pytest.mark.parametrize("name", ["temperature", "alpha", "schedule"])
def test_a_schedule_that_gives_no_number_is_refused(name):
    with pytest.raises(TypeError, match=f"{name} must be a number, got None after 0.0% of the training"):
        taught(TRAIN, **{name: lambda done: None})


@pytest.mark.parametrize("schedule", [cosine, constant])
def test_the_only_step_of_a_run_does_something(schedule):
    assert not same(trained(TRAIN, epochs=1, schedule=schedule), weights(student(dropout=0.0)))


# --- half precision ---------------------------------------------------------------------------------------------------


def close_pair():
    """A student that is near its teacher: the loss is a small difference of large numbers."""
    torch.manual_seed(0)
    source = nn.Linear(64, 1000)
    model = copy.deepcopy(source)
    with torch.no_grad():
        model.weight += 0.005 * torch.randn_like(model.weight)
    return model, source, Split(torch.randn(256, 64), torch.randint(1000, (256,)))


STILL = {**ONCE, "batch_size": 256, "schedule": lambda done: 0.0}


@pytest.mark.parametrize("as_loader", [False, True], ids=["split", "loader"])
@pytest.mark.parametrize("loss", [None, losses.distillation_loss], ids=["default", "public"])
def test_autocast_gives_the_loss_of_float32(loss, as_loader):
    model, source, data = close_pair()
    true = distill(copy.deepcopy(model), source, data, alpha=1.0, **STILL).train_loss[0]
    given, options = ([data], {"schedule": STILL["schedule"], **ONCE}) if as_loader else (data, STILL)
    with torch.autocast("cpu", torch.bfloat16):
        found = distill(model, source, given, alpha=1.0, loss=loss, **options).train_loss[0]
    assert found == pytest.approx(true, rel=0.05)


def test_bfloat16_weights_give_the_loss_of_float32():
    model, source, data = close_pair()
    half = Split(data.images.bfloat16(), data.labels)
    model, source = model.bfloat16(), source.bfloat16()
    as_float = [copy.deepcopy(each).float() for each in (model, source)]
    true = distill(*as_float, Split(half.images.float(), data.labels), alpha=1.0, **STILL).train_loss[0]
    assert distill(model, source, half, alpha=1.0, **STILL).train_loss[0] == pytest.approx(true, rel=0.05)
    assert model.weight.dtype == torch.bfloat16
    assert evaluate(model, half).cross_entropy == pytest.approx(
        evaluate(as_float[0], Split(half.images.float(), data.labels)).cross_entropy, abs=0.01
    )
    assert predict(model, half.images).dtype == torch.float32


def test_under_autocast_every_step_sees_the_weights_of_the_last():
    bare, ours = student(dropout=0.0), student(dropout=0.0)
    optimizer = torch.optim.AdamW(bare.parameters(), lr=0.01, weight_decay=0.01, fused=True)
    for _ in range(6):
        optimizer.param_groups[0]["lr"] = 0.01
        with torch.autocast("cpu", torch.bfloat16):
            logits = bare.train()(TRAIN.images)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), TRAIN.labels).backward()
        optimizer.step()
    with torch.autocast("cpu", torch.bfloat16):
        fit(ours, [TRAIN], epochs=6, learning_rate=0.01, schedule=constant, progress=False)
        assert torch.is_autocast_cache_enabled()
    assert same(weights(ours), weights(bare))


def test_float16_under_autocast_has_its_gradients_scaled_into_range():
    torch.manual_seed(0)
    x, y = torch.randn(64, 16), torch.randint(4, (64,))
    tiny = {"loss": lambda logits, labels: 1e-6 * F.cross_entropy(logits, labels), "schedule": constant}
    sgd = {"optimizer": lambda parameters: torch.optim.SGD(parameters, 1e5)}
    full, half = (nn.Linear(16, 4), nn.Linear(16, 4))
    half.load_state_dict(full.state_dict())
    start = copy.deepcopy(full)
    fit(full, [(x, y)], **tiny, **sgd, **ONCE)
    with torch.autocast("cpu", torch.float16):
        fit(half, [(x, y)], clip_norm=1.0, **tiny, **sgd, **ONCE)
    moved = full.weight - start.weight
    assert moved.abs().max() > 0.01
    torch.testing.assert_close(half.weight - start.weight, moved, rtol=0.02, atol=1e-4)


def test_float16_weights_are_refused():
    with pytest.raises(TypeError, match="float16 weights cannot be trained"):
        trained(Split(TRAIN.images.half(), TRAIN.labels), model=student().half())


def test_float64_stays_float64():
    model = student(dropout=0.0).double()
    history = fit(model, Split(TRAIN.images.double(), TRAIN.labels), learning_rate=0.0, **ONCE)
    assert model.classes.weight.dtype == torch.float64
    assert history.train_loss[0] == pytest.approx(F.cross_entropy(model(TRAIN.images.double()), TRAIN.labels).item())


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), torch.device("cpu", 0)])
def test_a_device_is_a_name_or_a_torch_device(device):
    assert same(trained(TRAIN, device=device), trained(TRAIN))
    assert same(taught(TRAIN, device=device), taught(TRAIN))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_whatever_lies_elsewhere_is_brought_to_the_device():
    there = Split(TRAIN.images.cuda(), TRAIN.labels.cuda())
    for data in (TRAIN, there, BATCHES, [there]):
        for source in (teacher(), teacher().cuda()):
            model = student()
            history = distill(model, source, data, device=torch.device("cuda"), validation=there, **TWICE)
            assert history.validation_accuracy[-1] == evaluate(model, TRAIN).accuracy
            assert model.classes.weight.device.type == "cuda"
    assert distill(student(), predict(teacher(), TRAIN.images), there, device="cpu", **TWICE).train_loss
