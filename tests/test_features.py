"""Recording what layers compute, and feature terms in distillation: regressors train, nothing else is touched."""

import copy

import pytest
import torch
from torch import nn

from kdcourse.data import Split
from kdcourse.features import FeatureTerm, outputs_of
from kdcourse.losses.features import hint_loss
from kdcourse.training import distill

IMAGES = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
TRAIN = Split(IMAGES, torch.arange(40) % 3)
QUIET = {"epochs": 2, "batch_size": 16, "progress": False, "learning_rate": 0.01}


def network(width=4, seed=0, inplace=False):
    torch.manual_seed(seed)
    layers = {"first": nn.Linear(6, width), "relu": nn.ReLU(inplace=inplace), "last": nn.Linear(width, 3)}
    made = nn.Sequential()
    for name, layer in layers.items():
        made.add_module(name, layer)
    return made


def term(weight=1.0, width=8, seed=5):
    torch.manual_seed(seed)
    return FeatureTerm("first", "first", hint_loss, weight, nn.Linear(4, width))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# --- recording --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inplace", [False, True])
def test_a_layer_s_own_output_is_recorded_also_before_an_in_place_relu(inplace):
    model = network(inplace=inplace)
    with outputs_of(model, ["first"]) as found:
        model(IMAGES)
    torch.testing.assert_close(found["first"], model.first(IMAGES))
    assert found["first"].min() < 0


@pytest.mark.parametrize("inplace", [False, True])
def test_a_gradient_flows_through_what_was_recorded(inplace):
    model = network(inplace=inplace)
    with outputs_of(model, ["first"]) as found:
        model(IMAGES)
    found["first"].square().sum().backward()
    expected = torch.autograd.grad(model.first(IMAGES).square().sum(), model.first.weight)[0]
    torch.testing.assert_close(model.first.weight.grad, expected)
    assert model.last.weight.grad is None


def test_each_call_forgets_the_one_before_and_hooks_end_with_the_block():
    model = network()
    with outputs_of(model, ["first", "relu"]) as found:
        model(IMAGES[:5])
        model(IMAGES[:2])
        assert len(found["first"]) == len(found["relu"]) == 2
    model(IMAGES[:7])
    assert len(found["first"]) == 2
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_hooks_end_with_a_block_that_fails():
    model = network()
    with pytest.raises(ZeroDivisionError), outputs_of(model, ["first"]):
        raise ZeroDivisionError
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    with pytest.raises(ValueError, match="no layer called"), outputs_of(model, ["first", "second"]):
        pass
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_a_name_that_does_not_exist_names_the_nearest():
    model = nn.ModuleDict({"block": network()})
    nearest = r"no layer called 'block.fist': did you mean 'block.first'"
    with pytest.raises(ValueError, match=nearest), outputs_of(model, ["block.fist"]):
        pass
    with pytest.raises(ValueError, match="no layer called ''"), outputs_of(model, [""]):
        pass


class Choosing(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.left_out, self.tied = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.tied(self.tied(self.used(x)))


def test_a_layer_that_did_not_run_or_ran_twice_is_refused_by_name():
    model = Choosing()
    with outputs_of(model, ["used", "left_out"]) as found:
        with pytest.raises(KeyError, match="'used' has not run"):
            found["used"]
        model(IMAGES)
        assert found["used"].shape == (40, 6)
        with pytest.raises(KeyError, match="'left_out' has not run.*leaves this layer out"):
            found["left_out"]
    with outputs_of(model, ["tied"]), pytest.raises(ValueError, match="'tied' runs more than once"):
        model(IMAGES)
    model(IMAGES)


def test_a_layer_that_returns_several_tensors_keeps_them_all():
    model = nn.Sequential(nn.LSTM(6, 4, batch_first=True))
    with outputs_of(model, ["0"]) as found:
        states, (hidden, cell) = model(IMAGES.unsqueeze(1))
    torch.testing.assert_close(found["0"][0], states)
    torch.testing.assert_close(found["0"][1][1], cell)


def test_a_shared_layer_records_for_the_network_that_was_called():
    shared = nn.Linear(6, 6)
    one, other = nn.Sequential(shared, nn.ReLU()), nn.Sequential(nn.Tanh(), shared)
    with outputs_of(one, ["0"]) as of_one, outputs_of(other, ["1"]) as of_other:
        one(IMAGES)
        other(IMAGES)
    torch.testing.assert_close(of_one["0"], shared(IMAGES))
    torch.testing.assert_close(of_other["1"], shared(IMAGES.tanh()))


# --- in distillation --------------------------------------------------------------------------------------------------


def test_a_regressor_trains_without_anyone_thinking_of_it():
    added = term()
    before = copy.deepcopy(added.regressor)
    distill(network(), network(8, seed=1), TRAIN, features=[added], **QUIET)
    assert not torch.equal(before.weight, added.regressor.weight)
    assert not torch.equal(before.bias, added.regressor.bias)


def test_a_term_pulls_the_student_s_layer_towards_the_teacher_s():
    teacher, distances = network(8, seed=1), []
    for weight in (0.0, 30.0):
        student, added = network(), term(weight)
        distill(student, teacher, TRAIN, features=[added], **QUIET | {"epochs": 40})
        with torch.no_grad():
            distances.append(hint_loss(added.regressor(student.first(IMAGES)), teacher.first(IMAGES)).item())
    assert distances[1] < distances[0] / 3


@pytest.mark.parametrize("regressor", [True, False])
def test_a_term_of_weight_zero_changes_no_student(regressor):
    plain, added = network(), network()
    teacher = network(8 if regressor else 4, seed=1)
    one = term(weight=0.0) if regressor else FeatureTerm("first", "first", hint_loss, 0.0)
    distill(plain, teacher, TRAIN, **QUIET)
    distill(added, teacher, TRAIN, features=[one], **QUIET)
    for mine, theirs in zip(plain.parameters(), added.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)  # the teacher ran on batches of another size: rounding


def test_one_step_is_the_step_of_the_sum_written_by_hand():
    from kdcourse.losses import distillation_loss

    student, teacher, added = network(), network(8, seed=1), term(weight=0.7)
    by_hand, regressor = copy.deepcopy(student), copy.deepcopy(added.regressor)
    options = QUIET | {"epochs": 1, "batch_size": 40, "schedule": lambda done: 1.0}
    options["optimizer"] = lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    options.pop("learning_rate")
    distill(student, teacher, TRAIN, features=[added], temperature=2.0, alpha=0.6, **options)
    with torch.no_grad():
        target = teacher(IMAGES)
    loss = distillation_loss(by_hand(IMAGES), target, TRAIN.labels, temperature=2.0, alpha=0.6)
    loss = loss + 0.7 * hint_loss(regressor(by_hand.first(IMAGES)), teacher.first(IMAGES))
    loss.backward()
    for mine, theirs in ((by_hand, student), (regressor, added.regressor)):
        for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one - 0.1 * one.grad, other)


def test_teacher_and_hooks_are_left_as_they_were():
    teacher, student = network(8, seed=1), network()
    before = copy.deepcopy(teacher.state_dict())
    distill(student, teacher, TRAIN, features=[term()], **QUIET)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    for model in (student, teacher):
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert set(student.state_dict()) == set(network().state_dict())


def test_a_checkpoint_resumes_bit_for_bit_with_its_regressor(tmp_path):
    teacher, whole, halves = network(8, seed=1), network(), network()
    added, again = term(), term()
    options = QUIET | {"epochs": 4}
    distill(whole, teacher, TRAIN, features=[added], **options)
    path = tmp_path / "run"
    stop = {"on_epoch": lambda epoch, history: (_ for _ in ()).throw(KeyboardInterrupt) if epoch == 2 else None}
    with pytest.raises(KeyboardInterrupt):
        distill(halves, teacher, TRAIN, features=[term()], checkpoint=path, **options, **stop)
    resumed = network()
    distill(resumed, teacher, TRAIN, features=[again], checkpoint=path, **options)
    assert same(whole, resumed)
    assert same(added.regressor, again.regressor)
    with pytest.raises(ValueError, match="another run, which differs in features"):
        distill(network(), teacher, TRAIN, features=[term(weight=2.0)], checkpoint=path, **options)


def test_what_is_no_term_and_a_teacher_without_layers_are_refused():
    with pytest.raises(TypeError, match="list of kdcourse.features.FeatureTerm, got str"):
        distill(network(), network(8), TRAIN, features=["first"], **QUIET)
    with pytest.raises(ValueError, match="needs the teacher's layers: pass the network"):
        distill(network(), torch.zeros(40, 3), TRAIN, features=[term()], **QUIET)
    with pytest.raises(ValueError, match="weight must be a finite number >= 0, got -1"):
        distill(network(), network(8), TRAIN, features=[term(weight=-1.0)], **QUIET)
    with pytest.raises(ValueError, match="no layer called 'fist': did you mean 'first'"):
        distill(network(), network(8), TRAIN, features=[term()._replace(student_layer="fist")], **QUIET)
    with pytest.raises(ValueError, match="regressor"):
        distill(network(), network(8), TRAIN, features=[term()._replace(regressor=None)], **QUIET)
