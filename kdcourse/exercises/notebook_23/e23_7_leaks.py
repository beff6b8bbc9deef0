"""23.7 final images that lie among the training images."""

import numpy as np
import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, integer


def leaks(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    difference = final.flatten(1)[:, None] - train.flatten(1)  # (F, T, pixels)
    return difference.abs().mean(dim=2).min(dim=1).values <= tolerance


def leaks_one_by_one(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    found = []
    for image in final:
        found.append(any((image - seen).abs().mean().item() <= tolerance for seen in train))
    return torch.tensor(found)


def leaks_by_cdist(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    rows, others = final.reshape(len(final), -1), train.reshape(len(train), -1)
    return (torch.cdist(rows, others, p=1) <= tolerance * rows.shape[1]).any(1)


def leaks_by_numpy(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    # training images in the outer loop: each strikes out what it is close to
    pixels, clear = final.numpy(), np.ones(len(final), dtype=bool)
    for seen in train.numpy():
        clear &= np.abs(pixels - seen).sum(axis=(1, 2, 3)) > tolerance * seen.size
    return torch.from_numpy(~clear)


def _difference(train: Tensor, final: Tensor) -> Tensor:
    return final.flatten(1)[:, None] - train.flatten(1)


def _distances(train: Tensor, final: Tensor) -> Tensor:
    return _difference(train, final).abs().mean(dim=2)


def exact_only(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    seen = {image.numpy().tobytes() for image in train}
    return torch.tensor([image.numpy().tobytes() in seen for image in final])


def largest_difference(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return (_difference(train, final).abs().amax(dim=2) <= tolerance).any(dim=1)


def mean_square(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return (_difference(train, final).square().mean(dim=2) <= tolerance).any(dim=1)


def root_mean_square(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return (_difference(train, final).square().mean(dim=2).sqrt() <= tolerance).any(dim=1)


def sum_of_pixels(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return (_difference(train, final).abs().sum(dim=2) <= tolerance).any(dim=1)


def no_absolute_value(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return (_difference(train, final).mean(dim=2).abs() <= tolerance).any(dim=1)


def signed(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return (_difference(train, final).mean(dim=2) <= tolerance).any(dim=1)


def below_only(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return (_distances(train, final) < tolerance).any(dim=1)


def same_index(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    distances = _distances(train, final)
    found = torch.zeros(len(final), dtype=torch.bool)
    common = min(distances.shape)
    found[:common] = distances.diagonal() <= tolerance
    return found


def mean_training_image(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return (final - train.mean(dim=0)).abs().flatten(1).mean(dim=1) <= tolerance


def mean_over_training(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return _distances(train, final).mean(dim=1) <= tolerance


def to_all_of_them(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return (_distances(train, final) <= tolerance).all(dim=1)


def training_images(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return (_distances(train, final) <= tolerance).any(dim=0)


def training_index(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    distances = _distances(train, final)
    nearest = distances.min(dim=1)
    return torch.where(nearest.values <= tolerance, nearest.indices, -1)


def indices(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return leaks(train, final, tolerance).nonzero().flatten()


def clean_ones(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return ~leaks(train, final, tolerance)


def the_distances(train: Tensor, final: Tensor, tolerance: float) -> Tensor:
    return _distances(train, final).min(dim=1).values


def images(numbers: int, *size: int, seed: int) -> Tensor:
    """Images with pixels in sixteenths, of which sums and means are exact."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(17, (numbers, 1, *size), generator=generator).float() / 16


def leaking(count: int, finals: int, *size: int, tolerance: float, seed: int) -> Case:
    """Final images: new ones, copies of training images, and some that are changed by about the tolerance."""
    train, final = images(count, *size, seed=seed), images(finals, *size, seed=seed + 1)
    pixels = size[0] * size[1]
    budget = int(tolerance * pixels * 16)  # in sixteenths: just as much is allowed
    for number in range(0, finals - 1, 2):
        changed = (train[(5 * number + 2 * seed) % count] * 16).int().flatten()
        left = budget if number % 4 else 0
        left += number % 8 == 6  # a sixteenth of one pixel too many
        for pixel in range(pixels):
            step = min(left, int(max(changed[pixel], 16 - changed[pixel])))
            changed[pixel] += step if changed[pixel] + step <= 16 else -step
            left -= step
        final[number] = (changed.float() / 16).view(1, *size)
    return case(train, final, tolerance)


def gathered(count: int, finals: int, *size: int, tolerance: float, seed: int) -> Case:
    """Images that differ from one another by about the tolerance, each pixel a little."""
    base, width = images(1, *size, seed=seed) / 2, 2 * tolerance
    train, final = base + width * images(count, *size, seed=seed + 1), images(finals, *size, seed=seed + 2)
    return case(train, base + width * final, tolerance)


def leaks_cases() -> list[Case]:
    square = torch.tensor([[0.0, 0.5], [1.0, 0.25]]).view(1, 1, 2, 2)
    others = torch.tensor([[1.0, 1.0], [0.0, 0.5]]).view(1, 1, 2, 2)
    train = torch.cat([others, square])
    final = torch.cat([square, 1 - square, others, (square - 0.125).abs(), square.flip(3), others * 0.5])
    return [
        case(train, final, 0.125),
        case(train, final, 0.0),
        case(train.double(), final[:5].double(), 0.1875),
        case(train[:1].clone(), final, 0.25),
        case(train, square + torch.tensor([[0.25, 0.0], [-0.25, 0.0]]), 0.25),
        case(final[:2].clone(), torch.full((1, 1, 2, 2), 0.5), 0.25),
        gathered(3, 12, 2, 4, tolerance=0.125, seed=1),
        gathered(2, 20, 1, 4, tolerance=0.25, seed=4),
        leaking(6, 9, 4, 4, tolerance=0.0625, seed=3),
        leaking(11, 8, 2, 4, tolerance=0.125, seed=5),
        leaking(4, 13, 4, 8, tolerance=0.03125, seed=8),
        leaking(7, 9, 4, 4, tolerance=0.0, seed=11),
    ]


def drawn_leaks(g: torch.Generator) -> Case:
    height, width = 2 ** integer(g, 1, 2), 2 ** integer(g, 1, 3)
    make = leaking if integer(g, 0, 1) else gathered
    numbers, seed = (integer(g, 3, 8), integer(g, 5, 12)), integer(g, 0, 10**6)
    return make(*numbers, height, width, tolerance=2 ** -integer(g, 3, 5), seed=seed)


EXERCISE = Exercise(
    id="23.7",
    title="images that leaked",
    question=(
        "`train` (T, 1, H, W) and `final` (F, 1, H, W) are images, floats from 0 to 1. A final image has *leaked* if "
        "at least one training image equals it or is close to it: the mean over the pixels of their absolute "
        "difference is at most `tolerance`, the boundary included. Write `my_leaks(train, final, tolerance)`: a "
        "boolean tensor (F,) that is True for the final images that have leaked. T and F may differ, and a copy may be "
        "anywhere. With `tolerance` = 0 only exact copies count."
    ),
    skeleton=(
        "def my_leaks(train, final, tolerance):\n"
        '    """(F,): which final images are, exactly or nearly, among the training images."""\n    ...'
    ),
    reference=leaks,
    alternatives=(leaks_one_by_one, leaks_by_cdist, leaks_by_numpy),
    cases=leaks_cases,
    drawn=drawn_leaks,
    hints=(
        "Take one final image: how far is the nearest training image?",
        "`final.flatten(1)[:, None] - train.flatten(1)` has the shape (F, T, pixels).",
        "Absolute value, mean over the pixels, then `(distances <= tolerance).any(dim=1)` over the training images.",
    ),
    misconceptions=(
        Misconception(
            "exact copies only",
            exact_only,
            "you find exact copies only. An image that was rounded or compressed once has other bytes and is the same "
            "digit",
        ),
        Misconception(
            "the largest difference",
            largest_difference,
            "you compare the *largest* difference of a pixel with the tolerance. One changed pixel then hides a copy",
        ),
        Misconception(
            "the mean square",
            mean_square,
            "you square the differences. Those below 1 get smaller, so that more images count as copies",
        ),
        Misconception(
            "the root mean square",
            root_mean_square,
            "this is the root of the mean square. It is larger than the mean absolute difference if the differences "
            "are unequal",
        ),
        Misconception(
            "the sum over the pixels",
            sum_of_pixels,
            "you sum over the pixels. The tolerance is per pixel: take the mean",
        ),
        Misconception(
            "the absolute value of the mean",
            no_absolute_value,
            "you average first and take the absolute value then. Brighter and darker pixels cancel: two different "
            "digits of equal ink count as copies",
        ),
        Misconception(
            "no absolute value",
            signed,
            "without an absolute value every image that is darker than some training image counts as a copy",
        ),
        Misconception(
            "the boundary left out",
            below_only,
            "your comparison leaves out the boundary: `<=`. With a tolerance of 0 not even an exact copy is found",
        ),
        Misconception(
            "the same index",
            same_index,
            "you compare each final image with the training image of the same index. A copy may be anywhere",
        ),
        Misconception(
            "the mean training image",
            mean_training_image,
            "you compare with the mean of the training images. A copy is close to one of them, not to their mean",
        ),
        Misconception(
            "the mean over the training images",
            mean_over_training,
            "you average the distances over the training images. One that is close is enough: take the smallest",
        ),
        Misconception(
            "close to all",
            to_all_of_them,
            "you ask for images that are close to *all* training images. One is enough: `any`",
        ),
        Misconception(
            "which training images",
            training_images,
            "this says which *training* images have a copy. The question asks for the final ones",
        ),
        Misconception(
            "the index of the training image",
            training_index,
            "this is the index of the training image, or -1. The question asks for a boolean tensor (F,)",
        ),
        Misconception(
            "indices",
            indices,
            "these are the indices of the images that have leaked. The question asks for a boolean tensor (F,)",
        ),
        Misconception(
            "those that are clean",
            clean_ones,
            "your tensor is True for the images that have *not* leaked",
        ),
        Misconception(
            "the distances",
            the_distances,
            "these are the distances to the nearest training image. Compare them with the tolerance",
        ),
    ),
    shows="a leak is found by looking at every pair of images, and not only for equal bytes.",
    derivation=(
        "The mean absolute difference is a metric, so a copy of a copy, each within ε, is within 2 ε. A search over "
        "all pairs takes F · T · H · W operations: for 10,000 final and 60,000 training images of 784 pixels about "
        "5 · 10¹¹, which is done in blocks. A hash finds exact copies in F + T steps, and no other."
    ),
)
