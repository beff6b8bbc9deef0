"""Find exercises and quick questions by looking into the folders of the notebooks: there is no list to keep."""

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from .asking import Question
from .core import Exercise

FILE = re.compile(r"e(\d\d)_(\d+)_\w+")
"""name of an exercise's file: ``e03_2_kd_loss`` holds 03.2"""


def folders(home: Path) -> list[str]:
    """Names of the notebooks' folders, in the order of the course."""
    return sorted(module.name for module in iter_modules([str(home)]) if module.name.startswith("notebook_"))


class Exercises(Mapping[str, Exercise]):
    """Every exercise under a folder by its id. A file is imported when its exercise is first asked for."""

    def __init__(self, home: Path) -> None:
        self._files: dict[str, str] = {}
        for folder in folders(home):
            for module in iter_modules([str(home / folder)]):
                if match := FILE.fullmatch(module.name):
                    self._files[f"{match[1]}.{match[2]}"] = f"kdcourse.exercises.{folder}.{module.name}"
        self._files = dict(sorted(self._files.items()))

    def __getitem__(self, id: str) -> Exercise:
        found: Exercise = import_module(self._files[id]).EXERCISE
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, id: object) -> bool:
        return id in self._files


def find_questions(home: Path) -> dict[str, Question]:
    """Every quick question by its id, in the order of the course."""
    modules = [import_module(f"kdcourse.exercises.{folder}.questions") for folder in folders(home)]
    return {question.id: question for module in modules for question in module.QUESTIONS}
