"""Libraries that an extra of the package brings, imported when they are needed."""

import importlib
import warnings
from typing import Any


def needed(name: str, *, extra: str) -> Any:
    """Import ``name`` without its warnings, or raise an ``ImportError`` that says which extra brings it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise missing(error, extra=extra) from error


def missing(error: ImportError, *, extra: str) -> ImportError:
    """The failed import of a library, reworded to say what to install; one of our own modules is not such a library."""
    library = (error.name or "a library").partition(".")[0]
    if library == "kdcourse":
        return error
    why = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported ({error})"
    return type(error)(f"{library} {why}: pip install 'kdcourse[{extra}]'", name=error.name)
