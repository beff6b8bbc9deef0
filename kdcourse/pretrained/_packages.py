"""Files of packages that hold weights: found without importing the package, and checked."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


class Packaged(NamedTuple):
    """A file of an installed package, and how to install that."""

    what: str
    module: str
    file: str
    sha256: str
    install: str

    def read(self) -> bytes:
        """Its content; raise ``ImportError`` where the package is missing, ``ValueError`` where the file is another."""
        path = self.path()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error}): {self._again()}") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ValueError(f"{path} is not the file that the course was written for: {self._again()}")
        return content

    def path(self) -> Path:
        spec = find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            raise ImportError(f"{self.what} is not installed: {self.install}", name=self.module)
        return Path(spec.submodule_search_locations[0]) / self.file

    def _again(self) -> str:
        return self.install.replace("install", "install --force-reinstall", 1)
