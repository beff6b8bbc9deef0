"""Mutants of a function, made by machine in memory: one small change each, of the kinds that answers get wrong.

Kept libraries (mutmut, cosmic-ray) change files, and know nothing of tensors: no axis, reduction, dtype, detach or
order of results. So the changes are written here, on the function's syntax tree.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FunctionType
from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """A changed answer, and where: the function's name and the line as it now reads."""

    name: str
    answer: Callable[..., Any]


OPERATORS = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.And: (ast.Or,), ast.Or: (ast.And,),
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Div,), ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,), ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,), ast.BitXor: (ast.BitAnd,), ast.LShift: (ast.RShift,), ast.RShift: (ast.LShift,),
}  # fmt: skip
FAMILIES = (
    "mean sum median", "fmean median", "max min", "amax amin", "argmax argmin", "maximum minimum", "any all",
    "floor ceil round trunc", "std var", "stdev pstdev", "softmax log_softmax", "exp log", "zeros ones",
    "zeros_like ones_like", "float64 float32", "int64 int32", "double float", "le lt", "ge gt", "train eval",
    "batchmean sum mean", "cumsum cumprod", "median_low median_high median", "left right", "log2 log", "sqrt square",
    "no_grad enable_grad", "SGD Adam", "union intersection", "named_parameters named_buffers", "parameters buffers",
)  # fmt: skip
"""names that are mistaken for one another, as functions, methods, dtypes or strings"""
RELATIVES = {
    name: {other for family in FAMILIES if name in family.split() for other in family.split()} - {name}
    for name in " ".join(FAMILIES).split()
}
IN_PLACE = {"abs", "add", "clamp", "div", "exp", "log", "mul", "neg", "round", "sub", "sqrt", "square", "masked_fill"}
ANOTHER_TYPE = {"item", "float", "int", "bool", "list", "tuple", "tolist"}
"""conversions that may be left out: a number is right as Python's, NumPy's or PyTorch's own"""
AUTHORS_OWN = {"strict", "key"}
"""keywords that may be left out: ``zip(…, strict=True)`` guards the author, not the answer"""


def mutants(answer: Any, *, with_gradient: bool = False) -> Iterator[Mutant]:
    """Every mutant of an answer: a change in the function itself, or in what it calls among the exercises."""
    parts = reached(answer)
    for part in parts:
        tree = source(part)
        for line in changes(tree, with_gradient=with_gradient and part is answer):
            with suppress(SyntaxError):  # a starred name alone, and the like
                yield Mutant(f"{part.__name__}: {line}", rebuilt(answer, parts, part, tree))


def source(function: Any) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def reached(function: Any) -> list[FunctionType]:
    """A function and the functions of the exercises that it calls, directly or not."""
    found: list[FunctionType] = []
    todo = [function]
    while todo:
        part = todo.pop()
        if part not in found:
            found.append(part)
            names = {node.id for node in ast.walk(source(part)) if isinstance(node, ast.Name)}
            values = [part.__globals__.get(name) for name in sorted(names)]
            todo += [v for v in values if inspect.isfunction(v) and ".notebook_" in v.__module__]
    return found


def rebuilt(answer: FunctionType, parts: list[FunctionType], changed: FunctionType, tree: ast.Module) -> Any:
    """The answer with one of its parts made from another tree, all in namespaces of their own."""
    spaces = {part.__module__: dict(part.__globals__) for part in parts}
    new: dict[FunctionType, Any] = {}
    for part in parts:
        space = spaces[part.__module__]
        if part is changed:
            local: dict[str, Any] = {}
            exec(compile(tree, f"<mutant of {part.__name__}>", "exec"), space, local)
            new[part] = local[part.__name__]
        else:
            new[part] = FunctionType(part.__code__, space, part.__name__, part.__defaults__, part.__closure__)
            new[part].__kwdefaults__ = part.__kwdefaults__
    for space in spaces.values():
        space |= {name: new[v] for name, v in space.items() if isinstance(v, FunctionType) and v in new}
    return new[answer]


def changes(tree: ast.Module, *, with_gradient: bool = False) -> Iterator[str]:
    """Make each change of a function in ``tree`` itself, yield the line that it changed, and undo it."""
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    before = ast.unparse(function).splitlines()
    for holder, key, node in places(function):
        for new in variants(node, with_gradient):
            put(holder, key, new)
            after = ast.unparse(ast.fix_missing_locations(function)).splitlines()
            if after != before:
                yield changed_line(before, after)
            put(holder, key, node)


def changed_line(before: list[str], after: list[str]) -> str:
    """The line as it now reads, or what has gone; of a refusal without its message, which Pythons write differently."""
    place = next((n for n, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), len(after))
    old, new = before[place].strip(), after[place].strip() if place < len(after) else "pass"
    gone = new == "pass" or len(after) < len(before) or old.startswith("with ") and new == "if True:"
    return f"without {old.partition('(')[0] if old.startswith('raise') else old}" if gone else new


def places(node: ast.AST) -> list[tuple[Any, Any, ast.AST]]:
    """Every node that may be changed, with what holds it: an object and a field, or a list and an index."""
    found: list[tuple[Any, Any, ast.AST]] = []
    for field, value in ast.iter_fields(node):
        if field in ("args", "returns", "annotation", "decorator_list") and isinstance(node, ast.FunctionDef):
            continue
        if isinstance(value, list):
            found += [(value, number, part) for number, part in enumerate(value) if isinstance(part, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append((node, field, value))
    deeper = [part for *_, part in found if not isinstance(part, ast.Raise | ast.JoinedStr | ast.AnnAssign)]
    return found + [place for part in deeper for place in places(part)]


def put(holder: Any, key: Any, node: ast.AST) -> None:
    if isinstance(holder, list):
        holder[key] = node
    else:
        setattr(holder, key, node)


def variants(node: ast.AST, with_gradient: bool) -> list[ast.AST]:
    """What a node may be mistaken for."""
    if isinstance(node, ast.stmt):
        return statements(node, with_gradient)
    if isinstance(node, ast.operator | ast.cmpop | ast.boolop):
        return [other() for other in OPERATORS.get(type(node), ())]
    if isinstance(node, ast.Constant):
        return [ast.Constant(value) for value in constants(node.value)]
    if isinstance(node, ast.Name | ast.Attribute):
        field = "id" if isinstance(node, ast.Name) else "attr"
        return [altered(node, **{field: other}) for other in sorted(RELATIVES.get(getattr(node, field), ()))]
    return expressions(node)


def altered(node: Any, **fields: Any) -> Any:
    return type(node)(**{field: fields.get(field, value) for field, value in ast.iter_fields(node)})


def constants(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [0.0, 2 * value if abs(value) > 1e-3 else 1000 * value]
    return sorted(RELATIVES.get(value, ())) if isinstance(value, str) else []


def statements(node: ast.stmt, with_gradient: bool) -> list[ast.AST]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return []  # a docstring
    if isinstance(node, ast.Expr | ast.Assign | ast.AugAssign | ast.Raise | ast.Continue | ast.Break):
        targets = node.targets[0] if isinstance(node, ast.Assign) else None
        swapped = [altered(node, targets=[turned(targets)])] if isinstance(targets, ast.Tuple) else []
        return [ast.Pass(), *swapped]
    if isinstance(node, ast.If):
        return [altered(node, test=ast.Constant(value)) for value in (True, False)]
    if isinstance(node, ast.For):
        return [altered(node, iter=ast.List([], ast.Load()))]
    if isinstance(node, ast.With):
        return [ast.If(ast.Constant(True), node.body, [])]
    if isinstance(node, ast.Return) and node.value:
        found = [altered(node, value=turned(node.value))] if isinstance(node.value, ast.Tuple) else []
        detached = ast.Call(ast.Attribute(node.value, "detach", ast.Load()), [], [])
        return [*found, altered(node, value=detached)] if with_gradient else found
    return []


def turned(node: ast.Tuple) -> ast.Tuple:
    return altered(node, elts=node.elts[::-1])


def expressions(node: ast.AST) -> list[Any]:
    if isinstance(node, ast.UnaryOp):
        return [node.operand]
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.BoolOp):
        return [altered(node, values=others) if others[1:] else others[0] for others in each_dropped(node.values)]
    if isinstance(node, ast.Slice):
        return [altered(node, **{field: None}) for field in ("lower", "upper", "step") if getattr(node, field)]
    if isinstance(node, ast.comprehension):
        return [altered(node, ifs=others) for others in each_dropped(node.ifs)]
    return calls(node) if isinstance(node, ast.Call) else []


def each_dropped(values: list[Any]) -> list[list[Any]]:
    return [values[:number] + values[number + 1 :] for number in range(len(values))]


def calls(node: ast.Call) -> list[Any]:
    """Arguments in another order, one left out, the call itself left out, or the same done in place."""
    found: list[Any] = []
    if len(node.args) >= 2 and not any(isinstance(part, ast.Starred) for part in node.args[:2]):
        found.append(altered(node, args=[node.args[1], node.args[0], *node.args[2:]]))
        found.append(altered(node, args=node.args[:-1]))
    softmax = ast.unparse(node.func).endswith("softmax")  # without dim it warns, and does the same for (N, C)
    for number, keyword in enumerate(node.keywords):
        if keyword.arg not in AUTHORS_OWN and not (softmax and keyword.arg == "dim"):
            found.append(altered(node, keywords=node.keywords[:number] + node.keywords[number + 1 :]))
    if isinstance(node.func, ast.Attribute):
        owner, name = node.func.value, node.func.attr
        if name in IN_PLACE and not is_module(owner):
            found.append(altered(node, func=altered(node.func, attr=f"{name}_")))
        kept = node.args[:1] if is_module(owner) else [owner]
    else:
        name, kept = getattr(node.func, "id", ""), node.args[:1]
    return found if name in ANOTHER_TYPE else [*found, *kept]


def is_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in {"torch", "F", "nn", "math", "stats", "np", "numpy", "scipy"}
