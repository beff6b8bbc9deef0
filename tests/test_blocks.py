"""The blocks of notebook 14: what its job computes, against closed forms in float64."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from kdcourse.data import Split
from kdcourse.exercises.notebook_14.e14_5_contributions import contributions
from kdcourse.models import conv_net
from kdcourse.seeds import seeded

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data" / "results"))
import blocks  # noqa: E402 (the jobs are scripts, no package)


@pytest.fixture(autouse=True)
def wide_numbers():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def teacher():
    with seeded(0):
        network = conv_net(blocks.WIDE[1:])
        for norm in (network.norm1, network.norm2, network.norm3):
            nn.init.uniform_(norm.running_mean)
            nn.init.uniform_(norm.bias, 1, 2)
    return network.double().eval()


def student(seed=0):
    """Blocks whose batch norms have seen something."""
    found = blocks.new_blocks(seed).double().train()
    with torch.no_grad():
        found(torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(seed)))
    return found.eval()


@pytest.fixture
def images():
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(3))


def test_merged_blocks_and_head_compute_what_they_did_apart(teacher, images):
    ours = student()
    network = blocks.merged(ours, teacher.classes).double()
    # the job's networks are float32; here every weight is computed again in float64
    assert [tuple(network.get_submodule(f"conv{k}").weight.shape[:2]) for k in (1, 2, 3)] == [(8, 1), (16, 8), (24, 16)]
    torch.testing.assert_close(network(images), teacher[9:](ours(images)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("way", ["parallel", "sequence"])
def test_linear_blocks_learn_the_least_squares_solution(monkeypatch, way):
    """Block k of the student is narrower than the teacher's: the target is not reached, the best fit is."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 4, generator=draw)
    theirs = nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in ((4, 5), (5, 6)))).requires_grad_(
        False
    )
    for number, parameter in enumerate(theirs.parameters()):
        nn.init.normal_(parameter, generator=draw.manual_seed(number))
    ours = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6))
    monkeypatch.setattr(blocks, "few", lambda: Split(inputs, torch.zeros(50, dtype=torch.long)))
    monkeypatch.setattr(blocks, "new_blocks", lambda seed: ours)
    monkeypatch.setattr(blocks, "blocks_of", lambda teacher: teacher)
    getattr(blocks, way)(theirs, 0.03, 800, 0)
    middle = theirs[0](inputs)
    ones = torch.ones(50, 1)
    for block, given, target in (
        (ours[0], inputs, middle),
        (ours[1], middle if way == "parallel" else ours[0](inputs), theirs[1](middle)),
    ):
        given = torch.cat([given, ones], dim=1)
        least = (given @ torch.linalg.lstsq(given, target).solution - target).square().mean()
        reached = (given @ torch.cat([block.weight.T, block.bias[None]]) - target).square().mean()
        assert least > 1e-3
        assert least < reached < 1.01 * least


def test_blocks_that_are_the_teachers_have_no_error_and_every_hybrid_is_the_teacher(monkeypatch, teacher, images):
    labels = teacher(images).argmax(dim=-1)
    labels[0] = (labels[0] + 1) % 10
    monkeypatch.setattr(blocks, "shipped", lambda: teacher)
    monkeypatch.setattr(blocks, "digits", lambda: type("Digits", (), {"test": Split(images, labels)}))
    found = blocks.inside(copy.deepcopy(blocks.blocks_of(teacher)))
    assert found["error_on_the_teachers_inputs"] == found["error_on_its_own"] == [0, 0, 0]
    assert found["contributions"] == [0, 0, 0]
    assert found["hybrids"] == pytest.approx([5 / 6] * 4)


def test_the_first_hybrid_is_the_teacher_and_the_last_the_student(monkeypatch, teacher, images):
    ours = student()
    network = blocks.merged(ours, teacher.classes).double().eval()
    labels = network(images).argmax(dim=-1)
    monkeypatch.setattr(blocks, "shipped", lambda: teacher)
    monkeypatch.setattr(blocks, "digits", lambda: type("Digits", (), {"test": Split(images, labels)}))
    found = blocks.inside(ours)
    assert found["hybrids"][-1] == 1
    assert found["hybrids"][0] == pytest.approx((teacher(images).argmax(dim=-1) == labels).double().mean().item())
    assert found["error_on_the_teachers_inputs"][0] == found["error_on_its_own"][0] > 0
    theirs = blocks.blocks_of(teacher)
    target = theirs(images)
    for name, made in (
        ("error_on_its_own", ours(images)),
        ("error_on_the_teachers_inputs", ours[2](theirs[:2](images))),
    ):
        error = (made - target).square().mean() / target.square().mean()
        assert found[name][2] == pytest.approx(error.item(), abs=1e-5)
    assert found["error_on_its_own"][2] != found["error_on_the_teachers_inputs"][2]


def test_an_inserted_layer_that_starts_as_the_identity_changes_nothing(teacher, images):
    layer = nn.Conv2d(32, 32, 1, bias=False)
    nn.init.dirac_(layer.weight)
    longer = nn.Sequential(*teacher[:6], layer, *teacher[6:]).eval()
    assert torch.equal(longer(images), teacher(images))


def test_a_contribution_is_at_most_the_blocks_error_times_the_norms_of_the_blocks_after_it(images):
    """ReLU stretches nothing, so the spectral norms of the teacher's later layers bound what an error becomes."""
    sizes = [(784, 12), (12, 9), (9, 5)]
    theirs, ours = (nn.Sequential(*(nn.Sequential(nn.Linear(*size), nn.ReLU()) for size in sizes)) for _ in range(2))
    given = inputs = images.flatten(1)
    with torch.no_grad():
        for block in theirs:
            block[0].weight *= 0.9 / torch.linalg.matrix_norm(block[0].weight, 2)
        for k, contribution in enumerate(contributions(theirs, ours, inputs)):
            bound = 0.9 ** (len(sizes) - 1 - k) * (theirs[k](given) - ours[k](given)).norm(dim=1)
            assert (contribution.norm(dim=1) > 0).all()
            assert (contribution.norm(dim=1) <= bound * (1 + 1e-12)).all()
            given = ours[k](given)
