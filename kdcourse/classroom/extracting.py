"""Find the answer to an exercise in a notebook that is read as text: its statements, and those that it needs."""

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from nbformat import NotebookNode

from .._base.notebooks import grade_id
from ..exercises.engine.core import Exercise
from ..exercises.engine.untouched import says_nothing

LONGEST = 2_000_000
"""characters of a cell; no program is longer"""
MAGIC = re.compile(r"^(\s*)(?:[%!?]|[\w.]+\s*=\s*[%!]|.*\?$)")
PYTHON_INSIDE = ("%%time", "%%timeit", "%%capture", "%%prun")
FUTURE = "__future__"


@dataclass(frozen=True)
class Cell:
    """A code cell: its text as Python, its statements, and the exercise whose answer it is marked as."""

    source: str
    body: tuple[ast.stmt, ...]
    marked: str = ""
    broken: str = ""
    """why it is not Python"""

    @cached_property
    def bound(self) -> tuple[set[str], ...]:
        """Of each statement the names that it makes or changes: asked for by every exercise of a notebook."""
        return tuple(map(bound, self.body))


@dataclass(frozen=True)
class Answer:
    """The cells that an answer needs, as ``(cell, statement)`` in order, or why there is none."""

    cells: tuple[Cell, ...] = ()
    order: tuple[tuple[int, int], ...] = ()
    main: int = -1
    problem: str = ""
    """"missing", "unattempted" or "error"; empty where there is something to run"""
    message: str = ""


def cells_of(notebook: NotebookNode) -> list[Cell]:
    """Its code cells; those that are no Python have no statements."""
    return [read_cell(cell) for cell in notebook.cells if cell.get("cell_type") == "code"]


def read_cell(cell: NotebookNode) -> Cell:
    source = cell.get("source", "")
    source = "".join(source) if isinstance(source, list) else source
    name = grade_id(cell) or ""
    marked = name.removeprefix("answer-") if name.startswith("answer-") else ""
    text, body, broken = parsed(source)
    return Cell(text, body, marked, broken)


def parsed(source: str) -> tuple[str, tuple[ast.stmt, ...], str]:
    """The text without IPython's own lines, its statements, and what is wrong with it if it is not Python."""
    if len(source) > LONGEST:
        return "", (), f"the cell has {len(source):,} characters"
    for text in (source, without_magics(source)):
        try:
            return text, tuple(ast.parse(text).body), ""
        except SyntaxError as error:
            broken = f"SyntaxError: {error.msg} (line {error.lineno})"
        except (ValueError, RecursionError, MemoryError) as error:
            broken = f"{type(error).__name__}: the cell cannot be read as Python"
    return text, (), broken


def without_magics(source: str) -> str:
    """IPython's commands as ``pass``, so that all other lines keep their numbers."""
    lines = source.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if lines[first].startswith("%%"):
        if not lines[first].startswith(PYTHON_INSIDE):
            return ""
        lines[first] = ""
    return "\n".join(MAGIC.sub(r"\1pass #", line, count=1) if MAGIC.match(line) else line for line in lines)


def extract(cells: Sequence[Cell], exercise: Exercise) -> Answer:
    """The answer to an exercise: the cell marked as its answer, else the last one that defines the asked-for name."""
    name = exercise.name
    defining = [number for number, cell in enumerate(cells) if any(name in names for names in cell.bound)]
    marked = [number for number, cell in enumerate(cells) if cell.marked == exercise.id.replace(".", "-")]
    ours = [number for number in marked if number in defining]
    written = [number for number in defining if not untouched(cells[number], name)]
    for chosen in ([n for n in ours if n in written], [] if _broken(cells, marked) else written, ours, defining):
        if chosen:
            break
    else:
        return _none(cells, marked, name)
    main = chosen[-1]
    if untouched(cells[main], name):
        return Answer(problem="unattempted", message="not attempted yet")
    return Answer(tuple(cells), tuple(needed(cells, main, name)), main)


def _broken(cells: Sequence[Cell], marked: list[int]) -> bool:
    return any(cells[number].broken for number in marked)


def _none(cells: Sequence[Cell], marked: list[int], name: str) -> Answer:
    broken = [cells[number].broken for number in marked if cells[number].broken]
    if broken:
        return Answer(problem="error", message=f"your cell is not Python: {broken[-1]}")
    if not broken and (torn := [cell for cell in cells if cell.broken and f"def {name}" in cell.source]):
        return Answer(problem="error", message=f"your cell is not Python: {torn[-1].broken}")
    return Answer(problem="missing", message=f"no cell defines `{name}`: the exercise asks for a function of that name")


def untouched(cell: Cell, name: str) -> bool:
    """Whether the last thing that a cell makes of a name is a function whose body is empty."""
    last = [line for line, names in zip(cell.body, cell.bound, strict=True) if name in names][-1]
    return isinstance(last, ast.FunctionDef) and not last.decorator_list and all(map(says_nothing, last.body))


def needed(cells: Sequence[Cell], main: int, name: str) -> list[tuple[int, int]]:
    """Statements that make the name in the cell ``main`` and, in turn, the names that those use."""
    places = [(number, place) for number, cell in enumerate(cells) for place in range(len(cell.body))]
    bindings: dict[str, list[tuple[int, int]]] = {}
    for at in places:
        for bound_name in cells[at[0]].bound[at[1]]:
            bindings.setdefault(bound_name, []).append(at)
    stars = bindings.get("*", [])
    end = main, len(cells[main].body)
    chosen: set[tuple[int, int]] = set()
    waiting = [(name, end)]
    seen = set(waiting)
    while waiting:
        wanted, before = waiting.pop()
        found = _makers(cells, bindings.get(wanted, []), before)
        if not found and not hasattr(builtins, wanted):
            found = [at for at in stars if at < end]
        for at in set(found) - chosen:
            chosen.add(at)
            now, later = used(_line(cells, at))
            more = {(word, at) for word in now} | {(word, end) for word in later}
            waiting += more - seen
            seen |= more
    return sorted(chosen)


def _makers(cells: Sequence[Cell], bindings: list[tuple[int, int]], before: tuple[int, int]) -> list[tuple[int, int]]:
    """The last statement before a place that makes a name, and those that change it from then on; else the next."""
    earlier = [at for at in bindings if at < before]
    if not earlier:
        makers = [at for at in bindings if not _changes(_line(cells, at))]
        return makers[:1]
    start = next((n for n in range(len(earlier) - 1, -1, -1) if not _changes(_line(cells, earlier[n]))), 0)
    return earlier[start:]


def _line(cells: Sequence[Cell], at: tuple[int, int]) -> ast.stmt:
    return cells[at[0]].body[at[1]]


def _changes(line: ast.stmt) -> bool:
    """Whether a statement changes what a name holds rather than making it."""
    if isinstance(line, ast.Expr):
        return True
    targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
    return isinstance(line, ast.AugAssign) or (
        isinstance(line, ast.Assign | ast.AnnAssign)
        and not any(
            isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) for t in targets if t for node in ast.walk(t)
        )
    )


def bound(line: ast.stmt) -> set[str]:
    """Names that a top-level statement makes or changes; "*" for whatever a module has."""
    if isinstance(line, ast.Expr):
        return _changed_by_call(line.value)
    names: set[str] = set()
    for node in _outside_functions(line):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name.partition(".")[0]) for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            names |= _root(node)
    return names


def _changed_by_call(value: ast.expr) -> set[str]:
    """``table.update(…)``, and what ``:=`` names."""
    named = {node.target.id for node in ast.walk(value) if isinstance(node, ast.NamedExpr)}
    is_method = isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)
    return named | (_root(value.func) if is_method else set())  # type: ignore[attr-defined]


def _root(node: ast.AST) -> set[str]:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _outside_functions(line: ast.stmt) -> Iterator[ast.AST]:
    """The statement's nodes but for the inside of functions and classes, whose names are their own."""
    waiting: list[ast.AST] = [line]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if not isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            waiting += ast.iter_child_nodes(node)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def used(line: ast.stmt) -> tuple[set[str], set[str]]:
    """Names that a statement reads while it runs, and those that its functions read when they are called."""
    now, later = _reads([line])
    return now, later


def _reads(parts: Iterable[ast.AST]) -> tuple[set[str], set[str]]:
    """Names read at this level (decorators, defaults and annotations too), and free names of the functions in it."""
    now: set[str] = set()
    later: set[str] = set()
    waiting = list(parts)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load | ast.Del):
            now.add(node.id)
        if isinstance(node, FUNCTIONS):
            later |= _free(node)
            waiting += [*node.args.defaults, *filter(None, node.args.kw_defaults), *getattr(node, "decorator_list", [])]
            waiting += [
                part.annotation for part in ast.walk(node.args) if isinstance(part, ast.arg) and part.annotation
            ]
            waiting += filter(None, [getattr(node, "returns", None)])
        else:
            waiting += ast.iter_child_nodes(node)
    return now, later


def _free(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    """Names that a function reads and does not make itself."""
    body: list[ast.AST] = [function.body] if isinstance(function, ast.Lambda) else list(function.body)
    arguments = function.args
    own = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    own |= {each.arg for each in (arguments.vararg, arguments.kwarg) if each}
    declared: set[str] = set()
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Global):
            declared |= set(node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
            continue
        elif isinstance(node, ast.Import | ast.ImportFrom):
            own |= {(alias.asname or alias.name.partition(".")[0]) for alias in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            own.add(node.name)
        if not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    now, later = _reads(body)
    return ((now | later) - own) | declared
