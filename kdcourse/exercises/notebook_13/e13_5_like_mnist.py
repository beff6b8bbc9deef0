"""13.5 other digits, made to look like MNIST."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, integer


def like_mnist(images: Tensor) -> Tensor:
    grey = images.unsqueeze(1) / 16
    larger = F.interpolate(grey, size=(20, 20), mode="bilinear", align_corners=False)
    return F.pad(larger, (4, 4, 4, 4))


def like_mnist_on_canvas(images: Tensor) -> Tensor:
    grey = images if images.is_floating_point() else images.to(torch.float32)
    canvas = torch.zeros(len(images), 1, 28, 28, dtype=grey.dtype)
    canvas[:, :, 4:24, 4:24] = F.interpolate(grey[:, None], scale_factor=2.5, mode="bilinear") / 16
    return canvas


def like_mnist_by_matrix(images: Tensor) -> Tensor:
    centres = np.clip((np.arange(20) + 0.5) * 0.4 - 0.5, 0, 7)
    weights = np.maximum(0, 1 - abs(centres[:, None] - np.arange(8)))  # (20, 8)
    larger = weights @ (images.numpy() / 16) @ weights.T
    kind = images.dtype if images.is_floating_point() else torch.float32
    return torch.tensor(np.pad(larger, ((0, 0), (4, 4), (4, 4)))[:, None], dtype=kind)


def _grown(grey: Tensor, size: int = 20, mode: str = "bilinear", corners: bool | None = False) -> Tensor:
    """One channel, another size, black around up to 28 pixels."""
    larger = F.interpolate(grey[:, None], size=(size, size), mode=mode, align_corners=corners)
    left = (28 - size) // 2
    return F.pad(larger, (left, 28 - size - left) * 2)


def divided_by_255(images: Tensor) -> Tensor:
    return _grown(images.float() / 255)


def not_divided(images: Tensor) -> Tensor:
    return _grown(images.float())


def divided_by_15(images: Tensor) -> Tensor:
    return _grown(images.float() / 15)


def by_the_largest_of_each(images: Tensor) -> Tensor:
    return _grown(images.float() / images.float().amax(dim=(1, 2), keepdim=True).clamp(min=1))


def by_the_largest_of_all(images: Tensor) -> Tensor:
    return _grown(images.float() / images.max().float().clamp(min=1))


def stretched_to_28(images: Tensor) -> Tensor:
    return _grown(images.float() / 16, size=28)


def in_a_corner(images: Tensor) -> Tensor:
    return F.pad(_grown(images.float() / 16)[:, :, 4:24, 4:24], (0, 8, 0, 8))


def transposed(images: Tensor) -> Tensor:
    return like_mnist(images.transpose(1, 2))


def no_channel(images: Tensor) -> Tensor:
    return like_mnist(images).squeeze(1)


def nearest(images: Tensor) -> Tensor:
    return _grown(images.float() / 16, mode="nearest", corners=None)


def corners_aligned(images: Tensor) -> Tensor:
    return _grown(images.float() / 16, corners=True)


def cubic(images: Tensor) -> Tensor:
    return _grown(images.float() / 16, mode="bicubic")


def black_before_resizing(images: Tensor) -> Tensor:
    return _grown(F.pad(images.float() / 16, (2, 2, 2, 2)), size=28)


def inverted(images: Tensor) -> Tensor:
    return 1 - like_mnist(images)


def integers_divided(images: Tensor) -> Tensor:
    return _grown((images.long() // 16).float())


def standardized(images: Tensor) -> Tensor:
    return (like_mnist(images) - 0.1307) / 0.3081


def digits(seed: int | torch.Generator, count: int, high: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    return torch.randint(high + 1, (count, 8, 8), generator=generator)


def digit_cases() -> list[Case]:
    return [
        case(digits(1, 1, high=12).double()),
        case(digits(2, 3).to(torch.uint8)),
        case(digits(3, 2, high=9)),
        case(digits(4, 8).float()),
        case(torch.cat([digits(5, 1) * 0, digits(6, 1)])),  # an image that is black
    ]


EXERCISE = Exercise(
    id="13.5",
    title="other digits, made to look like MNIST",
    question=(
        "Write `my_like_mnist(images)` for the digits of scikit-learn, a tensor (N, 8, 8) whose pixels are the "
        "integers 0 (black) to 16 (white), stored in an integer or a floating-point dtype. Return a tensor (N, 1, 28, "
        "28) with values from 0 to 1, made as MNIST was: divide by 16, resize to 20 × 20 pixels (bilinear, "
        "`align_corners=False`), and put 4 black pixels around on every side. A floating-point dtype is kept, an "
        "integer one becomes float32. Do not modify `images`."
    ),
    skeleton=(
        "def my_like_mnist(images):\n"
        '    """Digits of 8 × 8 pixels as MNIST has them: 28 × 28, a black border, values 0 to 1."""\n    ...'
    ),
    reference=like_mnist,
    alternatives=(like_mnist_on_canvas, like_mnist_by_matrix),
    cases=digit_cases,
    drawn=lambda g: case(digits(g, integer(g, 1, 4), integer(g, 5, 16))),
    hints=(
        "Look at one image of each kind: how bright is white, how large is the digit, and where does it stand?",
        "`F.interpolate` wants floating-point images with a channel, (N, 1, 8, 8). `F.pad` adds the border.",
        'Three lines: `images[:, None] / 16`; `F.interpolate(…, size=(20, 20), mode="bilinear", '
        "align_corners=False)`; `F.pad(…, (4, 4, 4, 4))`.",
    ),
    misconceptions=(
        Misconception(
            "divided by 255",
            divided_by_255,
            "you divide by 255, as for pixels of 8 bits. These go up to 16: the digits come out almost black",
        ),
        Misconception(
            "not divided",
            not_divided,
            "the values still go up to 16. A network trained on 0 to 1 sees images 16 times too bright",
        ),
        Misconception(
            "divided by 15",
            divided_by_15,
            "you divide by 15. The pixels have 17 levels, 0 to 16: white is 16",
        ),
        Misconception(
            "divided by each image's largest",
            by_the_largest_of_each,
            "you divide each image by its own largest pixel. A faint digit then looks like a bright one. White is 16 "
            "in every image",
        ),
        Misconception(
            "divided by the batch's largest",
            by_the_largest_of_all,
            "you divide by the largest pixel of the batch, so an image looks different among other images. White is "
            "16, whether or not a pixel reaches it",
        ),
        Misconception(
            "stretched to 28",
            stretched_to_28,
            "you resize to 28 × 28 and leave no border. In MNIST the digit fills 20 × 20 pixels and is surrounded by "
            "black: yours are 1.4 times too large",
        ),
        Misconception(
            "in a corner",
            in_a_corner,
            "the digit stands in the upper left corner: the 8 black pixels belong half on each side",
        ),
        Misconception(
            "transposed",
            transposed,
            "rows and columns are swapped: the digits lie on their side, mirrored. The first 8 are rows",
        ),
        Misconception(
            "no channel",
            no_channel,
            "the pixels are correct, but the channel is missing: (N, 1, 28, 28). A convolution would take the N images "
            "for channels of one",
        ),
        Misconception(
            "nearest neighbour",
            nearest,
            "you resize by the nearest pixel, the default of `F.interpolate`. That gives blocks with hard edges; MNIST "
            "has smooth ones",
        ),
        Misconception(
            "corners aligned",
            corners_aligned,
            "you resize with `align_corners=True`, which puts the centres of the corner pixels on top of each other: "
            "the scale is 19/7 instead of 20/8, and the digit too large",
        ),
        Misconception(
            "bicubic",
            cubic,
            "you resize with a cubic curve. It overshoots at edges, so values leave 0 to 1",
        ),
        Misconception(
            "black before resizing",
            black_before_resizing,
            "you add the border before you resize. Then it is resized too, and the digit gets another size than 20 × "
            "20",
        ),
        Misconception(
            "black and white swapped",
            inverted,
            "you invert the images: black on white. In both data sets the background is 0",
        ),
        Misconception(
            "integers divided by integers",
            integers_divided,
            "you divide integers and keep an integer: everything below 16 becomes 0. Convert to floating point first",
        ),
        Misconception(
            "standardized",
            standardized,
            "you standardize with the mean and the standard deviation of MNIST. The question asks for values from 0 to "
            "1, as the networks of this course take them",
        ),
    ),
    shows="before networks are compared across domains, units and frame of the pictures must agree.",
    derivation=(
        "MNIST's digits were scaled to 20 × 20 and placed in 28 × 28 (there by their centre of mass). Bilinear at the "
        "scale 0.4: output pixel i reads at (i + ½) · 0.4 - ½, clipped to 0…7, between its two neighbours."
    ),
    forbidden=("kdcourse.domains.like_mnist",),
    absolute=1e-6,
)
