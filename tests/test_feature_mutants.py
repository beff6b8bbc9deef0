"""Mistakes that public code makes in losses on layers, written afresh: a named test must fail for each.

The tests are those of `test_feature_losses`, which take the loss as an argument. ``-s`` prints the table.
"""

import pytest
import test_feature_losses as tests
import torch
import torch.nn.functional as F

from kdcourse.losses import features, multilabel_kd_loss, relations
from kdcourse.losses.features import attention_transfer_loss, hint_loss, mmd_loss
from kdcourse.losses.relations import contrastive_loss, relation_angle_loss, relation_distance_loss, similarity_loss


def n(vectors, dim):
    return F.normalize(vectors, dim=dim)


def hint_summed_over_entries(student, teacher):
    return (student - teacher.detach()).square().flatten(1).sum(dim=1).mean()


def hint_student_detached(student, teacher):
    return F.mse_loss(student.detach(), teacher) + 0 * student.sum()


def hint_reaching_the_teacher(student, teacher):
    return F.mse_loss(student, teacher)


def hint_of_neighbours(student, teacher):
    difference = (student - teacher.detach()).abs()
    return (difference[:-1] * difference[1:]).mean()


def attention_by_channel(student, teacher):
    student, teacher = (n(maps.square().flatten(2), 2) for maps in (student, teacher.detach()))
    return (student[:, :4] - teacher[:, :4]).square().mean()


def attention_over_the_batch(student, teacher):
    student, teacher = (n(maps.square().sum(dim=1).flatten(1), 0) for maps in (student, teacher.detach()))
    return (student - teacher).square().mean()


def attention_as_a_norm(student, teacher):
    student, teacher = (n(maps.square().sum(dim=1).flatten(1), 1) for maps in (student, teacher.detach()))
    return (student - teacher).norm(dim=1).mean()


def kernels(student, teacher, power, cross):
    student, teacher = (n(maps.flatten(2), 2) for maps in (student, teacher.detach()))
    k = lambda one, other: ((one @ other.transpose(1, 2)) ** power).mean()  # noqa: E731
    return k(student, student) + k(teacher, teacher) - cross * k(student, teacher)


def mmd_with_a_single_cross_term(student, teacher):
    return kernels(student, teacher, 2, 1)


def mmd_linear(student, teacher):
    return kernels(student, teacher, 1, 2)


def mmd_not_normalised(student, teacher):
    student, teacher = (maps.flatten(2) for maps in (student, teacher.detach()))
    student, teacher = (each.transpose(1, 2) @ each / each.shape[1] for each in (student, teacher))
    return (student - teacher).square().sum(dim=(1, 2)).mean()


def distances(features, eps=0.0):
    return ((features.unsqueeze(0) - features.unsqueeze(1)).square().sum(-1) + eps).sqrt()


def distance_with_the_diagonal(student, teacher):
    student, teacher = (distances(each, 1e-12) for each in (student, teacher.detach()))
    return F.smooth_l1_loss(student / student.mean(), teacher / teacher.mean())


def distance_not_relative(student, teacher):
    return F.smooth_l1_loss(F.pdist(student), F.pdist(teacher.detach()))


def distance_squared(student, teacher):
    student, teacher = (F.pdist(each).square() for each in (student, teacher.detach()))
    return F.smooth_l1_loss(student / student.mean(), teacher / teacher.mean())


def distance_with_endless_gradients(student, teacher):
    student, teacher = (distances(each) for each in (student, teacher.detach()))
    off = ~torch.eye(len(student), dtype=torch.bool)
    return F.smooth_l1_loss(student[off] / student[off].mean(), teacher[off] / teacher[off].mean())


def directions(features, dim):
    return n(features.unsqueeze(0) - features.unsqueeze(1), dim)


def angle_over_all_triples(student, teacher):
    student, teacher = (directions(each, -1) for each in (student, teacher.detach()))
    return F.smooth_l1_loss(student @ student.transpose(1, 2), teacher @ teacher.transpose(1, 2))


def angle_at_the_origin(student, teacher):
    student, teacher = (n(each, 1) for each in (student, teacher.detach()))
    return F.smooth_l1_loss(student @ student.T, teacher @ teacher.T)


def similarity_of_cosines(student, teacher):
    student, teacher = (n(each, 1) for each in (student, teacher.detach()))
    return F.mse_loss(student @ student.T, teacher @ teacher.T)


def similarity_normalised_as_a_whole(student, teacher):
    student, teacher = (each @ each.T for each in (student, teacher.detach()))
    return F.mse_loss(student / student.norm(), teacher / teacher.norm())


def similarity_centred(student, teacher):
    return similarity_loss(student - student.mean(dim=0), teacher - teacher.mean(dim=0))


def similarity_of_features(student, teacher):
    student, teacher = (n(each[:, :3].T @ each[:, :3], 1) for each in (student, teacher.detach()))
    return F.mse_loss(student, teacher)


def contrastive_the_other_way(student, teacher):
    return F.cross_entropy(n(teacher.detach(), 1) @ n(student, 1).T / 0.1, torch.arange(len(student)))


def contrastive_temperature_multiplied(student, teacher):
    return F.cross_entropy(n(student, 1) @ n(teacher.detach(), 1).T * 0.1, torch.arange(len(student)))


def contrastive_not_normalised(student, teacher):
    return F.cross_entropy(student @ teacher.detach().T / 0.1, torch.arange(len(student)))


DEFINITION = "test_equals_loops_written_from_the_definition"
MUTANTS = {
    hint_summed_over_entries: (hint_loss, DEFINITION),
    hint_student_detached: (hint_loss, "test_no_gradient_reaches_the_teacher"),
    hint_reaching_the_teacher: (hint_loss, "test_no_gradient_reaches_the_teacher"),
    hint_of_neighbours: (hint_loss, "test_unchanged_by_reordering_the_batch"),
    attention_by_channel: (attention_transfer_loss, "test_unchanged_by_renaming_channels_and_by_repeating_them"),
    attention_over_the_batch: (attention_transfer_loss, DEFINITION),
    attention_as_a_norm: (attention_transfer_loss, DEFINITION),
    mmd_with_a_single_cross_term: (mmd_loss, "test_zero_with_zero_gradient_where_both_agree"),
    mmd_linear: (mmd_loss, DEFINITION),
    mmd_not_normalised: (mmd_loss, DEFINITION),
    distance_with_the_diagonal: (relation_distance_loss, DEFINITION),
    distance_not_relative: (
        relation_distance_loss,
        "test_unchanged_by_the_scale_so_the_gradient_is_perpendicular_to_the_features",
    ),
    distance_squared: (relation_distance_loss, DEFINITION),
    distance_with_endless_gradients: (
        relation_distance_loss,
        "test_equal_examples_and_zeros_have_finite_gradients_of_usual_size",
    ),
    angle_over_all_triples: (relation_angle_loss, DEFINITION),
    angle_at_the_origin: (relation_angle_loss, "test_unchanged_by_a_shift_so_the_gradients_sum_to_zero"),
    similarity_of_cosines: (similarity_loss, DEFINITION),
    similarity_normalised_as_a_whole: (similarity_loss, DEFINITION),
    similarity_centred: (similarity_loss, DEFINITION),
    similarity_of_features: (
        similarity_loss,
        "test_depends_on_distances_alone_so_the_gradient_times_the_features_is_symmetric",
    ),
    contrastive_the_other_way: (contrastive_loss, DEFINITION),
    contrastive_temperature_multiplied: (contrastive_loss, DEFINITION),
    contrastive_not_normalised: (contrastive_loss, DEFINITION),
}


@pytest.mark.parametrize("wrong", MUTANTS, ids=lambda wrong: wrong.__name__)
def test_a_mistake_in_a_loss_on_layers_is_killed_by_its_named_test(wrong, monkeypatch):
    right, name = MUTANTS[wrong]
    killer = getattr(tests, name)
    arguments = {"size": 1.0} if name == DEFINITION else {}
    killer(right, **arguments)  # the right loss passes, so what fails below is the mistake
    for table in (tests.LOSSES, tests.ORACLES):
        monkeypatch.setitem(table, wrong, table[right])
    with pytest.raises(AssertionError):
        killer(wrong, **arguments)
    print(f"\n{right.__name__:<25}{wrong.__name__:<38}killed by {name}", end="")


def test_every_loss_on_layers_has_mistakes_that_are_killed():
    named = {right.__name__ for right, _ in MUTANTS.values()} | {"jacobian_loss"}
    assert named == set(features.__all__) | set(relations.__all__)


def bernoulli(student, teacher, temperature):
    p, q = (torch.sigmoid(each / temperature) for each in (teacher.detach(), student))
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda s, t, *, temperature: temperature**2 * bernoulli(s, t, temperature).mean(),
        lambda s, t, *, temperature: bernoulli(s, t, temperature).sum(-1).mean(),
        lambda s, t, *, temperature: temperature**2 * bernoulli(t, s, temperature).sum(-1).mean(),
        lambda s, t, *, temperature: (
            temperature**2
            * F.binary_cross_entropy_with_logits(s / temperature, torch.sigmoid(t / temperature), reduction="sum")
            / len(s)
        ),
        lambda s, t, *, temperature: (
            temperature**2 * F.kl_div((s / temperature).log_softmax(-1), (t / temperature).softmax(-1), reduction="sum")
        ),
    ],
    ids=["mean over classes", "without T²", "the other direction", "the entropy left in", "softmax"],
)
def test_a_mistake_in_the_loss_for_several_labels_is_killed(wrong, monkeypatch):
    killer = tests.test_several_labels_at_once_are_bernoulli_divergences
    killer()
    monkeypatch.setattr(tests, multilabel_kd_loss.__name__, wrong)
    with pytest.raises(AssertionError):
        killer()


def jacobian_of_the_sum(student, teacher, inputs, **_):
    """The gradient of outputs.sum() is the sum of the rows."""
    one, other = (torch.autograd.grad(each.sum(), inputs, create_graph=True)[0] for each in (student, teacher))
    return (one - other.detach()).square().sum() / len(inputs)


def jacobian_without_a_graph(student, teacher, inputs, **_):
    rows = [
        torch.autograd.grad((student - teacher)[:, k].sum(), inputs, retain_graph=True)[0]
        for k in range(student.shape[1])
    ]
    return torch.stack(rows).square().sum() / len(inputs) + 0 * student.sum()


def jacobian_mean_over_outputs(student, teacher, inputs, **_):
    return features.jacobian_loss(student, teacher, inputs) / student.shape[1]


@pytest.mark.parametrize("wrong", [jacobian_of_the_sum, jacobian_without_a_graph, jacobian_mean_over_outputs])
def test_a_mistake_in_jacobians_is_killed(wrong, monkeypatch):
    killer = tests.test_jacobians_are_those_of_functional_autograd
    killer()
    monkeypatch.setattr(tests, "jacobian_loss", wrong)
    with pytest.raises(AssertionError):
        killer()
