"""What must leave a loss as it was: one battery for every public function of `kdcourse.losses`.

A new loss enters by one line in LOSSES: the keywords that it needs, and what it is known to lack. Which arguments it
takes is read from its signature. What concerns classes (shifts, renaming, -inf) is asked of losses on logits alone.
"""

import inspect
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from kdcourse import losses

T = 2.5


class Case(NamedTuple):
    student: Tensor
    teacher: Tensor
    labels: Tensor


def random_case(*leading: int, classes: int = 5, seed: int = 0, spread: float = 3.0) -> Case:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, *leading, classes, generator=generator, dtype=torch.float64) * spread
    return Case(student, teacher, torch.randint(classes, leading, generator=generator))


class Loss(NamedTuple):
    keywords: dict[str, object]
    lacks: tuple[str, ...] = ()
    case: Callable[..., Case] = random_case


LOSSES = {
    "kd_loss": Loss({"temperature": T}),
    "distillation_loss": Loss({"temperature": T, "alpha": 0.7}, lacks=("zero at identity",)),
    "logit_mse_loss": Loss({}, lacks=("impossible classes",)),
    "reverse_kd_loss": Loss({"temperature": T}),
    "js_loss": Loss({"temperature": T}),
    "dkd_loss": Loss({"temperature": T, "target_weight": 1.5, "non_target_weight": 3.0}),
    "multilabel_kd_loss": Loss({"temperature": T}, lacks=("shifts", "impossible classes")),
    "label_smoothing_loss": Loss({"smoothing": 0.1}, lacks=("zero at identity", "impossible classes")),
}
PARAMETERS = {name: inspect.signature(getattr(losses, name)).parameters for name in losses.__all__}
# "student_logits" to "student", in the order in which they are taken
TAKEN = {
    name: [key.split("_")[0] for key, parameter in parameters.items() if parameter.kind != parameter.KEYWORD_ONLY]
    for name, parameters in PARAMETERS.items()
}
ON_LOGITS = [name for name in LOSSES if "student_logits" in PARAMETERS.get(name, ())]
WITH_TEACHER = [name for name in LOSSES if "teacher" in TAKEN.get(name, ())]
WITH_LABELS = [name for name in LOSSES if "labels" in TAKEN.get(name, ())]
WITH_TEMPERATURE = [name for name in LOSSES if "temperature" in PARAMETERS.get(name, ())]


def having(what: str, names: list[str]) -> list[str]:
    return [name for name in names if what not in LOSSES[name].lacks]


every_loss = pytest.mark.parametrize("name", LOSSES)
every_loss_on_logits = pytest.mark.parametrize("name", ON_LOGITS)
every_loss_with_teacher = pytest.mark.parametrize("name", WITH_TEACHER)
every_loss_with_labels = pytest.mark.parametrize("name", WITH_LABELS)
every_loss_with_temperature = pytest.mark.parametrize("name", WITH_TEMPERATURE)
by_reduction = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def call(name: str, case: Case, **options) -> Tensor:
    """The loss as it is now in `kdcourse.losses`, which `test_loss_mutants` may have replaced."""
    return getattr(losses, name)(*(getattr(case, part) for part in TAKEN[name]), **(LOSSES[name].keywords | options))


def make(name: str, *leading: int, **options) -> Case:
    return LOSSES[name].case(*leading, **options)


def slope(name: str, case: Case, **options) -> Tensor:
    """The gradient at the student of the sum over whatever the loss returns."""
    leaf = case.student.detach().clone().requires_grad_()
    return torch.autograd.grad(call(name, case._replace(student=leaf), **options).sum(), leaf)[0]


def each(case: Case, change: Callable[[Tensor], Tensor]) -> Case:
    return Case(*(change(part) for part in case))


def close(found: Tensor, expected: Tensor, rtol: float = 1e-11) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-13)


def test_every_public_loss_is_in_the_battery():
    assert set(LOSSES) == set(losses.__all__), "a new loss enters the battery by a line in LOSSES"


@every_loss
def test_every_loss_takes_what_all_take(name):
    keyword_only = [key for key, p in PARAMETERS[name].items() if p.kind == p.KEYWORD_ONLY]
    assert keyword_only[-3:] == ["mask", "reduction", "validate"]
    assert TAKEN[name][0] == "student"
    assert set(TAKEN[name]) <= {"student", "teacher", "labels"}


# --- positions that count for nothing ---------------------------------------------------------------------------------

GARBAGE = [math.nan, math.inf, -math.inf, 1e300]


def padded(case: Case, label: int, garbage: list[float] = GARBAGE) -> Case:
    """A position a kind of garbage appended: logits that are nothing else, and ``label``."""
    shape = (len(garbage), *case.student.shape[1:])
    rows = torch.tensor(garbage, dtype=torch.float64).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    labels = torch.full((len(garbage), *case.labels.shape[1:]), label)
    return Case(*(torch.cat(pair) for pair in zip(case, (rows, rows.flip(0), labels), strict=True)))


def check_appended(name: str, case: Case, longer: Case, reduction: str, **options) -> None:
    short, long = call(name, case, reduction=reduction), call(name, longer, reduction=reduction, **options)
    close(long[: len(case.student)] if reduction == "none" else long, short)
    if reduction == "none":
        assert not long[len(case.student) :].any()
    found = slope(name, longer, reduction=reduction, **options)
    close(found[: len(case.student)], slope(name, case, reduction=reduction))
    assert not found[len(case.student) :].any()  # NaN, too, would be something


@every_loss
@by_reduction
@pytest.mark.parametrize("leading", [(6,), (3, 4)], ids=["N,C", "N,L,C"])
@pytest.mark.parametrize("validate", [True, False])
def test_unchanged_by_padding_that_the_mask_leaves_out_whatever_stands_there(name, reduction, leading, validate):
    case = make(name, *leading)
    longer = padded(case, label=77)
    mask = torch.arange(len(longer.student)) < len(case.student)
    mask = mask.reshape(-1, *[1] * (len(leading) - 1)).expand(longer.labels.shape)
    check_appended(name, case, longer, reduction, mask=mask, validate=validate)


@every_loss_with_labels
@by_reduction
@pytest.mark.parametrize("leading", [(6,), (3, 4)], ids=["N,C", "N,L,C"])
def test_unchanged_by_positions_labelled_minus_100_whatever_stands_there(name, reduction, leading):
    case = make(name, *leading)
    check_appended(name, case, padded(case, label=-100), reduction)
    check_appended(name, case, padded(case, label=-100, garbage=[1.0, -7.0]), reduction, validate=False)


@every_loss_with_labels
def test_a_mask_and_labels_of_minus_100_are_taken_together(name):
    case = make(name, 8)
    case.labels[2] = -100
    mask = torch.arange(8) > 3
    assert call(name, case, mask=mask) == call(name, case._replace(labels=case.labels.clamp(min=0)), mask=mask)
    case.labels[6] = -100
    for validate in (True, False):
        close(call(name, case, mask=mask, validate=validate), call(name, each(case, lambda part: part[[4, 5, 7]])))


@every_loss
@by_reduction
def test_a_mask_that_leaves_everything_in_changes_nothing(name, reduction):
    case = make(name, 3, 4)
    mask = torch.ones(3, 4, dtype=torch.bool)
    close(call(name, case, mask=mask, reduction=reduction), call(name, case, reduction=reduction))


@every_loss
@by_reduction
def test_a_mask_that_leaves_nothing_in_is_refused(name, reduction):
    with pytest.raises(ValueError, match="no position is left"):
        call(name, make(name, 6), mask=torch.zeros(6, dtype=torch.bool), reduction=reduction)


@every_loss_with_labels
@by_reduction
def test_labels_that_leave_nothing_in_are_refused(name, reduction):
    case = make(name, 6)
    case.labels.fill_(-100)
    with pytest.raises(ValueError, match="no position is left"):
        call(name, case, reduction=reduction)


@every_loss
def test_a_mask_of_another_dtype_or_shape_is_refused(name):
    case = make(name, 3, 4)
    for wrong in (torch.ones(3, 4), torch.ones(3, 4, dtype=torch.int64), [[True] * 4] * 3):
        with pytest.raises(TypeError, match=r"mask must be a bool tensor.* use mask.bool\(\)"):
            call(name, case, mask=wrong, validate=False)
    for shape in ((3,), (4,), (3, 1), (3, 4, 5), ()):
        with pytest.raises(ValueError, match=r"mask has shape .*one bool for each position, \(3, 4\)"):
            call(name, case, mask=torch.ones(shape, dtype=torch.bool), validate=False)


# --- batches --------------------------------------------------------------------------------------------------------


@every_loss
def test_reductions_agree_with_one_another(name):
    case = make(name, 3, 4)
    mask = torch.tensor([True, False, True, True]).expand(3, 4)
    for kept, options in ((12, {}), (9, {"mask": mask})):
        values = call(name, case, reduction="none", **options)
        assert values.shape == (3, 4)
        close(values.sum(), call(name, case, reduction="sum", **options))
        close(values.sum() / kept, call(name, case, **options))


@every_loss
@pytest.mark.parametrize("reduction", ["batchmean", "avg", None, ""])
@pytest.mark.parametrize("validate", [True, False])
def test_another_reduction_is_refused(name, reduction, validate):
    with pytest.raises(ValueError, match='reduction must be "mean", "sum" or "none"'):
        call(name, make(name, 3), reduction=reduction, validate=validate)


@every_loss
def test_unchanged_by_splitting_into_chunks_weighted_by_what_they_keep(name):
    case, mask = make(name, 12), torch.arange(12) % 5 > 0
    whole, slopes = call(name, case, mask=mask), slope(name, case, mask=mask)
    total, parts = 0.0, []
    for rows in torch.arange(12).split([5, 1, 4, 2]):
        chunk = each(case, lambda part, rows=rows: part[rows])
        if mask[rows].any():
            weight = mask[rows].sum() / mask.sum()
            total += weight * call(name, chunk, mask=mask[rows])
            parts.append(weight * slope(name, chunk, mask=mask[rows]))
        else:
            parts.append(torch.zeros_like(chunk.student))
    close(total, whole, rtol=1e-7)  # the weight is float32
    close(torch.cat(parts), slopes, rtol=1e-6)


@every_loss
def test_unchanged_by_reordering_the_batch(name):
    case, order = make(name, 6), torch.tensor([3, 5, 0, 4, 1, 2])
    shuffled = each(case, lambda part: part[order])
    close(call(name, shuffled), call(name, case))
    close(call(name, shuffled, reduction="none"), call(name, case, reduction="none")[order])


@every_loss
def test_unchanged_by_giving_every_example_twice(name):
    case = make(name, 6)
    close(call(name, each(case, lambda part: torch.cat([part, part]))), call(name, case))


@every_loss
@pytest.mark.parametrize("shape", [(12,), (3, 4), (2, 1, 6), (2, 3, 1, 2)])
def test_unchanged_by_splitting_the_batch_into_sequences(name, shape):
    case = make(name, 12)
    shaped = Case(*(part.reshape(*shape, *part.shape[1:]) for part in case))
    close(call(name, shaped), call(name, case))


@every_loss
def test_a_single_position_needs_no_batch_dimension(name):
    case = make(name, 1)
    alone = each(case, lambda part: part[0])
    for options in ({}, {"validate": False}, {"mask": torch.tensor(True)}):
        close(call(name, alone, **options), call(name, case))
        close(call(name, alone, reduction="none", **options), call(name, case))


@every_loss
def test_unchanged_by_how_the_tensors_lie_in_memory(name):
    case = make(name, 6)
    turned = case._replace(student=case.student.T.contiguous().T, teacher=case.teacher.T.contiguous().T)
    assert not turned.student.is_contiguous()
    close(call(name, turned), call(name, case))


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", having("shifts", ON_LOGITS))
def test_unchanged_by_a_shift_of_every_row_of_logits(name):
    case = make(name, 6)
    shifts = torch.linspace(-7, 7, 12, dtype=torch.float64).reshape(2, 6, 1)
    shifted = case._replace(student=case.student + shifts[0], teacher=case.teacher + shifts[1])
    close(call(name, shifted), call(name, case))


@every_loss_on_logits
def test_unchanged_by_renaming_the_classes(name):
    case, order = make(name, 6), torch.tensor([3, 0, 4, 1, 2])
    renamed = Case(case.student[:, order], case.teacher[:, order], order.argsort()[case.labels])
    close(call(name, renamed), call(name, case))


def with_impossible(part: Tensor) -> Tensor:
    return torch.cat([part, torch.full_like(part[..., :1], -math.inf)], dim=-1) if part.is_floating_point() else part


@pytest.mark.parametrize("name", having("impossible classes", ON_LOGITS))
@pytest.mark.parametrize("temperature", [0.01, T, 300.0])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_unchanged_by_a_class_that_both_sides_hold_impossible(name, temperature, size):
    case = make(name, 3, 4, spread=size)
    wider = each(case, with_impossible)
    close(call(name, wider, temperature=temperature), call(name, case, temperature=temperature))
    found = slope(name, wider, temperature=temperature)
    close(found[..., :-1], slope(name, case, temperature=temperature))
    assert not found[..., -1].any()


@pytest.mark.parametrize("name", having("impossible classes", WITH_TEMPERATURE))
def test_a_temperature_that_learns_does_not_feel_an_impossible_class(name):
    case, found = make(name, 6), []
    for each_case in (case, each(case, with_impossible)):
        temperature = torch.tensor(T, dtype=torch.float64, requires_grad=True)
        found.append(torch.autograd.grad(call(name, each_case, temperature=temperature), temperature)[0])
    close(*found)


@pytest.mark.parametrize("name", [name for name in LOSSES if "impossible classes" in LOSSES[name].lacks])
def test_a_class_that_both_sides_hold_impossible_is_refused_where_the_loss_has_no_meaning_for_it(name):
    with pytest.raises(ValueError, match="student_logits contains -inf"):
        call(name, each(make(name, 6), with_impossible))


# --- identity and gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", having("zero at identity", list(LOSSES)))
def test_zero_with_zero_gradient_where_student_and_teacher_agree(name):
    case = make(name, 6)
    case = case._replace(student=case.teacher.clone())
    assert abs(call(name, case).item()) < 1e-14
    assert slope(name, case).abs().max() < 1e-14


@pytest.mark.parametrize("name", having("zero at identity", list(LOSSES)))
def test_above_zero_wherever_student_and_teacher_differ(name):
    for seed in range(20):
        assert call(name, make(name, 1, seed=seed)).item() > 1e-3


@every_loss
@pytest.mark.parametrize("leading", [(), (4,), (2, 3)], ids=["C", "N,C", "N,L,C"])
@by_reduction
def test_gradient_equals_finite_differences(name, leading, reduction):
    case = make(name, *leading, classes=4)
    options = {} if reduction == "mean" else {"reduction": reduction}  # mutants know no reduction
    student = case.student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: call(name, case._replace(student=s), **options), student)


@every_loss
def test_gradient_of_the_gradient_equals_finite_differences(name):
    case = make(name, 2, classes=3)
    student = case.student.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda s: call(name, case._replace(student=s)), student)


@every_loss_with_teacher
def test_teacher_gets_no_gradient_and_the_student_does(name):
    case = make(name, 6)
    student, teacher = case.student.requires_grad_(), case.teacher.requires_grad_()
    loss = call(name, case)
    assert loss.requires_grad
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().max() > 1e-3


@every_loss
def test_reads_the_student_and_where_it_has_one_the_teacher(name):
    case, other = make(name, 6), make(name, 6, seed=1)
    value = call(name, case).item()
    assert abs(call(name, case._replace(student=other.student)).item() - value) > 1e-3
    moved = abs(call(name, case._replace(teacher=other.teacher)).item() - value)
    assert (moved > 1e-3) == (name in WITH_TEACHER)


@every_loss
def test_leaves_its_arguments_as_they_were(name):
    mask = torch.arange(10) < 6
    for case, options in ((make(name, 6), {}), (padded(make(name, 6), label=-100), {"mask": mask})):
        given = [*case, *options.values()]
        copies = [part.clone() for part in given]
        call(name, case, **options)
        assert all(torch.equal(*(part.nan_to_num(7) for part in pair)) for pair in zip(given, copies, strict=True))


# --- temperature ------------------------------------------------------------------------------------------------------


@every_loss_with_temperature
@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (1, 4), (3, 4)])
@pytest.mark.parametrize("validate", [True, False])
def test_a_temperature_by_position_gives_what_each_position_alone_gives(name, shape, validate):
    case = make(name, 3, 4)
    temperature = torch.linspace(0.5, 6, math.prod(shape), dtype=torch.float64).reshape(shape)
    found = call(name, case, temperature=temperature, reduction="none", validate=validate)
    assert found.shape == (3, 4)
    for at in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        alone = each(case, lambda part, at=at: part[tuple(at)])
        close(found[tuple(at)], call(name, alone, temperature=temperature.expand(3, 4)[tuple(at)].item()))


@every_loss_with_temperature
@pytest.mark.parametrize("shape", [(), (4,), (3, 1)])
def test_a_temperature_that_learns_gets_the_right_gradient(name, shape):
    case = make(name, 3, 4)
    temperature = torch.linspace(1, 3, math.prod(shape), dtype=torch.float64).reshape(shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda each: call(name, case, temperature=each), temperature)


@every_loss_with_temperature
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_the_dtype_of_a_temperature_does_not_become_that_of_the_loss(name, dtype):
    case = make(name, 4)
    case = case._replace(student=case.student.float(), teacher=case.teacher.float())
    found = call(name, case, temperature=torch.tensor([2], dtype=dtype))
    assert found.dtype == torch.float32
    close(found, call(name, case, temperature=2.0))


@every_loss_with_temperature
def test_a_temperature_that_does_not_broadcast_over_the_leading_dimensions_is_refused(name):
    for shape in ((3,), (2, 3, 4), (1, 3, 4), (4, 3), (3, 4, 1)):
        with pytest.raises(ValueError, match=r"temperature has shape .*leading dimensions of the logits, \(3, 4\)"):
            call(name, make(name, 3, 4), temperature=torch.ones(shape))
    with pytest.raises(ValueError, match="temperature has shape"):
        call(name, make(name, 1), temperature=torch.ones(2))  # the loss must not grow beside it


@every_loss_with_temperature
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_by_position_that_is_not_positive_is_refused(name, value):
    temperature = torch.ones(4)
    temperature[2] = value
    with pytest.raises(ValueError, match=r"temperature must be a finite number > 0 everywhere \(first at index \(2,\)"):
        call(name, make(name, 3, 4), temperature=temperature)


@every_loss_with_temperature
@pytest.mark.parametrize("wrong", ["4", None, [2.0], torch.tensor(True), torch.tensor(1j)])
def test_a_temperature_that_is_no_number_is_refused_by_its_name(name, wrong):
    with pytest.raises(TypeError, match="temperature must"):
        call(name, make(name, 3), temperature=wrong)


# --- precision --------------------------------------------------------------------------------------------------------


def narrowed(case: Case, dtype: torch.dtype) -> Case:
    return case._replace(student=case.student.to(dtype), teacher=case.teacher.to(dtype))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("validate", [True, False])
def test_half_precision_gives_what_float32_gives_of_the_same_numbers(name, dtype, validate):
    case = narrowed(make(name, 3, 4, spread=30.0), dtype)
    found = call(name, case, **({} if validate else {"validate": False}))  # mutants know no validate
    assert found.dtype == torch.float32
    assert found == call(name, narrowed(case, torch.float32))
    assert slope(name, case).dtype == dtype


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("validate", [True, False])
def test_autocast_gives_what_float32_gives_of_the_same_numbers(name, dtype, autocast, validate):
    case = narrowed(make(name, 3, 4, classes=64), dtype)
    options = {"validate": validate, "mask": torch.arange(4).expand(3, 4) > 0}
    expected, slopes = call(name, narrowed(case, torch.float32), **options), slope(name, case, **options)
    with torch.autocast("cpu", autocast):
        found = call(name, case, **options)
        assert found.dtype == torch.float32
        assert found == expected
        assert torch.equal(slope(name, case, **options), slopes)


# --- without checks ---------------------------------------------------------------------------------------------------


@every_loss
@by_reduction
def test_without_validation_value_and_gradient_are_the_same(name, reduction):
    case = make(name, 3, 4)
    close(call(name, case, reduction=reduction, validate=False), call(name, case, reduction=reduction))
    found = slope(name, case, reduction=reduction, validate=False)
    close(found, slope(name, case, reduction=reduction))


def options_of(name: str) -> list[dict[str, object]]:
    """None, a mask, and where it is taken a temperature by position."""
    masked = {"mask": torch.tensor([True, False, True, True])}
    hot = {"temperature": torch.linspace(1, 4, 4, dtype=torch.float64)}
    return [{}, masked, *([masked | hot] if name in WITH_TEMPERATURE else [])]


def compiled(name: str, backend: str, options_to_try: list[dict[str, object]]) -> None:
    case = make(name, 4)
    case.labels[1] = -100
    for options in options_to_try:
        torch.compiler.reset()
        function = torch.compile(lambda case, o=options: call(name, case, validate=False, **o), fullgraph=True,
                                 backend=backend)  # fmt: skip
        leaf = case.student.clone().requires_grad_()
        found = function(case._replace(student=leaf))
        close(found, call(name, case, **options))
        close(torch.autograd.grad(found, leaf)[0], slope(name, case, **options))


@every_loss
def test_without_validation_it_compiles_into_one_graph(name):
    compiled(name, "aot_eager", options_of(name))


@pytest.mark.slow
@every_loss
def test_without_validation_it_compiles_into_one_graph_by_inductor(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inductor's own
        try:
            torch.compile(lambda x: x.sin() + 1)(torch.ones(3))
        except Exception as error:  # no C++ compiler, or one that it cannot use
            pytest.skip(f"inductor does not work here: {error}")
        compiled(name, "inductor", options_of(name)[-1:])


@every_loss
def test_without_validation_it_goes_through_vmap_and_grad(name):
    case = make(name, 3, 4)
    for options in options_of(name):
        one = lambda *parts, o=options: call(name, Case(*parts), validate=False, **o)  # noqa: E731
        rows = [call(name, each(case, lambda part, i=i: part[i]), **options) for i in range(3)]
        close(torch.vmap(one)(*case), torch.stack(rows))
        slopes = [slope(name, each(case, lambda part, i=i: part[i]), **options) for i in range(3)]
        close(torch.vmap(torch.func.grad(one))(*case), torch.stack(slopes))


@every_loss
def test_without_validation_forms_are_still_checked(name):
    case = make(name, 3)
    with pytest.raises(TypeError, match="student_logits must be floating point"):
        call(name, case._replace(student=case.labels), validate=False)
    if name in WITH_TEACHER:
        with pytest.raises(ValueError, match="broadcasting would hide a mistake"):
            call(name, case._replace(teacher=case.teacher[:1]), validate=False)
