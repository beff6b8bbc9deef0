"""Losses on features and on relations: what must leave each as it was, loops from the definitions, bad input."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from kdcourse.losses import features, multilabel_kd_loss, relations
from kdcourse.losses.features import attention_transfer_loss, hint_loss, jacobian_loss, mmd_loss
from kdcourse.losses.relations import contrastive_loss, relation_angle_loss, relation_distance_loss, similarity_loss

N = 6


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


FLAT = drawn(N, 5, seed=1), drawn(N, 5, seed=2)
MAPS = drawn(N, 4, 3, 5, seed=3), drawn(N, 7, 3, 5, seed=4)
LOSSES = {
    hint_loss: FLAT,
    attention_transfer_loss: MAPS,
    mmd_loss: MAPS,
    relation_distance_loss: (FLAT[0], drawn(N, 3, seed=5)),
    relation_angle_loss: (FLAT[0], drawn(N, 3, seed=5)),
    similarity_loss: (FLAT[0], drawn(N, 3, seed=5)),
    contrastive_loss: FLAT,
}
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def of(*losses):
    return pytest.mark.parametrize("loss", losses, ids=lambda loss: loss.__name__)


def close(found, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=rtol, atol=atol)


def slope(loss, student, teacher):
    leaf = student.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, teacher), leaf)[0]


def test_every_public_loss_is_here():
    named = {loss.__name__ for loss in LOSSES} | {"jacobian_loss"}
    assert named == set(features.__all__) | set(relations.__all__)


# --- values, from the definitions -------------------------------------------------------------------------------------


def huber(difference):
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def distance_by_loops(student, teacher):
    def relative(x):
        d = {(i, j): math.dist(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j}
        mean = sum(d.values()) / len(d)
        return {pair: value / mean for pair, value in d.items()}

    one, other = relative(student.tolist()), relative(teacher.tolist())
    return sum(huber(one[pair] - other[pair]) for pair in one) / len(one)


def angle_by_the_law_of_cosines(student, teacher):
    def cosine(x, i, j, k):
        a, b, c = math.dist(x[i], x[j]), math.dist(x[k], x[j]), math.dist(x[i], x[k])
        return (a * a + b * b - c * c) / (2 * a * b)

    triples = [(i, j, k) for i in range(N) for j in range(N) for k in range(N) if len({i, j, k}) == 3]
    student, teacher = student.tolist(), teacher.tolist()
    return sum(huber(cosine(student, *t) - cosine(teacher, *t)) for t in triples) / len(triples)


def similarity_by_loops(student, teacher):
    def rows(x):
        gram = x @ x.T
        return gram / np.sqrt((gram**2).sum(axis=1))[:, None]

    return ((rows(student.numpy()) - rows(teacher.numpy())) ** 2).sum() / N**2


def contrastive_by_loops(student, teacher):
    total, student = 0.0, student.numpy()
    for i in range(N):
        cosines = [
            float(student[i] @ t / (np.linalg.norm(student[i]) * np.linalg.norm(t))) / 0.1 for t in teacher.numpy()
        ]
        total += math.log(sum(map(math.exp, cosines))) - cosines[i]
    return total / N


def attention_by_loops(student, teacher):
    def attention(maps):
        q = np.array([[sum(c[h, w] ** 2 for c in maps) for w in range(5)] for h in range(3)])
        return q / np.sqrt((q**2).sum())

    each = [((attention(s) - attention(t)) ** 2).mean() for s, t in zip(student.numpy(), teacher.numpy(), strict=True)]
    return np.mean(each)


def mmd_by_outer_products(student, teacher):
    """The Gram identity: the distance of the mean outer products, with no kernel anywhere."""
    total = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        means = []
        for maps in (s, t):
            vectors = maps.reshape(len(maps), -1)
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            means.append(sum(np.outer(v, v) for v in vectors) / len(vectors))
        total += ((means[1] - means[0]) ** 2).sum()
    return total / N


ORACLES = {
    hint_loss: lambda s, t: (
        sum((a - b) ** 2 for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True)) / s.numel()
    ),
    attention_transfer_loss: attention_by_loops,
    mmd_loss: mmd_by_outer_products,
    relation_distance_loss: distance_by_loops,
    relation_angle_loss: angle_by_the_law_of_cosines,
    similarity_loss: similarity_by_loops,
    contrastive_loss: contrastive_by_loops,
}


@every_loss
@pytest.mark.parametrize("size", [1.0, 30.0], ids=["near", "far"])
def test_equals_loops_written_from_the_definition(loss, size):
    student, teacher = LOSSES[loss]
    close(loss(size * student, teacher), ORACLES[loss](size * student, teacher))


@every_loss
def test_gradient_is_the_numerical_one(loss):
    student, teacher = LOSSES[loss]
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student.clone().requires_grad_())


def test_the_corner_of_a_3_4_5_triangle():
    corner = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    found = relations._cosines(corner, corner)
    close(found[0, 1, 2], 0.0)
    close(found[1, 0, 2], 0.6)
    close(found[2, 0, 1], 0.8)


# --- what must change nothing -----------------------------------------------------------------------------------------

ROTATION = torch.linalg.qr(drawn(5, 5, seed=9))[0]
BY_RELATION = relation_distance_loss, relation_angle_loss, similarity_loss


@every_loss
def test_unchanged_by_reordering_the_batch(loss):
    student, teacher = LOSSES[loss]
    order = torch.tensor([3, 5, 0, 4, 1, 2])
    close(loss(student[order], teacher[order]), loss(student, teacher))


@every_loss
def test_other_teachers_are_told_apart_from_one_s_own(loss):
    student, teacher = LOSSES[loss]
    assert abs(loss(student, teacher) - loss(student, teacher.roll(1, dims=0))) > 1e-4


@of(*[loss for loss in LOSSES if loss is not contrastive_loss])
def test_zero_with_zero_gradient_where_both_agree(loss):
    student = LOSSES[loss][0]
    close(loss(student, student), 0.0)
    close(slope(loss, student, student), torch.zeros_like(student))


@of(*BY_RELATION)
def test_depends_on_distances_alone_so_the_gradient_times_the_features_is_symmetric(loss):
    student, teacher = LOSSES[loss]
    close(loss(student @ ROTATION, teacher), loss(student, teacher))
    product = student.T @ slope(loss, student, teacher)
    close(product, product.T)
    hint = FLAT[0].T @ slope(hint_loss, *FLAT)
    assert (hint - hint.T).abs().max() > 1e-3  # a loss on the features themselves does not have it


@of(*BY_RELATION)
def test_unchanged_by_the_scale_so_the_gradient_is_perpendicular_to_the_features(loss):
    student, teacher = LOSSES[loss]
    for size in (1e-4, 7.0, 1e5):
        close(loss(size * student, teacher / size), loss(student, teacher))
    close((student * slope(loss, student, teacher)).sum(), 0.0)


@of(relation_distance_loss, relation_angle_loss)
def test_unchanged_by_a_shift_so_the_gradients_sum_to_zero(loss):
    student, teacher = LOSSES[loss]
    close(loss(student + 3.0, teacher - 5.0), loss(student, teacher))
    close(slope(loss, student, teacher).sum(dim=0), torch.zeros(5))


def test_a_shift_changes_the_similarities():
    student, teacher = LOSSES[similarity_loss]
    assert abs(similarity_loss(student + 3.0, teacher) - similarity_loss(student, teacher)) > 1e-2
    assert slope(similarity_loss, student, teacher).sum(dim=0).abs().max() > 1e-3


@of(attention_transfer_loss, mmd_loss)
def test_unchanged_by_renaming_channels_and_by_repeating_them(loss):
    student, teacher = LOSSES[loss]
    for changed in (student[:, [2, 0, 3, 1]], torch.cat([student, student], dim=1)):
        close(loss(changed, teacher), loss(student, teacher))


def test_attention_is_unchanged_by_the_scale_of_each_example_and_bounded():
    student, teacher = MAPS
    scales = torch.tensor([0.1, 1, 2, 30, 4, 5], dtype=torch.float64).reshape(-1, 1, 1, 1)
    close(attention_transfer_loss(scales * student, teacher), attention_transfer_loss(student, teacher))
    one, other = torch.zeros(2, 1, 1, 3, 5, dtype=torch.float64)
    one[0, 0, 0, 0], other[0, 0, 2, 1] = 3.0, 8.0
    close(attention_transfer_loss(one, other), 2 / 15)


def test_mmd_is_unchanged_by_the_scale_of_each_channel():
    student, teacher = MAPS
    scales = torch.tensor([0.1, 1, 2, 30], dtype=torch.float64).reshape(1, -1, 1, 1)
    close(mmd_loss(-scales * student, teacher), mmd_loss(student, teacher))


def test_a_wrong_half_of_the_batch_costs_something():
    """A public loss multiplies the differences of neighbours: it is 0 while every second example is wrong."""
    for loss in (hint_loss, *BY_RELATION):
        student = FLAT[0].clone()
        student[::2] += FLAT[1][::2]
        assert loss(student, FLAT[0]) > 1e-2


# --- the teacher, precision, edges ------------------------------------------------------------------------------------


@every_loss
def test_no_gradient_reaches_the_teacher(loss):
    student, teacher = (each.clone().requires_grad_() for each in LOSSES[loss])
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.any()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_computed_in_float32(loss, dtype):
    student, teacher = (each.to(dtype) for each in LOSSES[loss])
    found = loss(student, teacher)
    assert found.dtype == torch.float32
    assert found.ndim == 0
    close(found.double(), loss(student.double(), teacher.double()), rtol=1e-4, atol=1e-6)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_autocast_gives_what_float32_gives_of_the_same_numbers(loss, dtype, autocast):
    student, teacher = (each.to(dtype) for each in LOSSES[loss])
    expected, gradient = loss(student.float(), teacher.float()), slope(loss, student.float(), teacher.float())
    with torch.autocast("cpu", autocast):
        leaf = student.clone().requires_grad_()
        found = loss(leaf, teacher)
    assert found.dtype == torch.float32
    assert found == expected
    assert torch.equal(torch.autograd.grad(found, leaf)[0], gradient.to(dtype))


@every_loss
def test_a_teacher_of_another_precision_is_no_obstacle(loss):
    student, teacher = LOSSES[loss]
    for one, other in ((torch.float32, torch.float64), (torch.float64, torch.float16), (torch.bfloat16, torch.float32)):
        found = loss(student.to(one), teacher.to(other))
        close(found.double(), loss(student.to(one).double(), teacher.to(other).double()), rtol=1e-4, atol=1e-6)
        assert slope(loss, student.to(one), teacher.to(other)).dtype == one


@every_loss
def test_half_precision_does_not_overflow(loss):
    student, teacher = (60000 * each / each.abs().max() for each in LOSSES[loss])
    student, teacher = student.half(), teacher.half()
    close(loss(student, teacher).double(), loss(student.double(), teacher.double()), rtol=1e-4)
    assert slope(loss, student.float(), teacher.float()).isfinite().all()


@of(attention_transfer_loss, mmd_loss, contrastive_loss, *BY_RELATION)
@pytest.mark.parametrize("size", [1e-17, 1e-9, 1e9, 1e16])
def test_float32_features_of_any_size_are_compared_by_form_alone(loss, size):
    student, teacher = (each.float() for each in LOSSES[loss])
    close(loss(size * student, teacher).double(), loss(*LOSSES[loss]), rtol=1e-4)
    close(size * slope(loss, size * student, teacher), slope(loss, student, teacher), rtol=1e-3, atol=1e-6)


@every_loss
def test_without_validation_value_and_gradient_are_the_same_and_nothing_is_refused(loss):
    student, teacher = LOSSES[loss]
    assert torch.equal(loss(student, teacher, validate=False), loss(student, teacher))
    unchecked = lambda s, t: loss(s, t, validate=False)  # noqa: E731
    assert torch.equal(slope(unchecked, student, teacher), slope(loss, student, teacher))
    assert loss(student * math.nan, teacher, validate=False).isnan()


@every_loss
def test_without_validation_it_compiles_into_one_graph(loss):
    student, teacher = LOSSES[loss]
    torch.compiler.reset()
    compiled = torch.compile(lambda s, t: loss(s, t, validate=False), fullgraph=True, backend="aot_eager")
    close(compiled(student, teacher), loss(student, teacher))
    close(slope(compiled, student, teacher), slope(loss, student, teacher))


@every_loss
def test_unchanged_by_how_the_tensors_lie_in_memory_and_leaves_them_alone(loss):
    student, teacher = LOSSES[loss]
    if student.ndim == 4:
        turned = [each.clone(memory_format=torch.channels_last) for each in (student, teacher)]
    else:
        turned = [each.T.contiguous().T for each in (student, teacher)]
    kept = [each.clone() for each in turned]
    assert not turned[0].is_contiguous()
    close(loss(*turned), loss(student, teacher))
    close(slope(loss, *turned), slope(loss, student, teacher))
    assert all(torch.equal(*pair) for pair in zip(turned, kept, strict=True))


@of(*[loss for loss in LOSSES if LOSSES[loss] is not MAPS])
def test_features_of_any_rank_are_taken_as_they_lie(loss):
    student, teacher = drawn(N, 2, 3, 4, seed=1), drawn(N, 2, 3, 4, seed=2)
    close(loss(student, teacher), loss(student.flatten(1), teacher.flatten(1)))


def test_angles_in_several_chunks_are_those_in_one():
    """6 examples of 60,000 entries are cut to single centres."""
    student, teacher = drawn(6, 60_000, seed=1), drawn(6, 3, seed=2)
    gram = student @ student.T
    small = torch.linalg.cholesky(gram)  # the same angles in 6 dimensions
    close(relation_angle_loss(student, teacher), relation_angle_loss(small, teacher))


@every_loss
def test_equal_examples_and_zeros_have_finite_gradients_of_usual_size(loss):
    student, teacher = LOSSES[loss]
    usual = slope(loss, student, teacher).abs().max()
    for change in ("equal", "zero", "all equal", "all zero"):
        changed = student.clone()
        changed[1] = changed[0] if change == "equal" else 0.0 if change == "zero" else changed[1]
        if change.startswith("all"):
            changed = changed[:1].expand_as(changed) * (change == "all equal")
        found = slope(loss, changed.float(), teacher.float())
        assert found.isfinite().all(), change
        assert found.abs().max() < 100 * usual, change
        assert loss(changed, teacher).isfinite()


@every_loss
def test_shapes_that_do_not_pair_up_are_refused(loss):
    student, teacher = LOSSES[loss]
    for validate in (True, False):
        with pytest.raises(ValueError, match=r"student_features has 5 examples and teacher_features 6"):
            loss(student[:5], teacher, validate=validate)
        with pytest.raises(ValueError, match=r"must be \(N, ...\), examples first and at least one"):
            loss(student[:0], teacher[:0], validate=validate)
        with pytest.raises(ValueError, match="must be"):
            loss(student.flatten(), teacher.flatten(), validate=validate)
        with pytest.raises(TypeError, match="student_features must be floating point, got torch.int64"):
            loss(student.long(), teacher, validate=validate)
        with pytest.raises(TypeError, match="teacher_features must be a torch.Tensor, got list"):
            loss(student, teacher.tolist(), validate=validate)


@every_loss
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused_by_name(loss, wrong):
    for side, name in ((0, "student_features"), (1, "teacher_features")):
        case = [each.clone() for each in LOSSES[loss]]
        case[side].view(-1)[3] = wrong
        with pytest.raises(ValueError, match=f"{name} contains NaN or infinity"):
            loss(*case)


@pytest.mark.parametrize(
    ("loss", "least"),
    [(relation_distance_loss, 3), (relation_angle_loss, 3), (similarity_loss, 2), (contrastive_loss, 2)],
)
def test_too_few_examples_for_a_relation_are_refused(loss, least):
    student, teacher = LOSSES[loss]
    with pytest.raises(ValueError, match=f"needs at least {least} examples in the batch, got {least - 1}.*drop_last"):
        loss(student[: least - 1], teacher[: least - 1])
    assert loss(student[:least], teacher[:least]).isfinite()


def test_other_widths_are_refused_where_they_matter_with_the_cure():
    with pytest.raises(ValueError, match=r"\(6, 5\) and teacher_features \(6, 3\).*regressor.*trained with it"):
        hint_loss(FLAT[0], drawn(6, 3))
    with pytest.raises(ValueError, match="5 entries per example and teacher_features 3.*regressor"):
        contrastive_loss(FLAT[0], drawn(6, 3))
    for loss in (attention_transfer_loss, mmd_loss):
        with pytest.raises(ValueError, match=r"student's maps are \(3, 5\) and the teacher's \(6, 5\).*adaptive_avg"):
            loss(MAPS[0], drawn(6, 7, 6, 5))
        with pytest.raises(ValueError, match=r"maps must be \(N, C, H, W\), got \(6, 5\)"):
            loss(*FLAT)
        with pytest.raises(ValueError, match="a single position look nowhere"):
            loss(drawn(6, 4, 1, 1), drawn(6, 7, 1, 1))


@every_loss
def test_features_beyond_the_range_of_squares_are_refused_not_taken_for_zeros(loss):
    student, teacher = (each.float() for each in LOSSES[loss])
    with pytest.raises(ValueError, match="the loss overflows torch.float32: the features are too large"):
        loss(1e30 * student, teacher)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
        contrastive_loss(*FLAT, temperature=temperature)


def test_unrelated_features_cost_about_ln_n_and_hot_ones_exactly():
    student, teacher = drawn(500, 300, seed=1), drawn(500, 300, seed=2)
    assert contrastive_loss(student, teacher) == pytest.approx(math.log(500), abs=0.5)
    assert contrastive_loss(student, teacher, temperature=1e9) == pytest.approx(math.log(500), abs=1e-6)


# --- Jacobians --------------------------------------------------------------------------------------------------------


def networks(seed=0):
    torch.manual_seed(seed)
    return [nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double() for _ in range(2)]


def by_functorch(student, teacher, inputs):
    alone = [lambda image, network=network: network(image.unsqueeze(0))[0] for network in (student, teacher)]
    jacobians = [torch.func.vmap(torch.func.jacrev(network))(inputs) for network in alone]
    return (jacobians[0] - jacobians[1]).square().sum() / len(inputs)


def test_jacobians_are_those_of_functional_autograd():
    student, teacher = networks()
    inputs = drawn(5, 4).requires_grad_()
    found = jacobian_loss(student(inputs), teacher(inputs), inputs)
    close(found, by_functorch(student, teacher, inputs))
    gradients = torch.autograd.grad(found, student.parameters(), materialize_grads=True)
    expected = torch.autograd.grad(by_functorch(student, teacher, inputs), student.parameters(), materialize_grads=True)
    for one, other in zip(gradients, expected, strict=True):
        close(one, other)
    assert gradients[0].any()


def test_no_gradient_of_the_jacobian_reaches_the_teacher():
    student, teacher = networks()
    inputs = drawn(5, 4).requires_grad_()
    jacobian_loss(student(inputs), teacher(inputs), inputs).backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in teacher.parameters())


def test_matching_under_noise_is_matching_jacobians_exactly_for_linear_networks():
    """The mean over ±σ√d along every axis is an exact mean for a square of a linear function."""
    student, teacher = nn.Linear(4, 3, bias=False).double(), nn.Linear(4, 3, bias=False).double()
    sigma, image = 0.3, drawn(1, 4)
    steps = torch.cat([torch.eye(4), -torch.eye(4)]).double() * sigma * 2  # √4 = 2
    noisy = (student(image + steps) - teacher(image + steps)).square().sum(dim=1).mean()
    image.requires_grad_()
    clean = (student(image) - teacher(image)).square().sum()
    close(noisy, clean + sigma**2 * jacobian_loss(student(image), teacher(image), image))


def test_rows_that_depend_on_one_another_are_refused():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()
    teacher, inputs = networks()[1], drawn(5, 4).requires_grad_()
    for one, other, name in ((student, teacher, "student"), (teacher, student, "teacher")):
        with pytest.raises(ValueError, match=f"a row of {name}_outputs depends on the inputs of other.*eval mode"):
            jacobian_loss(one(inputs), other(inputs), inputs)
    student.eval()
    close(jacobian_loss(student(inputs), teacher(inputs), inputs), by_functorch(student, teacher, inputs))


def test_jacobians_of_half_precision_are_compared_in_float32():
    student, teacher = (network.bfloat16() for network in networks())
    inputs = drawn(5, 4).bfloat16().requires_grad_()
    found = jacobian_loss(student(inputs), teacher(inputs), inputs)
    assert found.dtype == torch.float32
    expected = by_functorch(student.double(), teacher.double(), inputs.detach().double())
    close(found.double(), expected, rtol=0.1)


def test_a_jacobian_that_is_none_is_refused():
    inputs = torch.zeros(3, 2, requires_grad=True)
    with pytest.raises(ValueError, match="a Jacobian contains NaN or infinity: look for a root"):
        jacobian_loss(inputs.sqrt(), 2 * inputs, inputs)


def test_jacobian_without_validation_is_the_same():
    student, teacher = networks()
    inputs = drawn(5, 4).requires_grad_()
    pair = student(inputs), teacher(inputs), inputs
    close(jacobian_loss(*pair, validate=False), jacobian_loss(*pair))


def test_the_best_regressor_leaves_the_tail_of_the_singular_values():
    """The floor of a hint: 3 dimensions cannot hold 7, whatever is trained."""
    teacher = drawn(40, 7, seed=1)
    teacher = teacher - teacher.mean(dim=0)
    left, values, right = torch.linalg.svd(teacher, full_matrices=False)
    best = left[:, :3] * values[:3] @ right[:3]
    close(hint_loss(best, teacher), values[3:].square().sum() / teacher.numel())
    hidden = left[:, :3].contiguous()  # what a student of 3 units holds at best
    regressor = torch.linalg.lstsq(hidden, teacher).solution
    close(hint_loss(hidden @ regressor, teacher), values[3:].square().sum() / teacher.numel())


def test_outputs_that_do_not_come_from_the_inputs_are_refused():
    student, teacher = networks()
    inputs = drawn(5, 4)
    with pytest.raises(ValueError, match="student_outputs was not computed from inputs that take a gradient"):
        jacobian_loss(student(inputs), teacher(inputs), inputs)
    inputs.requires_grad_()
    with torch.no_grad():
        hidden = teacher(inputs)
    with pytest.raises(ValueError, match="teacher_outputs was not computed from inputs.*not under torch.no_grad"):
        jacobian_loss(student(inputs), hidden, inputs)
    with pytest.raises(ValueError, match="student_outputs was not computed from inputs"):
        jacobian_loss(student(inputs.detach().clone()), teacher(inputs), inputs)
    with pytest.raises(ValueError, match="teacher_outputs has 4|student_outputs has 5 examples and teacher_outputs 4"):
        jacobian_loss(student(inputs), teacher(inputs[:4]), inputs)
    with pytest.raises(ValueError, match="4 inputs for 5 rows"):
        jacobian_loss(student(inputs), teacher(inputs), inputs[:4])
    with pytest.raises(ValueError, match="of equal shape"):
        jacobian_loss(student(inputs), teacher(inputs)[:, :2], inputs)


# --- several labels at once -------------------------------------------------------------------------------------------


def test_several_labels_at_once_are_bernoulli_divergences():
    student, teacher, temperature = drawn(4, 3, seed=1), drawn(4, 3, seed=2), 2.5
    total = 0.0
    for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        p, q = 1 / (1 + math.exp(-t / temperature)), 1 / (1 + math.exp(-s / temperature))
        total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    close(multilabel_kd_loss(student, teacher, temperature=temperature), temperature**2 * total / 4)


def test_one_yes_or_no_is_a_softmax_of_two():
    from kdcourse.losses import kd_loss

    student, teacher = drawn(7, 1, seed=1), drawn(7, 1, seed=2)
    two = [torch.cat([torch.zeros_like(each), each], dim=1) for each in (student, teacher)]
    close(multilabel_kd_loss(student, teacher, temperature=3.0), kd_loss(*two, temperature=3.0))
