"""The copy of `kdcourse` that an answer may import: without exercises, without the functions that it is to build."""

import ast
import shutil
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

from ..exercises.engine.core import Exercise

PACKAGE = Path(__file__).resolve().parent.parent
LEFT_OUT = {"exercises", "classroom", "contest", "plots", "__main__.py", "widgets.py", "claims.py", "labconfig",
            "__pycache__"}  # fmt: skip
STUB = """def {name}(*arguments, **keywords):
    from kdcourse._forbidden import refuse

    refuse("{told}")
"""
FORBIDDEN = '''"""What this exercise asks for is not here."""

called = []


class Forbidden(Exception):
    """The answer calls what it is to build."""


def refuse(dotted):
    called.append(dotted)
    raise Forbidden(dotted)
'''


def stage(folder: Path, exercise: Exercise | None) -> str:
    """Write the copy for an exercise into ``folder`` unless it is there; its name in it."""
    cut = tuple(sorted(to_cut(exercise))) if exercise else ()
    name = sha256(repr(cut).encode()).hexdigest()[:16]
    if not (folder / name).exists():
        _copy(folder / f"{name}.part" / "kdcourse", cut)
        (folder / f"{name}.part").rename(folder / name)
    return name


def _copy(target: Path, cut: tuple[str, ...]) -> None:
    def left_out(place: str, names: list[str]) -> set[str]:
        return LEFT_OUT & set(names) if Path(place) == PACKAGE else {"__pycache__"}

    shutil.copytree(PACKAGE, target, ignore=left_out)
    inside = Path("classroom") / "inside"
    shutil.copytree(PACKAGE / inside, target / inside, ignore=lambda *_: {"__pycache__"})
    (target / "classroom" / "__init__.py").write_text("", encoding="utf-8")
    (target / "_forbidden.py").write_text(FORBIDDEN, encoding="utf-8")
    for path in {place.partition(":")[0] for place in cut}:
        names = [place.partition(":")[2] for place in cut if place.startswith(f"{path}:")]
        functions = {name: f"kdcourse.{path.partition('/')[0].removesuffix('.py')}.{name}" for name in names}
        file = target / path
        file.write_text(without(file.read_text(encoding="utf-8"), functions), encoding="utf-8")


def without(source: str, functions: Mapping[str, str]) -> str:
    """The module with a stub in place of each of the functions; what was written there is gone."""
    lines = source.splitlines(keepends=True)
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in functions:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            lines[first - 1 : node.end_lineno] = [STUB.format(name=node.name, told=functions[node.name])]
    return "".join(lines)


def to_cut(exercise: Exercise) -> set[str]:
    """``file:function`` of what the exercise forbids, and of the private helpers that nothing else uses."""
    defined, users = _functions()
    cut = {name.rsplit(".", 1)[-1] for name in exercise.forbidden if name.startswith("kdcourse.")}
    while more := {name for name in users if _is_private(name) and users[name] and users[name] <= cut} - cut:
        cut |= more
    rooms = {name.split(".")[1] for name in exercise.forbidden}
    found = {f"{path}:{name}" for name in cut for path in defined[name]}
    return {place for place in found if place.split("/")[0].partition(".py")[0] in rooms}


def _is_private(name: str) -> bool:
    return name.startswith("_")


@cache
def _functions() -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """Where each top-level function of the package is defined, and which others name it."""
    defined: dict[str, list[str]] = {}
    nodes = []
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place.split("/")[0] in LEFT_OUT:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                defined.setdefault(node.name, []).append(place)
                nodes.append(node)
    users: dict[str, set[str]] = {name: set() for name in defined}
    for node in nodes:
        for name in {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} & set(defined) - {node.name}:
            users[name].add(node.name)
    return defined, users
