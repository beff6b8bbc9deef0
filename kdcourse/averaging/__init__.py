"""Several networks in one: averages of weights, and the statistics of batch norm that belong to them."""

from .means import average_models, moving_average
from .statistics import reset_batchnorm

__all__ = ["average_models", "moving_average", "reset_batchnorm"]
