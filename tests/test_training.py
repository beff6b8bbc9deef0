"""The training loops: repeatable, the same for both arms, equal to a bare loop, and the teacher left alone."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse import losses
from kdcourse.data import Split, random_affine
from kdcourse.metrics import expected_calibration_error
from kdcourse.models import conv_net, mlp
from kdcourse.training import constant, cosine, distill, evaluate, fit, frozen, predict

QUIET = {"epochs": 2, "batch_size": 16, "progress": False}
STEPS = 2 * 3  # of 40 images in batches of 16, 16 and 8


def split(count: int = 40, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 28, 28, generator=generator)
    return Split(images, torch.randint(10, (count,), generator=generator))


TRAIN = split()


def student(seed: int = 0, dropout: float = 0.2) -> nn.Module:
    return mlp((8,), dropout=dropout, seed=seed)


def teacher() -> nn.Module:
    model = conv_net((4, 6), seed=1)
    model(TRAIN.images)  # statistics that are not the initial ones
    return model


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def fitted(**options) -> dict[str, torch.Tensor]:
    model = student()
    fit(model, TRAIN, **QUIET | options)
    return weights(model)


def distilled(source=None, **options) -> dict[str, torch.Tensor]:
    model = student()
    distill(model, teacher() if source is None else source, TRAIN, **QUIET | options)
    return weights(model)


# --- repeatable -------------------------------------------------------------------------------------------------------

RUNS = {
    "fit": fitted,
    "fit with augmentation": lambda **options: fitted(augment=random_affine(), **options),
    "distill": distilled,
    "distill with augmentation": lambda **options: distilled(augment=random_affine(), **options),
}
every_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


@every_run
def test_the_same_seed_gives_bit_identical_weights_whatever_ran_before(run):
    torch.manual_seed(1)
    first = run(seed=7)
    torch.manual_seed(2)
    torch.rand(100)
    assert same(run(seed=7), first)


@every_run
def test_another_seed_gives_other_weights(run):
    assert not same(run(seed=7), run(seed=8))


@every_run
def test_training_leaves_the_global_random_state_where_it_was(run):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    run()
    assert torch.equal(torch.get_rng_state(), state)


def test_measuring_validation_does_not_change_the_training():
    assert same(fitted(validation=split(20, seed=1)), fitted())
    assert same(distilled(validation=split(20, seed=1)), distilled())


def test_the_progress_bar_does_not_change_the_training(capsys):
    assert same(fitted(progress=True), fitted())
    assert "epoch" in capsys.readouterr().err
    fitted()
    assert capsys.readouterr().err == ""


# --- the arms are alike -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [None, random_affine()], ids=["plain", "augmented"])
def test_distill_with_alpha_zero_equals_fit_bit_for_bit(augment):
    assert same(distilled(alpha=0.0, augment=augment, seed=3), fitted(augment=augment, seed=3))


def test_distill_with_alpha_one_never_reads_the_labels():
    model, other = student(), student()
    distill(model, teacher(), TRAIN, alpha=1.0, **QUIET)
    distill(other, teacher(), Split(TRAIN.images, TRAIN.labels.flip(0)), alpha=1.0, **QUIET)
    assert same(weights(model), weights(other))
    assert not same(weights(model), fitted())


def test_distill_with_a_network_equals_distill_with_its_kept_logits_bit_for_bit():
    assert same(distilled(predict(teacher(), TRAIN.images)), distilled(teacher()))


def test_kept_logits_stay_with_their_images_when_shuffled():
    # a teacher that is sure of the right label: rows mixed up would teach wrong digits
    sure = 20.0 * F.one_hot(TRAIN.labels, 10)
    model = mlp((64,))
    options = QUIET | {"epochs": 100, "learning_rate": 1e-3, "schedule": constant}
    distill(model, sure, TRAIN, alpha=1.0, temperature=1.0, **options)
    assert evaluate(model, TRAIN).accuracy == 1


def test_distill_equals_distill_with_the_public_loss():
    public = distilled(loss=losses.distillation_loss, temperature=3.0)
    for name, value in distilled(temperature=3.0).items():
        torch.testing.assert_close(value, public[name], rtol=0, atol=1e-6)


def bare_loop(model: nn.Module, targets: torch.Tensor | None, *, epochs: int, seed: int) -> None:
    """Nothing but the steps, written out with PyTorch's own functions."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    total, step = epochs * 3, 0
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(40).split(16):
            done = step / total
            factor = 0.1 + 9 * done if done < 0.1 else (1 + math.cos(math.pi * (done - 0.1) / 0.9)) / 2
            optimizer.param_groups[0]["lr"] = 2e-3 * factor
            logits = model(TRAIN.images[rows])
            loss = F.cross_entropy(logits, TRAIN.labels[rows])
            if targets is not None:
                soft = F.kl_div(
                    F.log_softmax(logits / 4, 1), F.softmax(targets[rows] / 4, 1), reduction="batchmean"
                )  # fmt: skip
                loss = 0.1 * loss + 0.9 * 16 * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


@pytest.mark.parametrize("with_teacher", [False, True], ids=["fit", "distill"])
def test_training_equals_a_bare_loop_written_by_hand(with_teacher):
    ours, bare = student(), student()
    targets = predict(teacher(), TRAIN.images)
    if with_teacher:
        distill(ours, targets, TRAIN, seed=3, **QUIET)
    else:
        fit(ours, TRAIN, seed=3, **QUIET)
    bare_loop(bare, targets if with_teacher else None, epochs=2, seed=3)
    # the fused optimizer and the two ways to write KL round differently; Adam's steps are of size 1e-3
    for name, value in weights(ours).items():
        torch.testing.assert_close(value, bare.state_dict()[name], rtol=0, atol=1e-6)
    assert not same(weights(ours), weights(student()))


# --- the teacher is left alone ----------------------------------------------------------------------------------------


def half_frozen_teacher() -> nn.Module:
    """In train mode with one part in eval mode, and one parameter that takes no gradient."""
    model = teacher().train()
    model.norm2.eval()
    model.conv1.weight.requires_grad_(False)
    return model


def state_of(model: nn.Module) -> tuple:
    modes = [module.training for module in model.modules()]
    return modes, [(p.requires_grad, p.grad) for p in model.parameters()]


@pytest.mark.parametrize("augment", [None, random_affine()], ids=["kept logits", "augmented"])
@pytest.mark.parametrize("fails", [False, True], ids=["ends well", "raises"])
def test_distill_leaves_the_teacher_untouched_with_its_statistics_modes_and_gradients(augment, fails):
    model = half_frozen_teacher()
    before, state = weights(model), state_of(model)

    def broken(*logits, **options):
        raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            distill(student(), model, TRAIN, augment=augment, loss=broken, **QUIET)
    else:
        distill(student(), model, TRAIN, augment=augment, **QUIET)
    assert same(weights(model), before)
    assert state_of(model) == state


def test_distill_sees_the_teacher_in_eval_mode_and_without_gradient():
    seen = []
    model = teacher().train()
    model.classes.register_forward_hook(lambda layer, inputs, output: seen.append((layer.training, output)))
    distill(student(), model, TRAIN, augment=random_affine(), **QUIET)
    assert len(seen) == STEPS
    assert not any(mode or output.requires_grad for mode, output in seen)


def test_the_teacher_runs_over_every_image_once_where_images_repeat():
    rows = []
    model = teacher()
    model.classes.register_forward_hook(lambda layer, inputs, output: rows.append(len(output)))
    distill(student(), model, TRAIN, **QUIET)
    assert sum(rows) == len(TRAIN.images)


def test_with_augmentation_the_teacher_sees_the_very_images_that_the_student_sees():
    by_student, by_teacher = [], []
    learner, model = student(), teacher()
    learner.register_forward_pre_hook(lambda layer, inputs: by_student.append(inputs[0].clone()))
    model.register_forward_pre_hook(lambda layer, inputs: by_teacher.append(inputs[0].clone()))
    batches = []

    def brighten(images):
        batches.append(len(images))
        return images + torch.rand(len(images), 1, 1, 1)

    distill(learner, model, TRAIN, augment=brighten, **QUIET)
    assert batches == [16, 16, 8] * 2  # every batch by itself, once
    assert len(by_teacher) == STEPS
    assert all(torch.equal(one, two) for one, two in zip(by_student, by_teacher, strict=True))
    assert by_teacher[0].max() > 1


def test_frozen_restores_every_mode_and_every_parameter_also_after_an_exception():
    model = half_frozen_teacher()
    state = state_of(model)
    with frozen(model) as inside:
        assert inside is model
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert state_of(model) == state
    with pytest.raises(RuntimeError, match="stop"), frozen(model):
        raise RuntimeError("stop")
    assert state_of(model) == state


# --- the student ------------------------------------------------------------------------------------------------------


def test_the_student_trains_in_train_mode_in_every_epoch_and_ends_in_eval_mode():
    modes = []
    model = student().eval()
    model.dropout1.register_forward_pre_hook(lambda layer, inputs: modes.append((layer.training, len(inputs[0]))))
    fit(model, TRAIN, validation=split(20, seed=1), **QUIET)
    epoch = [(True, 16), (True, 16), (True, 8), (False, 20)]
    assert modes == epoch * 2
    assert not any(module.training for module in model.modules())


def test_the_student_is_in_eval_mode_after_a_failure_too():
    model = student()
    with pytest.raises(ValueError, match="no longer finite"):
        fit(model, TRAIN, loss=lambda logits, labels: logits.sum() * math.nan, **QUIET)
    assert not model.training


def test_every_image_is_seen_once_an_epoch_in_an_order_that_changes():
    numbered = Split(torch.arange(40.0).reshape(40, 1, 1, 1).expand(40, 1, 28, 28), TRAIN.labels)
    order = []
    model = student()
    model.register_forward_pre_hook(lambda layer, inputs: order.extend(inputs[0][:, 0, 0, 0].int().tolist()))
    fit(model, numbered, **QUIET)
    first, second = order[:40], order[40:]
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second != list(range(40))


def test_training_learns():
    history = fit(mlp((64,)), TRAIN, epochs=60, batch_size=16, progress=False)
    assert history.train_loss[-1] < 0.2 * history.train_loss[0]


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_history_has_an_entry_for_every_epoch_and_validation_only_where_asked():
    plain = fit(student(), TRAIN, epochs=3, progress=False)
    assert (len(plain.train_loss), plain.validation_accuracy) == (3, [])
    assert plain.seconds > 0
    measured = distill(student(), teacher(), TRAIN, epochs=3, progress=False, validation=split(20, seed=1))
    assert (len(measured.train_loss), len(measured.validation_accuracy)) == (3, 3)


def test_history_holds_the_mean_loss_over_examples_and_the_last_validation_accuracy():
    model, validation = student(dropout=0.0), split(20, seed=1)
    # learning rate 0: the network stays, and the mean weights the last, smaller batch by its size
    history = fit(model, TRAIN, learning_rate=0.0, validation=validation, **QUIET)
    expected = F.cross_entropy(predict(model, TRAIN.images), TRAIN.labels).item()
    assert history.train_loss == pytest.approx([expected] * 2, rel=1e-5)
    assert history.validation_accuracy == [evaluate(model, validation).accuracy] * 2


def test_evaluate_measures_accuracy_cross_entropy_and_calibration_in_eval_mode():
    model = teacher().train()
    before = weights(model)
    scores = evaluate(model, TRAIN)
    assert model.training
    assert same(weights(model), before)
    logits = copy.deepcopy(model).eval()(TRAIN.images).detach()
    assert scores.accuracy == pytest.approx((logits.argmax(1) == TRAIN.labels).double().mean().item())
    assert scores.cross_entropy == pytest.approx(F.cross_entropy(logits, TRAIN.labels).item())
    assert scores.calibration_error == pytest.approx(expected_calibration_error(logits, TRAIN.labels), abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_predict_gives_the_logits_of_every_image_in_order_whatever_the_batch_size(batch_size):
    model = teacher()
    expected = copy.deepcopy(model).eval()(TRAIN.images).detach()
    found = predict(model.train(), TRAIN.images, batch_size=batch_size)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not found.requires_grad
    assert model.training


# --- schedules --------------------------------------------------------------------------------------------------------


def test_cosine_warms_up_from_a_tenth_over_a_tenth_and_then_falls_to_zero_and_constant_stays():
    assert [cosine(done) for done in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0.1, 0.55, 1, 0.5, 0], abs=1e-12)
    assert [constant(done) for done in (0.0, 0.5, 1.0)] == [1, 1, 1]


def test_schedules_of_temperature_and_alpha_are_followed_step_by_step():
    seen = []

    def noting(student_logits, teacher_logits, labels, *, temperature, alpha):
        seen.append((temperature, alpha))
        return losses.distillation_loss(student_logits, teacher_logits, labels, temperature=temperature, alpha=alpha)

    distilled(loss=noting, temperature=lambda done: 8 - 6 * done, alpha=lambda done: 1 - done)
    assert seen == [(8 - 6 * step / STEPS, 1 - step / STEPS) for step in range(STEPS)]
    seen.clear()
    distilled(loss=noting, temperature=2.0, alpha=0.5)
    assert seen == [(2.0, 0.5)] * STEPS


def test_a_constant_schedule_equals_the_number():
    assert same(distilled(temperature=lambda done: 3.0, alpha=lambda done: 0.6), distilled(temperature=3.0, alpha=0.6))
    assert not same(distilled(temperature=3.0, alpha=0.6), distilled(temperature=4.0, alpha=0.6))


def test_the_learning_rate_follows_its_schedule_step_by_step(monkeypatch):
    rates = []

    class Noting(torch.optim.AdamW):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Noting)
    fit(student(), TRAIN, learning_rate=0.5, schedule=lambda done: 1 - done, **QUIET)
    assert rates == [0.5 * (1 - step / STEPS) for step in range(STEPS)]


def test_fit_takes_another_loss():
    smooth = fitted(loss=lambda logits, labels: losses.label_smoothing_loss(logits, labels, smoothing=0.1))
    assert not same(smooth, fitted())
    plain = fitted(loss=lambda logits, labels: losses.label_smoothing_loss(logits, labels, smoothing=0.0))
    for name, value in fitted().items():
        torch.testing.assert_close(plain[name], value, rtol=0, atol=1e-6)


def test_teacher_logits_in_half_precision_are_computed_in_full():
    half = predict(teacher(), TRAIN.images).half()
    assert same(distilled(half), distilled(half.float()))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.zeros(39, 10), "39 rows of teacher logits for 40 images"),
        (torch.zeros(41, 10), "41 rows of teacher logits for 40 images"),
        (torch.zeros(40, 9), r"\(16, 10\).*\(16, 9\)"),
        (torch.zeros(40, 1), r"\(16, 10\).*\(16, 1\)"),  # would broadcast
        (torch.zeros(40), r"\(16, 10\).*\(16,\)"),
        (torch.zeros(0, 10), "empty"),
        (torch.full((40, 10), math.nan), "NaN or infinity"),
    ],
)
def test_teacher_logits_that_do_not_fit_the_images_or_the_student_are_refused(logits, message):
    with pytest.raises(ValueError, match=message):
        distilled(logits)


def test_class_numbers_for_teacher_logits_are_refused():
    with pytest.raises(TypeError, match="must be floating point"):
        distilled(F.one_hot(TRAIN.labels, 10))


def test_a_network_with_other_classes_is_refused():
    with pytest.raises(ValueError, match=r"\(16, 10\).*\(16, 1\)"):
        distilled(nn.Sequential(nn.Flatten(), nn.Linear(784, 1)), augment=random_affine())


def test_bare_logits_with_augmentation_are_refused():
    with pytest.raises(ValueError, match="pass the network, not its logits"):
        distilled(torch.zeros(40, 10), augment=random_affine())


@every_run
@pytest.mark.parametrize("options", [{"epochs": 0}, {"epochs": -1}, {"batch_size": 0}], ids=str)
def test_no_epochs_or_an_empty_batch_are_refused(run, options):
    with pytest.raises(ValueError, match="epochs and batch_size must be >= 1"):
        run(**options)


@pytest.mark.parametrize(("images", "labels"), [(40, 39), (39, 40), (0, 0)])
def test_images_and_labels_that_do_not_pair_up_are_refused(images, labels):
    wrong = Split(TRAIN.images[:images], TRAIN.labels[:labels])
    with pytest.raises(ValueError, match=f"{images} images and {labels} labels"):
        fit(student(), wrong, **QUIET)
    with pytest.raises(ValueError, match=f"{images} images and {labels} labels"):
        distill(student(), teacher(), wrong, **QUIET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be a finite number > 0"),
        ({"temperature": math.nan}, "temperature must be a finite number > 0"),
        ({"temperature": lambda done: 4 - 4 * done}, "temperature must be a finite number > 0"),
        ({"alpha": 1.1}, r"alpha must lie in \[0, 1\]"),
        ({"alpha": lambda done: -done}, r"alpha must lie in \[0, 1\]"),
    ],
)
def test_temperature_and_alpha_out_of_range_are_refused_before_any_step(options, message):
    model = student()
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        distill(model, teacher(), TRAIN, **QUIET | options)
    assert same(weights(model), before)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_longer_finite_stops_the_training_naming_the_epoch(value):
    calls = []

    def diverging(logits, labels):
        calls.append(1)
        # added, so that the weights stay finite: an infinite loss alone must be enough
        return logits.sum() * 0.0 + (value if len(calls) > 3 else 0.0)

    with pytest.raises(ValueError, match="no longer finite in epoch 2"):
        fit(student(), TRAIN, loss=diverging, **QUIET | {"epochs": 5})
    assert len(calls) == STEPS


def test_an_option_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="learning_rates"):
        fit(student(), TRAIN, learning_rates=0.1, **QUIET)


# --- on a GPU ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("augment", [None, random_affine()], ids=["plain", "augmented"])
def test_training_on_a_gpu_repeats_and_leaves_the_student_there(augment):
    found = []
    for _ in range(2):
        model = student()
        distill(model, teacher(), TRAIN, device="cuda", augment=augment, validation=TRAIN, **QUIET)
        assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
        assert evaluate(model, TRAIN).cross_entropy > 0
        found.append(weights(model))
    assert same(*found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_training_on_a_gpu_gives_what_the_cpu_gives():
    options = QUIET | {"temperature": 2.0, "seed": 3}
    here, there = student(dropout=0.0), student(dropout=0.0)
    logits = predict(teacher(), TRAIN.images)
    distill(here, logits, TRAIN, **options)
    distill(there, logits, TRAIN, device="cuda", **options)
    for one, two in zip(here.parameters(), there.cpu().parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-4)
