"""The loops on anyone's networks: logits of every rank, outputs that are no tensor, teachers of every kind."""

import math
from collections import OrderedDict, namedtuple
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from test_training import QUIET, TRAIN, same, student, teacher, weights
from test_training_on_loaders import BATCHES, ONCE, TWICE, taught, trained
from torch import nn

from kdcourse import losses
from kdcourse.data import Split
from kdcourse.models import mlp
from kdcourse.training import constant, distill, evaluate, fit, predict

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


@pytest.mark.parametrize("classifier", [F.cross_entropy, nn.CrossEntropyLoss(), partial(F.cross_entropy)])
def test_classes_in_dimension_1_and_missing_labels_are_refused(classifier):
    images, labels = torch.randn(4, 3, 8, 6), torch.randint(5, (4, 8, 6))
    with pytest.raises(ValueError, match="one label is needed for each leading position"):
        fit(nn.Conv2d(3, 5, 1), [(images, labels)], loss=classifier, **ONCE)
    with pytest.raises(TypeError, match="labels are needed"):
        fit(nn.Conv2d(3, 5, 1), [images], loss=classifier, **ONCE)
    model = nn.Conv2d(3, 5, 1)
    assert fit(model, [(images, labels)], loss=classifier, output=lambda out: out.movedim(1, -1), **ONCE).train_loss


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
