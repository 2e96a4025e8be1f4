"""A list of the places in a codebase that call a model, from its syntax tree: the first step of every rollout.

Nothing is imported or run. Names are followed through imports, assignments and attributes of self within a file, so a
call whose client comes from elsewhere is found only where its method says enough by itself.
"""

from __future__ import annotations

import ast
import fnmatch
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from farthing_reports.call_names import LIBRARIES, METHODS, UNMISTAKABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["CallSite", "Unreadable", "inventory"]

_SKIPPED: Final = ("node_modules", "site-packages", "__pycache__", "build", "dist", "venv", "env")

_CALLBACKS: Final = {"langchain": "FarthingHandler", "crewai": "FarthingListener", "litellm": "FarthingLogger"}
_UNSEEN: Final = "unseen"
"""Something is given to the call that a callback may be in; it is believed where the file makes one."""
_PROCESS_WIDE: Final = frozenset({"litellm", "crewai"})
_BLOCKS: Final = ("attribute", "resume")


class CallSite(NamedTuple):
    """One place that calls a model."""

    path: str
    line: int
    function: str
    """The enclosing function or method, or "<module>"."""
    library: str
    call: str
    """As written: "client.chat.completions.create"."""
    callback: str
    """yes, no, or "elsewhere" where another file of the codebase installs it for the process."""
    attributed: bool
    """Whether an attribute() or resume() stands around it or on its function."""


class Unreadable(NamedTuple):
    """A file that could not be read as Python."""

    path: str
    reason: str


def inventory(root: Path) -> tuple[list[CallSite], list[Unreadable]]:
    """List the calls of models below a folder, or in one file.

    Returns:
        The calls in the order of files and lines, and what could not be read.

    Raises:
        Nothing of its own.
    """
    found: list[tuple[CallSite, _File]] = []
    bad: list[Unreadable] = []
    installed: set[str] = set()
    for path in _files(root):
        name = str(path.relative_to(root)) if root.is_dir() else str(path)
        try:
            tree = ast.parse(path.read_bytes(), filename=name)
        except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
            bad.append(Unreadable(name, f"line {error.lineno}" if isinstance(error, SyntaxError) else str(error)[:80]))
            continue
        file = _File(name)
        try:
            file.visit(tree)
        except RecursionError:
            bad.append(Unreadable(name, "is nested too deeply"))
            continue
        installed |= file.callbacks
        found += [(site, file) for site in file.sites]
    return [_settled(site, file, installed) for site, file in found], bad


def _settled(site: CallSite, file: _File, installed: set[str]) -> CallSite:
    """Decide whether a callback reaches a call, now that every file is known."""
    library = site.library
    if library in _PROCESS_WIDE:
        where = "yes" if library in file.callbacks else "elsewhere" if library in installed else "no"
        return site if site.callback == "yes" else site._replace(callback=where)
    if site.callback == _UNSEEN:
        return site._replace(callback="yes" if library in file.callbacks else "no")
    return site


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in _SKIPPED and not name.startswith("."))
        for name in sorted(files):
            if name.endswith(".py"):
                yield root.__class__(folder) / name


class _File(ast.NodeVisitor):
    """What one file imports, builds and calls."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.sites: list[CallSite] = []
        self.callbacks: set[str] = set()
        self._origin: dict[str, str] = {}
        """Name to the library that it comes from: modules, classes, clients and what is made of them."""
        self._modules: dict[str, str] = {}
        self._handlers: set[str] = set()
        self._functions: list[str] = []
        self._blocks = 0

    def visit_Import(self, node: ast.Import) -> None:
        """Note `import x as y`."""
        for each in node.names:
            name = each.asname or each.name.partition(".")[0]
            self._modules[name] = each.name if each.asname else name
            library = _library(each.name)
            if library is not None:
                self._origin[name] = library

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Note `from x import y as z`."""
        for each in node.names:
            full = f"{node.module or ''}.{each.name}"
            name = each.asname or each.name
            self._modules[name] = full
            library = _library(full)
            if library is not None:
                self._origin[name] = library

    def visit_Assign(self, node: ast.Assign) -> None:
        """Follow `client = OpenAI()` and `chain = prompt | model`."""
        self.visit(node.value)
        for target in node.targets:
            self._bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """As above, with a type."""
        if node.value is not None:
            self.visit(node.value)
            self._bind(node.target, node.value)
        library = self._of(node.annotation)
        if library is not None and (name := _dotted(node.target)):
            self._origin.setdefault(name, library)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        """Enter blocks, attribute() among them."""
        entered = 0
        for item in node.items:
            self.visit(item.context_expr)
            entered += self._is_block(item.context_expr)
            if item.optional_vars is not None:
                self._bind(item.optional_vars, item.context_expr)
        self._blocks += entered
        for statement in node.body:
            self.visit(statement)
        self._blocks -= entered

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        """As above."""
        self.visit_With(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Enter a class."""
        self._enter(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Enter a function."""
        self._enter(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Enter a coroutine function."""
        self._enter(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Note a call of a model, or of a callback's maker."""
        self.generic_visit(node)
        name = _dotted(node.func)
        if name is None:
            return
        for library, maker in _CALLBACKS.items():
            if self._modules.get(name.partition(".")[0], name).endswith(maker) or name.endswith(f".{maker}"):
                self.callbacks.add(library)
        library = self._called(node.func, name)
        if library is None:
            return
        given = any(
            keyword.arg in {"config", "callbacks"} and self._has_handler(keyword.value) for keyword in node.keywords
        )
        given = given or any(self._has_handler(each) for each in (*node.args, node.func))
        passed = len(node.args) > 1 or any(keyword.arg in {"config", "callbacks", None} for keyword in node.keywords)
        self.sites.append(
            CallSite(
                path=self.path,
                line=node.lineno,
                function=".".join(self._functions) or "<module>",
                library=library,
                call=name,
                callback="yes" if given else _UNSEEN if passed else "no",
                attributed=self._blocks > 0,
            )
        )

    def _enter(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        entered = sum(self._is_block(each) for each in node.decorator_list)
        if not isinstance(node, ast.ClassDef):
            for argument in (*node.args.args, *node.args.kwonlyargs):
                library = None if argument.annotation is None else self._of(argument.annotation)
                if library is not None:
                    self._origin[argument.arg] = library
        self._functions.append(node.name)
        # A block around a def is no block around its calls; a decorator is.
        outer, self._blocks = self._blocks, entered + (0 if not isinstance(node, ast.ClassDef) else self._blocks)
        self.generic_visit(node)
        self._blocks = outer
        self._functions.pop()

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        name = _dotted(target)
        library = self._of(value)
        if name is None:
            return
        if library is not None:
            self._origin[name] = library
            if isinstance(value, ast.Attribute):  # ask = litellm.completion: called by another name, and the same
                self._modules[name] = _dotted(value) or name
        if self._has_handler(value):
            self._handlers.add(name)

    def _of(self, node: ast.expr) -> str | None:
        """Give the library that an expression's value comes from."""
        if isinstance(node, ast.Await):
            return self._of(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._of(node.left) or self._of(node.right)
        if isinstance(node, ast.Call):
            return self._made(node)
        parts = (_dotted(node) or "").split(".")
        names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((library for name in names if (library := self._origin.get(name)) is not None), None)

    def _made(self, node: ast.Call) -> str | None:
        """Give the library of what a call makes; AWS's clients are told apart by the service they are for."""
        if not (isinstance(node.func, ast.Attribute) and node.func.attr in {"client", "resource"}):
            return self._of(node.func)
        service = node.args[0] if node.args else None
        return "bedrock" if isinstance(service, ast.Constant) and "bedrock" in str(service.value) else None

    def _called(self, function: ast.expr, name: str) -> str | None:
        """Give the library whose model a call asks, if it does."""
        library = self._of(function)
        if library is not None:
            full = name
            if "." not in name:
                full = self._modules.get(name, name)
            return library if _matches(full, METHODS[library]) else None
        for known, patterns in UNMISTAKABLE.items():
            if _matches(name, patterns):
                return known
        return None

    def _has_handler(self, node: ast.expr) -> bool:
        for each in ast.walk(node):
            name = _dotted(each) if isinstance(each, (ast.Name, ast.Attribute)) else None
            if name is not None and (name in self._handlers or name.endswith(_CALLBACKS["langchain"])):
                return True
        return False

    def _is_block(self, node: ast.expr) -> bool:
        name = _dotted(node.func) if isinstance(node, ast.Call) else None
        if name is None:
            return False
        head, _, rest = name.partition(".")
        full = f"{self._modules.get(head, head)}{'.' + rest if rest else ''}"
        return full.startswith("farthing.") and full.rpartition(".")[2] in _BLOCKS


def _library(module: str) -> str | None:
    """Give the library that a module belongs to."""
    if module.startswith(("langchain", "langgraph")):
        return "langchain"
    for prefix, library in LIBRARIES.items():
        if module == prefix or module.startswith(f"{prefix}."):
            return library
    return None


def _dotted(node: ast.AST) -> str | None:
    """Give `a.b.c` as written; a call in between counts as its function."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value.func if isinstance(node.value, ast.Call) else node.value)
        return f"{inner}.{node.attr}" if inner else f"(...).{node.attr}"
    return None


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(f".{name}", pattern) for pattern in patterns)
