"""Digits of other domains: MNIST's form against loops, splits that share nothing, and a copy that was altered."""

import numpy as np
import pytest
import torch

from kdcourse import domains
from kdcourse.data import load_mnist
from kdcourse.domains import like_mnist, load_printed_digits, load_scikit_digits, plain_fonts


def enlarged(image, side):
    """Bilinear enlargement in float64, pixel by pixel from its definition: centres of pixels, edges repeated."""
    size, out = len(image), np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            for place, weight in corners(row, size, side):
                for other, factor in corners(column, size, side):
                    out[row, column] += weight * factor * image[place, other]
    return out


def corners(place, size, side):
    where = min(max((place + 0.5) * size / side - 0.5, 0), size - 1)
    low = int(where)
    return [(low, 1 - (where - low)), (min(low + 1, size - 1), where - low)]


def test_an_image_in_mnists_form_is_the_one_of_the_definition():
    image = np.random.default_rng(3).integers(0, 17, (8, 8))
    wanted = np.zeros((28, 28))
    wanted[4:24, 4:24] = enlarged(image / 16, 20)
    found = like_mnist(torch.from_numpy(image).double()[None])
    assert found.shape == (1, 1, 28, 28)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found[0, 0].numpy(), wanted, atol=1e-12)


def test_integers_of_any_kind_give_the_same_floats():
    image = torch.arange(64).reshape(1, 8, 8) % 17
    assert torch.equal(like_mnist(image), like_mnist(image.to(torch.uint8)))
    assert like_mnist(image).dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (torch.zeros(2, 64), "N, 8, 8"),
        (torch.zeros(2, 1, 8, 8), "N, 8, 8"),
        (torch.zeros(0, 8, 8), "N >= 1"),
        (torch.full((1, 8, 8), 17), "0 to 16"),
        (torch.full((1, 8, 8), -1), "0 to 16"),
        (torch.full((1, 8, 8), float("nan")), "0 to 16"),
    ],
)
def test_what_is_no_such_image_is_refused(images, match):
    with pytest.raises(ValueError, match=match):
        like_mnist(images)


@pytest.mark.parametrize("load", [load_scikit_digits, load_printed_digits])
def test_splits_are_digits_like_mnists_and_share_no_image(load):
    digits, rows = load(), set()
    total = 0
    for split, other in zip(digits, load_mnist(), strict=True):
        assert split.images.dtype == other.images.dtype
        assert split.images.shape[1:] == other.images.shape[1:]
        assert split.labels.dtype == other.labels.dtype
        assert split.images.min() >= 0
        assert split.images.amax(dim=(1, 2, 3)).min() > 0.5
        assert split.images.max() <= 1 + 1e-6
        assert torch.equal(split.labels.unique(), torch.arange(10))
        total += len(split.labels)
        rows |= {image.numpy().tobytes() for image in split.images}
    assert len(rows) == total


def test_scikit_learns_digits_keep_their_labels():
    from sklearn.datasets import load_digits

    found = {
        image.numpy().tobytes(): label.item()
        for split in load_scikit_digits()
        for image, label in zip(*split, strict=True)
    }
    theirs = load_digits()
    for image, label in zip(like_mnist(torch.from_numpy(theirs.images).byte()), theirs.target, strict=True):
        assert found[image.numpy().tobytes()] == label


def test_splits_are_balanced_where_they_say_so():
    for digits in (load_scikit_digits(), load_printed_digits()):
        for split in digits[:2]:
            assert len(torch.bincount(split.labels).unique()) == 1


def test_an_altered_copy_of_the_digits_is_noticed(monkeypatch):
    monkeypatch.setattr(domains, "SCIKIT_SPLIT_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="install it again"):
        load_scikit_digits()


def test_fonts_without_plain_digits_are_left_out():
    names = {path.stem for path in plain_fonts()}
    assert {"DejaVuSans", "DejaVuSerif-BoldItalic", "STIXGeneral", "cmr10", "cmtt10"} <= names
    assert not names & {"cmex10", "cmsy10", "cmmi10", "STIXNonUni", "DejaVuSansDisplay"}


def test_a_printed_digit_fills_mnists_box_and_turning_keeps_the_upright_one():
    train = load_printed_digits().train
    upright = train.images.reshape(6, -1, 28, 28)[3]  # turned by 0, in full size
    for image in upright:
        rows, columns = (image.amax(dim=dim) > 0.02 for dim in (1, 0))
        assert max(rows.sum(), columns.sum()) in (19, 20, 21)
    smaller = train.images.reshape(6, -1, 28, 28)[2]
    assert (smaller.sum(dim=(1, 2)) < upright.sum(dim=(1, 2))).all()
    again = load_printed_digits().train
    assert torch.equal(train.images, again.images)
