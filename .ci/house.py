"""What the code is made of, by its syntax trees: `make house`.

A line of code is one that holds a token of a statement: no comment, docstring or blank line. A single-reader module is
one that exactly one other module imports. An annotation of a loose dictionary is one that contains `dict[str, Any]` or
`Mapping[str, Any]`, whatever it is called by an alias.
"""

import ast
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
LOOSE = ("dict[str, Any]", "Mapping[str, Any]", "MutableMapping[str, Any]")
TARGETS = {"code lines": 18_000, "files": 170, "single-reader modules, %": 33, "loose dictionaries": 60}
"""What is aimed at, each as a most."""


def docstrings(tree: ast.Module) -> set[int]:
    """Lines of strings that stand as statements: docstrings of modules, classes, functions and attributes."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def code_lines(text: str, tree: ast.Module) -> int:
    """Lines that are neither blank nor comment nor docstring."""
    hidden = docstrings(tree)
    lines = enumerate(text.splitlines(), start=1)
    return sum(
        1 for number, line in lines if line.strip() and not line.strip().startswith("#") and number not in hidden
    )


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def statement_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from its `def` to its end, without its docstring."""
    first = function.body[0]
    doc = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) and first.end_lineno else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - doc


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Of a function, `self` and `cls` aside; of a GPU kernel none, since its own are pointers and strides."""
    if any(ast.unparse(decorator) == "triton.jit" for decorator in function.decorator_list):
        return 0
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([one for one in every if one.arg not in ("self", "cls")])


def annotations(tree: ast.Module) -> Iterator[ast.expr]:
    """Of parameters, results, variables and fields, and the values of type aliases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            yield from (one.annotation for one in every if one is not None and one.annotation is not None)
            if node.returns is not None:
                yield node.returns
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation


def imported(tree: ast.Module, names: set[str]) -> set[str]:
    """Modules of ours that a tree imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found & names


def main() -> None:
    """Print the figures, what is aimed at beside them."""
    paths = sorted(SOURCE.rglob("*.py"))
    texts = {path: path.read_text() for path in paths}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    names = {path: ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__") for path in paths}
    lines = sum(code_lines(texts[path], trees[path]) for path in paths)
    readers = defaultdict(set)
    for path, tree in trees.items():
        for name in imported(tree, set(names.values())):
            readers[name].add(names[path])
    modules = [names[path] for path in paths if path.name not in ("__init__.py", "__main__.py")]
    single = [name for name in modules if len(readers[name] - {name}) == 1]
    every = [function for tree in trees.values() for function in functions(tree)]
    sizes = sorted(map(statement_lines, every))
    library = [f for path, tree in trees.items() if "cli" not in path.parts for f in functions(tree)]
    most = max(library, key=parameters)
    loose = [one for tree in trees.values() for one in annotations(tree) if any(x in ast.unparse(one) for x in LOOSE)]
    figures = {
        "code lines": lines,
        "files": len(paths),
        "files per thousand lines": round(1000 * len(paths) / lines, 1),
        "single-reader modules, %": round(100 * len(single) / len(modules)),
        "functions": len(every),
        "lines of a function: median": statistics.median(sizes),
        "lines of a function: 90 %": sizes[len(sizes) * 9 // 10],
        "lines of a function: longest": sizes[-1],
        f"parameters, most ({most.name})": parameters(most),
        "functions with more than 8 parameters": sum(parameters(function) > 8 for function in library),
        "loose dictionaries": len(loose),
    }
    for name, figure in figures.items():
        print(f"{name:45}{figure:>10}" + (f"   at most {TARGETS[name]:,}" if name in TARGETS else ""))
    if "--list" in sys.argv:
        print("single-reader modules:", *sorted(single), sep="\n  ")


if __name__ == "__main__":
    main()
