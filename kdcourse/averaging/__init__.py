"""Several networks in one: averages of weights, the statistics of batch norm that belong to them, and aligned units."""

from .alignment import align
from .means import average_models, moving_average
from .paths import barrier, interpolate
from .statistics import reset_batchnorm

__all__ = ["align", "average_models", "barrier", "interpolate", "moving_average", "reset_batchnorm"]
