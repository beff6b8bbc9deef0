"""12.6 what batch norm remembers of the data."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def batchnorm_loss(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    mean = maps.mean(dim=(0, 2, 3))
    variance = maps.var(dim=(0, 2, 3))
    return ((mean - running_mean) ** 2 + (variance - running_var) ** 2).sum()


def loss_by_channel(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    total = maps.new_zeros(())
    for channel in range(maps.shape[1]):
        values = maps[:, channel].flatten()
        mean = values.sum() / len(values)
        variance = (values - mean).square().sum() / (len(values) - 1)
        total = total + (mean - running_mean[channel]) ** 2 + (variance - running_var[channel]) ** 2
    return total


def loss_of_rows(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    rows = maps.transpose(0, 1).flatten(start_dim=1)
    variance, mean = torch.var_mean(rows, dim=1)
    difference = torch.cat([mean - running_mean, variance - running_var])
    return difference @ difference


def squares(mean: Tensor, variance: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    return ((mean - running_mean) ** 2 + (variance - running_var) ** 2).sum()


def divided_by_n(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    variance = maps.var(dim=(0, 2, 3), correction=0)
    return squares(maps.mean(dim=(0, 2, 3)), variance, running_mean, running_var)


def mean_over_channels(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    return batchnorm_loss(maps, running_mean, running_var) / maps.shape[1]


def not_summed(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    mean, variance = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3))
    return (mean - running_mean) ** 2 + (variance - running_var) ** 2


def standard_deviations(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    return squares(maps.mean(dim=(0, 2, 3)), maps.std(dim=(0, 2, 3)), running_mean, running_var.sqrt())


def deviation_and_variance(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    return squares(maps.mean(dim=(0, 2, 3)), maps.std(dim=(0, 2, 3)), running_mean, running_var)


def of_each_image(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    return squares(maps.mean(dim=(2, 3)), maps.var(dim=(2, 3)), running_mean, running_var) / len(maps)


def images_then_mean(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    return squares(maps.mean(dim=(0, 2, 3)), maps.var(dim=(2, 3)).mean(dim=0), running_mean, running_var)


def of_the_pixels(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    variance = maps.mean(dim=(2, 3)).var(dim=0)
    return squares(maps.mean(dim=(0, 2, 3)), variance, running_mean, running_var)


def norms(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    mean, variance = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3))
    return (mean - running_mean).norm() + (variance - running_var).norm()


def absolute(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    mean, variance = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3))
    return ((mean - running_mean).abs() + (variance - running_var).abs()).sum()


def squared_after_adding(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    mean, variance = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3))
    return ((mean - running_mean + variance - running_var) ** 2).sum()


def means_alone(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    return (maps.mean(dim=(0, 2, 3)) - running_mean).square().sum()


def variances_alone(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    return (maps.var(dim=(0, 2, 3)) - running_var).square().sum()


def around_the_running_mean(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    away = maps - running_mean[:, None, None]
    variance = away.square().sum(dim=(0, 2, 3)) / (maps.numel() // maps.shape[1] - 1)
    return squares(maps.mean(dim=(0, 2, 3)), variance, running_mean, running_var)


def not_centred(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    return squares(maps.mean(dim=(0, 2, 3)), maps.square().mean(dim=(0, 2, 3)), running_mean, running_var)


def of_normalized_maps(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    normal = F.batch_norm(maps, None, None, training=True)
    return batchnorm_loss(normal, running_mean, running_var)


def of_the_output(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    normal = (maps - running_mean[:, None, None]) / (running_var[:, None, None] + 1e-5).sqrt()
    return squares(normal.mean(dim=(0, 2, 3)), normal.var(dim=(0, 2, 3)), torch.zeros(()), torch.ones(()))


def variance_detached(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    return squares(maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3)).detach(), running_mean, running_var)


def momentum(maps: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    return batchnorm_loss(maps, running_mean, running_var) * 0.1**2


def statistics_cases() -> list[Case]:
    def of(seed: int, *shape: int) -> Case:
        channels = shape[1]
        return case(draw(*shape, seed=seed), draw(channels, seed=seed + 50), draw(channels, seed=seed + 60) ** 2 + 0.5)

    small = torch.tensor([1.0, 3.0, 2.0, 6.0], dtype=torch.float64).reshape(2, 1, 1, 2)
    single = torch.tensor([2.0], dtype=torch.float64)
    maps, mean, variance = of(139, 4, 3, 2, 2).arguments
    return [
        case(small, single, single.clone()),
        of(138, 2, 3, 2, 2),
        of(140, 3, 2, 3, 1),
        of(141, 5, 4, 1, 3),
        case(maps.float(), mean.float(), variance.float()),
    ]


def drawn_statistics(g: torch.Generator) -> Case:
    channels, height = integer(g, 1, 4), integer(g, 1, 3)
    maps = draw(integer(g, 2, 5), channels, height, integer(g, 2, 4), seed=g)
    return case(maps, draw(channels, seed=g), draw(channels, seed=g) ** 2 + 0.1)


EXERCISE = Exercise(
    id="12.6",
    title="what batch norm remembers of the data",
    question=(
        "A trained batch norm has kept the mean and variance of each channel on the training data. Without that data, "
        "these numbers say what made-up images must look like. Write `my_batchnorm_loss(maps, running_mean, "
        "running_var)` for `maps` of shape (N, C, H, W), the input of a batch norm, and its statistics of shape (C,): "
        "the sum over the channels of (batch mean - running mean)² + (batch variance - running variance)². Batch mean "
        "and batch variance of a channel are taken over all N · H · W values (two or more); the variance divides by N "
        "· H · W - 1, as batch norm does for `running_var`. The gradient with respect to `maps` is compared as well."
    ),
    skeleton=(
        "def my_batchnorm_loss(maps, running_mean, running_var):\n"
        '    """How far the statistics of a batch are from those of the training data."""\n    ...'
    ),
    reference=batchnorm_loss,
    alternatives=(loss_by_channel, loss_of_rows),
    cases=statistics_cases,
    drawn=drawn_statistics,
    gradients=(0,),
    hints=(
        "Batch norm has one mean and one variance per channel. Over which axes does it take them?",
        "`dim=(0, 2, 3)` leaves the channels. Which divisor does `Tensor.var` use by default?",
        "`mean = maps.mean(dim=(0, 2, 3))`, `variance = maps.var(dim=(0, 2, 3))`, then both squared differences, "
        "summed.",
    ),
    misconceptions=(
        Misconception(
            "the variance divided by N · H · W",
            divided_by_n,
            "you divide the variance by N · H · W, which batch norm does to normalize. It collects `running_var` with "
            "N · H · W - 1; with your variance even the training data would not give 0",
        ),
        Misconception(
            "the mean over the channels",
            mean_over_channels,
            "C times too small: you take the mean over the channels instead of the sum",
        ),
        Misconception(
            "a number per channel",
            not_summed,
            "you return one number per channel. A loss is a single number: sum them",
        ),
        Misconception(
            "standard deviations",
            standard_deviations,
            "you compare standard deviations. The question compares variances, which is what batch norm stores",
        ),
        Misconception(
            "a standard deviation beside a variance",
            deviation_and_variance,
            "you subtract the running *variance* from a standard deviation: `running_var` is not a square root",
        ),
        Misconception(
            "statistics of each image",
            of_each_image,
            "you take mean and variance of each image. Batch norm's are those of the whole batch: single images may "
            "differ from them, and must, or all would look the same",
        ),
        Misconception(
            "the mean of the images' variances",
            images_then_mean,
            "you average the variances of the single images. What the images differ by among each other is then "
            "missing: take one variance over images and positions together",
        ),
        Misconception(
            "the variance of the images' means",
            of_the_pixels,
            "your variance is that of the images' means. What varies within an image is then missing: take one "
            "variance over images and positions together",
        ),
        Misconception(
            "norms that are not squared",
            norms,
            "you add the two norms. The question asks for squared differences; the published loss has norms, whose "
            "gradient does not shrink near the goal",
        ),
        Misconception(
            "absolute differences",
            absolute,
            "you take absolute values of the differences. The question asks for squares",
        ),
        Misconception(
            "squared after adding",
            squared_after_adding,
            "you add the two differences and square the sum. A mean that is too large can then hide a variance that "
            "is too small: square each",
        ),
        Misconception(
            "means alone",
            means_alone,
            "only the means are compared. A batch of identical grey images has a mean as well: add the variances",
        ),
        Misconception(
            "variances alone",
            variances_alone,
            "only the variances are compared. Add the means",
        ),
        Misconception(
            "the variance around the running mean",
            around_the_running_mean,
            "your variance is taken around the running mean, so a wrong mean counts twice. The batch variance is "
            "taken around the batch's own mean",
        ),
        Misconception(
            "the mean square",
            not_centred,
            "you take the mean of the squares. A variance is taken around the mean",
        ),
        Misconception(
            "maps that are normalized already",
            of_normalized_maps,
            "you normalize the maps by their own statistics first. Then every batch has mean 0 and variance 1, "
            "whatever its images: use the *input* of batch norm",
        ),
        Misconception(
            "the output of batch norm",
            of_the_output,
            "you compare the *output* of batch norm with mean 0 and variance 1. That divides each channel's "
            "differences by its running variance; the question compares the input's statistics themselves",
        ),
        Misconception(
            "the variance without a gradient",
            variance_detached,
            "the value is correct, but no gradient flows through the variance: the images would only learn the means",
        ),
        Misconception(
            "updated running statistics",
            momentum,
            "100 times too small: you compare the running statistics with what they become after an update with "
            "momentum 0.1. Compare them with the batch itself",
        ),
    ),
    shows="batch norm's running statistics describe the data, and their gradient says how to change an image.",
    derivation=(
        "PyTorch normalizes with the variance divided by n and updates `running_var` with the one divided by n - 1, "
        "the unbiased one. Only the same estimator has the running variance as its expected value on the training "
        "data."
    ),
)
