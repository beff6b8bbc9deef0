"""The card against numbers worked out image by image; the interval of a change by exact coverage."""

import math

import pytest
import torch
from scipy.stats import multinomial, norm
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.functional.classification import multiclass_calibration_error

from kdcourse.card import compare
from kdcourse.data import Split
from kdcourse.metrics import accuracy_interval, change_interval
from kdcourse.quantization import calibrate, fake_quantize_model, integer_network
from kdcourse.robustness import add_noise, fade


@pytest.fixture(scope="module")
def networks():
    """Two networks that agree on most images, and labels that the first one is mostly right about."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4)).eval()
    images = torch.rand(500, 1, 8, 8)
    with torch.no_grad():
        dense[4].weight *= 8
        dense[4].bias.copy_(-(dense(images) - dense[4].bias).mean(dim=0))
        labels = dense(images).argmax(dim=1)
        labels[::6] = (labels[::6] + 1) % 4
        labels[7] = -100
    small = fake_quantize_model(dense, weight_bits=2)
    return dense.train(), small.train(), Split(images[:300], labels[:300]), Split(images[300:], labels[300:])


def by_hand(dense, small, test):
    """Image by image: predictions before and after, and the label."""
    with torch.no_grad():
        pairs = zip(dense(test.images).argmax(1).tolist(), small(test.images).argmax(1).tolist(), strict=True)
    return [(*pair, label) for pair, label in zip(pairs, test.labels.tolist(), strict=True) if label != -100]


def error_of(model, test, temperature=1.0):
    kept = test.labels != -100
    with torch.no_grad():
        probabilities = (model(test.images)[kept].double() / temperature).softmax(dim=1)
    found = multiclass_calibration_error(probabilities.clamp(max=1 - 1e-9), test.labels[kept], 4, n_bins=15)
    return found.item()


def test_the_card_is_what_is_counted_by_hand(networks):
    dense, small, test, validation = networks
    card = compare(dense, small, test, validation=validation, sizes=(400, 100), corrupted={"faded": half})
    assert dense.training
    assert small.training
    dense.eval()
    small.eval()
    rows = by_hand(dense, small, test)
    assert len(rows) == 299
    assert card.flips.changed == sum(one != two for one, two, _ in rows) > 10
    assert card.flips.broken == sum(one == label != two for one, two, label in rows) > 0
    assert card.flips.fixed == sum(one != label == two for one, two, label in rows)
    classes = {}
    for k, (model, side) in enumerate(((dense, card.before), (small, card.after))):
        right = sum(row[k] == row[2] for row in rows)
        assert side.accuracy == accuracy_interval(right, 299)
        assert side.calibration_error == pytest.approx(error_of(model, test), abs=1e-6)
        assert side.refitted_error == pytest.approx(error_of(model, test, side.temperature), abs=1e-6)
        with torch.no_grad():
            faded = model(half(test.images)).argmax(dim=1) == test.labels
            nll = [nn.functional.cross_entropy(model(validation.images) / side.temperature * by, validation.labels)
                   for by in (0.97, 1.0, 1.03)]  # fmt: skip
        assert min(nll) == nll[1]
        assert side.corrupted == {"faded": faded.sum().item() / 299}
        for label in range(4):
            of = [row[k] == label for row in rows if row[2] == label]
            classes.setdefault(label, []).append(sum(of) / len(of))
    worst = min(classes, key=lambda label: classes[label][1] - classes[label][0])
    assert card.worst_class == pytest.approx((worst, *classes[worst]))
    assert card.change == change_interval(card.flips.broken, card.flips.fixed, 299)
    assert (card.before.size, card.after.size) == (400, 100)
    assert card.before.refitted_error != card.before.calibration_error
    dense.train()
    small.train()


def half(images):
    return fade(images, share=0.5)


def test_the_table_shows_every_measure(networks):
    dense, small, test, validation = networks
    card = compare(dense, small, test, validation=validation, sizes=(1400, 100))
    lines = str(card).splitlines()
    assert [line.split("  ")[0] or line.strip().split("  ")[0] for line in lines] == [
        "before", "accuracy", "change", "predictions changed", "broken / fixed", f"worst class, {card.worst_class[0]}",
        "calibration error", "temperature refitted", "accuracy, noise", "bytes",
    ]  # fmt: skip
    assert lines[1].count("%") == 2
    low, high = (100 * end for end in card.before.accuracy[1:])
    assert f"{100 * card.before.accuracy.mean:.1f} % ({low:.1f} to {high:.1f})" in lines[1]
    assert lines[3].endswith(f"{card.flips.changed} of 299")
    assert lines[-1].split() == ["bytes", "1,400", "100"]
    without = compare(dense, small, test, validation=validation, corrupted={})
    assert "not given" in str(without)
    assert without.before.corrupted == {}


def test_a_loader_that_shuffles_gives_both_the_same_images(networks):
    dense, small, test, validation = networks
    expected = compare(dense, small, test, validation=validation, corrupted={})
    loader = DataLoader(TensorDataset(*test), batch_size=32, shuffle=True)
    found = compare(dense, small, loader, validation=[tuple(validation)], corrupted={})
    assert found.flips == expected.flips
    assert found.worst_class == expected.worst_class
    assert found.after.calibration_error == pytest.approx(expected.after.calibration_error, abs=1e-6)
    assert compare(dense, dense, loader, validation=validation).flips.changed == 0


def test_the_noise_is_that_of_the_corruptions(networks):
    dense, small, test, validation = networks
    card = compare(dense, small, test, validation=validation)
    dense.eval()
    with torch.no_grad():
        right = dense(add_noise(test.images, strength=0.1)).argmax(dim=1) == test.labels
    dense.train()
    assert card.before.corrupted == {"noise": right.sum().item() / 299}


def test_integer_networks_and_functions_have_cards_too():
    torch.manual_seed(0)
    dense, images = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.rand(200, 1, 8, 8)
    rounded = fake_quantize_model(dense, activation_bits=8, ranges=calibrate(dense, [images]))
    test, validation = (Split(part, dense(part).argmax(dim=1)) for part in images.split(100))
    card = compare(dense, integer_network(rounded), test, validation=validation)
    assert card.before.accuracy.mean == 1
    assert card.after.accuracy.mean > 0.9
    assert compare(dense, lambda given: 3 * dense(given), test, validation=validation).flips.changed == 0


def test_a_class_without_examples_is_not_the_worst(networks):
    dense, small, test, validation = networks
    some = test.take(test.labels > 1)
    assert compare(dense, small, some, validation=validation).worst_class[0] > 1


def test_what_cannot_be_compared_is_refused(networks):
    dense, small, test, validation = networks
    few = test.take(test.labels < 3), validation.take(validation.labels < 3)
    with pytest.raises(ValueError, match="fit the temperature on other examples"):
        compare(dense, small, test, validation=test)
    with pytest.raises(ValueError, match="shapes differ"):
        compare(dense, lambda images: dense(images)[:, :3], few[0], validation=few[1])
    with pytest.raises(ValueError, match="the loader is empty"):
        compare(dense, small, [], validation=validation)
    with pytest.raises(ValueError, match="nothing is left to measure|must pair up"):
        compare(dense, small, test.take(test.labels < -1000), validation=validation)
    with pytest.raises(TypeError, match="pass corrupted={}"):
        compare(lambda one, two: dense(one), lambda one, two: small(one), [((test.images, test.images), test.labels)],
                validation=validation)  # fmt: skip
    with pytest.raises(TypeError, match="labels are needed"):
        compare(dense, small, [test.images], validation=validation)
    with pytest.raises(TypeError, match="pass output="):
        compare(lambda images: (dense(images), 0), dense, test, validation=validation)


# --- the interval of a change -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("fixed", [0.0, 0.05, 0.2])
def test_the_interval_of_a_change_covers_the_truth_as_often_as_it_says(broken, fixed):
    """Over every outcome that 60 images can have, by its exact probability."""
    covered = 0.0
    outcomes = multinomial(60, [broken, fixed, 1 - broken - fixed])
    for lost in range(61):
        for won in range(61 - lost):
            low, high = change_interval(lost, won, 60)[1:]
            if low <= fixed - broken <= high:
                covered += outcomes.pmf([lost, won, 60 - lost - won])
    assert covered > 0.94  # that without the two images covers 0.26 of the time at worst


def test_the_interval_of_a_change_is_walds_for_many_images():
    images, lost, won = 10**7, 31_000, 27_000
    share = [(won - lost) / images, (won + lost) / images]
    reach = norm.ppf(0.95) * math.sqrt((share[1] - share[0] ** 2) / images)
    found = change_interval(lost, won, images, confidence=0.9)
    assert found == pytest.approx((share[0], share[0] - reach, share[0] + reach), rel=1e-3)
    assert change_interval(4, 26, 48)[1:] == pytest.approx((0.2548067, 0.6251933), abs=1e-7)  # statpsych's ci.prop.ps
    none = change_interval(0, 0, 500)
    assert none.mean == 0
    assert 0 < none.high == -none.low < 0.01
    assert change_interval(5, 9, 100)[1:] == pytest.approx([-end for end in reversed(change_interval(9, 5, 100)[1:])])


@pytest.mark.parametrize("counts", [(-1, 0, 5), (0, -1, 5), (3, 3, 5), (0, 0, 0)])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(ValueError, match=r"need 0 <= broken \+ fixed <= total"):
        change_interval(*counts)
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        change_interval(1, 1, 5, confidence=1.0)
