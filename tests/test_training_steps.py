"""What a step does: which parameters it moves, by how much, checked schedules, half precision, devices."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from test_training import QUIET, TRAIN, same, student, teacher, weights
from test_training_networks import IDS, NEXT, WithoutParameters
from test_training_on_loaders import BATCHES, ONCE, TWICE, taught, trained
from torch import nn

from kdcourse import losses
from kdcourse.data import Split
from kdcourse.models import conv_net
from kdcourse.training import constant, cosine, distill, evaluate, fit, predict

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


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_training_goes_on_where_the_caller_has_gradients_switched_off(off):
    model = student(dropout=0.0)
    with off():
        for data in (TRAIN, BATCHES):
            distill(model, teacher(), data, **TWICE)
    again = student(dropout=0.0)
    for data in (TRAIN, BATCHES):
        distill(again, teacher(), data, **TWICE)
    assert same(weights(model), weights(again))


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
