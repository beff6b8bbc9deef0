"""Recording what layers compute, and feature terms in distillation: regressors train, nothing else is touched."""

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.utils.checkpoint
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


def doubled(module, given, output):
    return 2 * output


def test_a_hook_that_changes_the_output_is_recorded_as_the_next_layer_sees_it():
    model = network()
    handles = [model.first.register_forward_hook(doubled)]
    with outputs_of(model, ["first"]) as found:
        handles.append(model.relu.register_forward_hook(doubled))
        model(IMAGES)
    torch.testing.assert_close(found["first"], model.first(IMAGES))
    assert len(model.first._forward_hooks) == len(model.relu._forward_hooks) == 1


@pytest.mark.parametrize("wrong", ["first", [0], [None], [nn.Linear(2, 2)]])
def test_what_is_no_list_of_names_is_refused(wrong):
    with pytest.raises(TypeError, match="names must be a list of layers' names"), outputs_of(network(), wrong):
        pass


def test_what_was_not_asked_for_says_so():
    model = network()
    with outputs_of(model, ["first", "first"]) as found:
        model(IMAGES)
        with pytest.raises(KeyError, match="'last' is not recorded, only 'first'"):
            found["last"]
    assert list(found) == ["first"]


def test_hooks_that_compiled_code_would_not_run_are_refused():
    compiled, in_place, inside = network(), network(), nn.Sequential(torch.compile(network(), backend="eager"))
    compiled = torch.compile(compiled, backend="eager")
    in_place.compile(backend="eager")
    for model, name in ((compiled, "_orig_mod.first"), (in_place, "first"), (inside, "0._orig_mod.first")):
        with (
            pytest.raises(ValueError, match="compiled.*record from the network that was not"),
            outputs_of(model, [name]),
        ):
            pass
    in_place = network()
    in_place.first.compile(backend="eager")
    with pytest.raises(ValueError, match="'first' is compiled"), outputs_of(in_place, ["first"]):
        pass
    with outputs_of(compiled._orig_mod, ["first"]) as found:
        compiled._orig_mod(IMAGES)
    torch.testing.assert_close(found["first"], compiled._orig_mod.first(IMAGES))


def test_scripted_layers_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.script(network())
    with pytest.raises(ValueError, match="what 'first' is a part of is compiled"), outputs_of(model, ["first"]):
        pass


def test_data_parallel_on_several_devices_is_refused_and_on_one_is_plain():
    model = nn.DataParallel(network())
    with outputs_of(model, ["module.first"]) as found:
        model(IMAGES)
    torch.testing.assert_close(found["module.first"], model.module.first(IMAGES))
    model.device_ids = [0, 1]
    with pytest.raises(ValueError, match="once on each device of nn.DataParallel"), outputs_of(model, ["module.first"]):
        pass


class Checkpointing(nn.Module):
    """Recomputes its hidden layer in the backward pass."""

    def __init__(self, reentrant):
        super().__init__()
        self.inner, self.reentrant = network(), reentrant

    def forward(self, x):
        return torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=self.reentrant)


def test_layers_that_run_again_in_the_backward_pass_are_recorded_once():
    model = Checkpointing(reentrant=False)
    with outputs_of(model, ["inner.first"]) as found:
        logits = model(IMAGES)
        (found["inner.first"].square().sum() + logits.sum()).backward()
    plain = network()
    (plain.first(IMAGES).square().sum() + plain(IMAGES).sum()).backward()
    torch.testing.assert_close(model.inner.first.weight.grad, plain.first.weight.grad)


def test_the_layout_in_memory_and_the_precision_stay():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True)).to(memory_format=torch.channels_last).bfloat16()
    images = torch.randn(2, 3, 5, 5).to(torch.bfloat16, memory_format=torch.channels_last)
    with outputs_of(model, ["0"]) as found:
        model(images)
    assert found["0"].is_contiguous(memory_format=torch.channels_last)
    assert found["0"].dtype == torch.bfloat16


def test_a_call_that_fails_ends_the_recording():
    model = network()
    with outputs_of(model, ["first"]) as found:
        with pytest.raises(RuntimeError):
            model(IMAGES[:, :3])
        model.first(IMAGES)
        assert not found
        model(IMAGES)
        assert len(found["first"]) == 40


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
    for weight in (lambda done: 1.0, torch.tensor(1.0), True, "1"):
        with pytest.raises(TypeError, match="weight of a feature term must be a number, got .*call distill once"):
            distill(network(), network(8), TRAIN, features=[term(weight=weight)], **QUIET)
    for loss in (None, "hint", nn.MSELoss):
        with pytest.raises(TypeError, match="must be a function of two features"):
            distill(network(), network(8), TRAIN, features=[term()._replace(loss=loss)], **QUIET)
    with pytest.raises(
        TypeError, match=r"regressor must be a torch.nn.Module, got builtin_function_or_method: nn.Linear"
    ):
        distill(network(), network(8), TRAIN, features=[term()._replace(regressor=torch.relu)], **QUIET)
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


def trained(*terms, student=None, teacher=None, **options):
    """The student after a short distillation with these feature terms."""
    student = network() if student is None else student
    distill(student, network(8, seed=1) if teacher is None else teacher, TRAIN, features=terms, **QUIET | options)
    return student


def test_terms_may_come_from_a_generator_and_one_alone_needs_no_list():
    expected = trained(term())
    assert same(trained(*[term()]), expected)
    for features in ((each for each in [term()]), term()):
        student = network()
        distill(student, network(8, seed=1), TRAIN, features=features, **QUIET)
        assert same(student, expected)


def test_a_frozen_regressor_stays_as_it_is_and_still_guides_the_student():
    """The placebo arm: a projection that nobody trains."""
    placebo = term(weight=30.0)
    placebo.regressor.requires_grad_(False)
    before = copy.deepcopy(placebo.regressor)
    student = trained(placebo)
    assert same(before, placebo.regressor)
    assert not same(student, trained(term(weight=30.0)))
    assert not same(student, trained(term(weight=0.0)))


def test_one_regressor_may_serve_two_terms():
    shared = term()
    gradients = []
    shared.regressor.weight.register_hook(gradients.append)
    trained(shared, shared._replace(weight=2.0), epochs=1, batch_size=40)
    once = term()
    once.regressor.weight.register_hook(gradients.append)
    trained(once._replace(weight=3.0), epochs=1, batch_size=40)
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(shared.regressor.weight, once.regressor.weight)


def test_a_lazy_regressor_trains_and_is_asked_to_run_once_for_a_checkpoint(tmp_path):
    lazy = FeatureTerm("first", "first", hint_loss, 1.0, nn.LazyLinear(8))
    trained(lazy)
    assert lazy.regressor.weight.shape == (8, 4)
    lazy = lazy._replace(regressor=nn.LazyLinear(8))
    with pytest.raises(ValueError, match="'regressors.0.weight' is not initialised yet: run a batch through"):
        trained(lazy, checkpoint=tmp_path / "run")


def test_a_regressor_runs_in_train_mode_and_ends_in_eval_mode():
    regressor = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 8)).eval()
    modes = []
    regressor.register_forward_hook(lambda part, *_: modes.append([each.training for each in part.modules()]))
    trained(term()._replace(regressor=regressor))
    assert all(map(all, modes))
    assert not any(each.training for each in regressor.modules())
    assert regressor[0].num_batches_tracked == 2 * 3


def test_a_part_of_the_student_may_be_the_regressor():
    student = network()
    trained(FeatureTerm("relu", "last", hint_loss, 1.0, student.last), student=student)
    assert not torch.equal(student.last.weight, network().last.weight)
    assert set(student.state_dict()) == set(network().state_dict())


def test_a_trained_part_of_the_teacher_is_refused_as_regressor_and_a_frozen_one_taken():
    teacher = network(4, seed=1)
    head = FeatureTerm("relu", "last", hint_loss, 1.0, teacher.last)
    with pytest.raises(ValueError, match="share regressors.0.weight"):
        trained(head, teacher=teacher)
    teacher.eval().requires_grad_(False)
    before = copy.deepcopy(teacher)
    trained(head, teacher=teacher)
    assert same(before, teacher)


def test_a_loss_that_has_parameters_trains_them():
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(5)
            self.project = nn.Linear(4, 8)

        def forward(self, student, teacher):
            return hint_loss(self.project(student), teacher)

    loss = Projected()
    student = trained(FeatureTerm("first", "first", loss))
    assert same(student, trained(once := term()))
    assert same(loss.project, once.regressor)


def test_an_optimizer_that_leaves_the_regressor_out_is_refused():
    student, added = network(), term()
    options = {"learning_rate": None, "optimizer": lambda parameters: torch.optim.SGD(student.parameters(), lr=0.1)}
    with pytest.raises(ValueError, match="does not hold the regressor's 0.weight: make it of the list"):
        trained(added, student=student, **options)
    added.regressor.requires_grad_(False)
    trained(added, student=student, **options)


def test_the_norm_that_is_clipped_is_that_of_student_and_regressor():
    rate = {"learning_rate": None, "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=1.0)}
    student, added = network(), term(weight=1e4)
    before = [each.detach().clone() for each in (*student.parameters(), *added.regressor.parameters())]
    trained(added, student=student, epochs=1, batch_size=40, clip_norm=0.5, schedule=lambda done: 1.0, **rate)
    after = (*student.parameters(), *added.regressor.parameters())
    moved = [(one - other).flatten() for one, other in zip(before, after, strict=True)]
    assert torch.cat(moved).norm().item() == pytest.approx(0.5, rel=1e-4)
    assert torch.cat(moved[-2:]).norm() > 0.01


@pytest.mark.parametrize(
    "data",
    [TRAIN, [(IMAGES[:16], TRAIN.labels[:16]), (IMAGES[16:32], TRAIN.labels[16:32])]],
    ids=["Split", "loader"],
)
def test_validation_augmentation_and_steps_leave_the_terms_right(data):
    """What runs between the steps does not reach a term: it sees the batch of the step, of both networks."""
    seen, options = [], {} if data is TRAIN else {"steps_per_epoch": 1, "batch_size": None}

    def compared(student, teacher):
        seen.append((student.detach(), teacher.detach()))
        return hint_loss(student, teacher)

    student, teacher = network(), network(seed=1).train()
    student_inputs = []
    student.register_forward_pre_hook(
        lambda part, given: student_inputs.append(given[0]) if len(given[0]) < 40 else None
    )
    before = copy.deepcopy(teacher)
    rate = {"learning_rate": None, "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.0)}
    distill(
        student, teacher, data, features=[FeatureTerm("first", "first", compared)], validation=TRAIN,
        augment=lambda images: images + torch.randn_like(images),
        on_epoch=lambda epoch, history: student(IMAGES) is None, **QUIET | rate | options,
    )  # fmt: skip
    assert len(seen) == len(student_inputs) >= 2
    for inputs, (of_student, of_teacher) in zip(student_inputs, seen, strict=True):
        torch.testing.assert_close(of_student, student.first(inputs))
        torch.testing.assert_close(of_teacher, before.first(inputs))
    assert teacher.training


def test_a_loss_that_runs_the_student_again_does_not_reach_the_terms():
    student, seen = network(), []

    def compared(of_student, of_teacher):
        seen.append(len(of_student))
        return (of_student.mean() - of_teacher.mean()).square()

    def consistent(logits, soft, labels, **weights):
        return (logits - soft).square().mean() + student(IMAGES[:3]).square().mean()

    teacher = network(seed=1)
    distill(student, teacher, TRAIN, features=[FeatureTerm("first", "first", compared)], loss=consistent, **QUIET)
    assert seen == [16, 16, 8] * 2


def test_a_term_from_which_the_student_learns_nothing_is_refused():
    frozen = network()
    frozen.first.requires_grad_(False)
    with pytest.raises(ValueError, match="student's 'first' takes no gradient.*frozen.*Name a layer behind"):
        trained(term(), student=frozen)
    trained(FeatureTerm("last", "last", hint_loss), student=frozen)
    teacher = network(seed=1)
    for loss in (lambda s, t: hint_loss(s.detach(), t), lambda teacher, student: hint_loss(student, teacher)):
        with pytest.raises(ValueError, match="does not depend on the student.*first argument"):
            trained(FeatureTerm("first", "first", loss), teacher=teacher)


def test_a_layer_that_is_checkpointed_without_its_gradient_is_refused():
    reentrant = FeatureTerm("inner.first", "first", hint_loss)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own
        with pytest.raises(ValueError, match="takes no gradient"):
            trained(reentrant, student=Checkpointing(reentrant=True), teacher=network(seed=1))


def test_a_loss_of_another_shape_or_type_is_refused_and_names_its_term():
    teacher = network(seed=1)
    for loss, found in ((lambda s, t: (s - t).square(), r"shape \(16, 4\)"), (lambda s, t: 0.0, "float")):
        with pytest.raises(TypeError, match=f"0-d tensor, the mean over the batch, got {found}") as caught:
            trained(FeatureTerm("first", "first", loss), teacher=teacher)
        assert caught.value.__notes__ == ["in the feature term between the student's 'first' and the teacher's 'first'"]


def test_a_term_that_is_no_number_is_named():
    broken = FeatureTerm("first", "first", lambda s, t: s.sum() / 0)
    with pytest.raises(ValueError, match="between the student's 'first' and the teacher's 'first' is no longer finite"):
        trained(FeatureTerm("last", "last", hint_loss), broken, teacher=network(seed=1), epochs=1, batch_size=40)


class Pair(nn.Module):
    def __init__(self, seed):
        super().__init__()
        self.inner, self.head = network(seed=seed), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.inner(x))


class Several(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


def test_of_a_layer_that_returns_several_tensors_the_loss_picks_one():
    def made(seed):
        torch.manual_seed(seed)
        return nn.Sequential(Several(6, 4), First(), nn.Linear(4, 3))

    class First(nn.Module):
        def forward(self, several):
            return several[0]

    with pytest.raises(TypeError, match=r"got tuple: of a layer that returns several, pick one.*student\[0\]"):
        trained(FeatureTerm("0", "0", hint_loss), student=made(0), teacher=made(1))
    picked, plain = made(0), made(0)
    trained(FeatureTerm("0", "0", lambda s, t: hint_loss(s[0], t[0])), student=picked, teacher=made(1))
    trained(FeatureTerm("1", "1", hint_loss), student=plain, teacher=made(1))
    assert same(picked, plain)


def test_nested_names_a_wrapped_student_and_two_terms_on_one_layer():
    student, teacher = Pair(0), Pair(1)
    both = [FeatureTerm("inner.first", "inner.first", hint_loss, weight) for weight in (0.5, 1.5)]
    found = trained(*both, student=copy.deepcopy(student), teacher=teacher)
    once = trained(both[0]._replace(weight=2.0), student=copy.deepcopy(student), teacher=teacher)
    for one, other in zip(found.parameters(), once.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    wrapped = nn.Sequential(copy.deepcopy(student))
    trained(both[0]._replace(weight=2.0, student_layer="0.inner.first"), student=wrapped, teacher=teacher)
    assert same(wrapped, once)


def test_a_frozen_trunk_that_both_share_is_recorded_for_each():
    trunk = nn.Linear(6, 6).eval().requires_grad_(False)
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(trunk, nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)) for _ in range(2))
    seen = []

    def compared(of_student, of_teacher):
        seen.append((of_student.detach() - of_teacher).abs().max())
        return hint_loss(of_student, of_teacher)

    trained(FeatureTerm("1", "1", compared), student=student, teacher=teacher)
    assert min(seen) > 1e-3


def test_bfloat16_and_autocast_train_with_a_term():
    half = Split(IMAGES.bfloat16(), TRAIN.labels)
    student, added = network().bfloat16(), term()
    with pytest.raises(
        ValueError, match=r"the regressor must take what the student's layer returns, \(16, 4\) torch.bf"
    ):
        distill(student, network(8, seed=1).bfloat16(), half, features=[added], **QUIET)
    added.regressor.bfloat16()
    distill(student, network(8, seed=1).bfloat16(), half, features=[added], **QUIET)
    with torch.autocast("cpu", torch.bfloat16):
        close = trained(term(), learning_rate=0.01)
    for one, other in zip(close.parameters(), trained(term()).parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.03)


def test_a_regressor_of_another_width_is_refused_with_what_it_was_given():
    with pytest.raises(ValueError, match=r"regressor must take what the student's layer returns, \(16, 4\)"):
        trained(term()._replace(regressor=nn.Linear(5, 8)))


def test_a_layer_that_never_ran_is_refused_in_distillation():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.idle = network(), nn.Linear(6, 4)

        def forward(self, x):
            return self.inner(x)

    with pytest.raises(ValueError, match="'idle' has not run"):
        trained(FeatureTerm("idle", "first", hint_loss), student=Idle(), teacher=network(seed=1))


def test_threads_that_share_a_teacher_do_not_record_one_another():
    teacher, hooks = network(8, seed=1), []

    def counted(student, teachers):
        hooks.append(len(teacher.first._forward_hooks))
        return hint_loss(student, teachers)

    alone = [trained(term(), student=network(seed=seed), teacher=teacher, epochs=5) for seed in range(4)]
    made = [(term()._replace(loss=counted), network(seed=seed)) for seed in range(4)]  # threads share random numbers
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(trained, one, student=student, teacher=teacher, epochs=5) for one, student in made]
        together = [run.result() for run in runs]
    assert all(map(same, alone, together))
    assert set(hooks) == {1}
    assert not teacher.first._forward_hooks
