"""The architecture, held by reading the imports: a ground floor that can be lifted out, and no circles."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "kdcourse"
CELLAR = "_base"
GROUND_FLOOR = {"averaging", "losses", "lowrank", "pruning", "quantization", "metrics", "replay", "seeds", "claims"}
TOP = {"exercises", "classroom", "contest", "widgets", "__main__"}
LONGEST = 300  # lines of a module


def room(path):
    """The module or sub-package of `kdcourse` that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    """Rooms of `kdcourse` that a file imports, anywhere in it."""
    found, depth = set(), len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {name.split(".")[0] for name in names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdcourse"):
            found |= {node.module.split(".")[1]} if "." in node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("kdcourse.")}
    return found - {room(path)}


IMPORTS = {}
for file in PACKAGE.rglob("*.py"):
    IMPORTS.setdefault(room(file), set()).update(imported_rooms(file))


def test_the_reader_of_imports_sees_them():
    assert {"data", "losses", "metrics", "seeds"} <= IMPORTS["training"]


def test_ground_floor_imports_the_cellar_and_nothing_else():
    assert IMPORTS[CELLAR] == set()
    assert {name: IMPORTS[name] - {CELLAR} for name in GROUND_FLOOR if IMPORTS[name] - {CELLAR}} == {}


def test_nothing_below_knows_of_exercises_or_widgets():
    assert not {name for name, used in IMPORTS.items() if name not in TOP and used & TOP}


def test_no_import_circles():
    remaining = {name: set(used) for name, used in IMPORTS.items()}
    while remaining:
        free = {name for name, used in remaining.items() if not used & set(remaining)}
        assert free, f"a circle among {sorted(remaining)}"
        remaining = {name: used for name, used in remaining.items() if name not in free}


def test_no_module_is_longer_than_is_read_at_a_sitting():
    files = {str(path.relative_to(PACKAGE).as_posix()): path for path in PACKAGE.rglob("*.py")}
    long = {name for name, path in files.items() if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST}
    assert long == set(), "split by meaning"
