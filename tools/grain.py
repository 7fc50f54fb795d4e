"""How dense the code is, and how the house stands: the figures that CONTRIBUTING promises.

    python tools/grain.py

Lines are those that hold code or a docstring: no blank lines and no comments.
"""

import ast
import io
import json
import re
import sys
import tokenize
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "xray_explain"
WIDE, TALL = 100, 50  # characters of a line, lines of an export cell
CODE = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)


def modules() -> dict[str, str]:
    "Every module that a notebook writes: dotted name without the package's -> source"
    paths = [
        p for p in sorted(PACKAGE.rglob("*.py")) if p.name not in ("__init__.py", "_modidx.py")
    ]
    dotted = [".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in paths]
    return {name: p.read_text("utf-8") for name, p in zip(dotted, paths)}


def imported(source: str, module: str, known) -> set[str]:
    "Modules among those known that a source imports: at its top, in a function, relative or absolute"
    here = ["xray_explain", *module.split(".")]
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: -node.level] if node.level else []
            stem = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            # `from .draw import page` names a module, `from .draw.page import fit` is in one
            names |= {stem, *(f"{stem}.{alias.name}" for alias in node.names)}
    inside = {name.removeprefix("xray_explain.") for name in names}
    return {name for name in inside if name in known and name != module}


def arrows() -> dict[str, set[str]]:
    "Module -> modules that it imports"
    known = modules()
    return {name: imported(source, name, known) for name, source in known.items()}


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    "The same between rooms; a module outside of them is a room of its own"
    found: dict[str, set[str]] = {}
    for name, used in graph.items():
        room = name.split(".")[0]
        found.setdefault(room, set()).update(o.split(".")[0] for o in used)
    return {room: used - {room} for room, used in found.items()}


def floors(graph: dict[str, set[str]]) -> int:
    "Length of the longest chain of imports; the ground is floor 1"

    @lru_cache(None)
    def floor(name):
        return 1 + max(map(floor, graph[name]), default=0)

    return max(map(floor, graph))


def code_lines(source: str) -> set[int]:
    "Numbers of the lines that hold code"
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return lines


def body(function) -> list[ast.stmt]:
    "Statements of a function without its docstring"
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return function.body[1:] if is_docstring else function.body


def nodes_a_line(sources) -> float:
    "Syntax nodes in the bodies of functions for each of their lines"
    nodes = lines = 0
    for source in sources:
        code = code_lines(source)
        for function in ast.walk(ast.parse(source)):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if statements := body(function):
                nodes += sum(1 for s in statements for _ in ast.walk(s))
                span = range(statements[0].lineno, statements[-1].end_lineno + 1)
                lines += len(code.intersection(span))
    return nodes / lines


def wide_share(sources) -> float:
    "Share of code lines over 100 characters; nbdev's own list of names is left out"
    wide = total = 0
    for source in sources:
        lines = source.splitlines()
        code = code_lines(source)
        total += len(code)
        wide += sum(
            len(lines[n - 1]) > WIDE and not lines[n - 1].startswith("__all__") for n in code
        )
    return wide / total


def export_cells() -> list[tuple[str, int]]:
    "Notebook and lines of code of every export cell"
    found = []
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and source.startswith("#| export"):
                lines = [s for s in source.splitlines() if s.strip() and not s.startswith("#|")]
                found.append((path.relative_to(ROOT).as_posix(), len(lines)))
    return found


def tall_share() -> float:
    "Share of exported code that stands in cells over 50 lines"
    cells = export_cells()
    return sum(n for _, n in cells if n > TALL) / sum(n for _, n in cells)


OPENING = re.compile(
    r"\bfunction\b\s*\w*\([^)]*\)\s*\{|=>\s*\{|^\s*(?:(?:async|static|get|set) )*[\w#]+\([^)]*\)\s*\{",
    re.M,
)
NO_FUNCTION = re.compile(r"^\s*(?:if|for|while|switch|catch|return)\b")


def javascript_functions() -> list[tuple[int, str]]:
    "Lines of every function of the view's scripts, the longest first, and where it begins"
    found = []
    for path in sorted((PACKAGE / "view" / "browser").rglob("*.js")):
        text = path.read_text("utf-8")
        for match in OPENING.finditer(text):
            if NO_FUNCTION.match(match[0]):
                continue
            depth, end = 0, match.end() - 1
            for end in range(match.end() - 1, len(text)):
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                if not depth:
                    break
            start = match.start() + len(match[0]) - len(match[0].lstrip())
            where = f"{path.name}:{text.count(chr(10), 0, start) + 1}"
            found.append((text.count("\n", start, end) + 1, where))
    return sorted(found, reverse=True)


def entries() -> dict[str, int]:
    "Modules in every room; a room in it counts as one, and has its own number"
    rooms = [p.parent for p in PACKAGE.rglob("*/__init__.py")]
    inner = {room: sum(other.parent == room for other in rooms) for room in rooms}
    named = {room: ".".join(room.relative_to(PACKAGE).parts) for room in rooms}
    return {named[room]: len(list(room.glob("*.py"))) - 1 + inner[room] for room in rooms}


def main():
    sources, graph = modules().values(), arrows()
    length, where = javascript_functions()[0]
    rows = {
        "modules, arrows between them": f"{len(graph)}, {sum(map(len, graph.values()))}",
        "floors of the rooms, of the modules": f"{floors(rooms(graph))}, {floors(graph)}",
        "syntax nodes a line, in functions": f"{nodes_a_line(sources):.1f}",
        f"lines over {WIDE} characters": f"{wide_share(sources):.1%}",
        f"export code in cells over {TALL} lines": f"{tall_share():.1%}",
        "longest JavaScript function": f"{length} lines ({where})",
        "modules in a room": ", ".join(f"{room} {n}" for room, n in sorted(entries().items())),
    }
    for what, figure in rows.items():
        print(f"{what:40} {figure}")


if __name__ == "__main__":
    sys.exit(main())
