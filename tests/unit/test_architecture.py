"""How the house is built: packages that one can survey, no circles, and what is never loaded."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.places import ROOT

TOP = ("agent", "adapters", "camera")
LONGEST = 300
SIZES = range(2, 17)
"""Modules of a package, `__init__` not counted."""


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {name_of(file): file for top in TOP for file in sorted((ROOT / top).rglob("*.py"))}


def imported(file: Path) -> Iterator[str]:
    """Yield our modules that a module names in an import, wherever it stands, for types alone included."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules() else node.module


def circles() -> list[set[str]]:
    """Return sets of modules that import each other, by Tarjan's algorithm."""
    graph = {name: {one for one in imported(file) if one in modules()} for name, file in modules().items()}
    found, stack, index, low = [], [], {}, {}  # type: ignore[var-annotated]

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(set(stack[at:]))
            del stack[at:]

    for name in graph:
        if name not in index:
            visit(name)
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for types alone count too: they are how a circle begins."""
    assert circles() == []


def test_packages_can_be_surveyed() -> None:
    """2 to 16 modules each, and three sentences in `__init__` that say what lives there."""
    sizes = Counter(file.parent for file in modules().values() if file.name != "__init__.py")
    packages = {folder: size for folder, size in sizes.items() if folder.parent != ROOT}
    assert {str(folder): size for folder, size in packages.items() if size not in SIZES} == {}
    for folder in packages:
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert text is not None, folder
        assert len(text.splitlines()) >= 3, folder
    top = [file.name for folder in TOP for file in (ROOT / folder).glob("*.py")]
    assert set(top) == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("name", modules())
def test_a_module_fits_in_one_sitting(name: str) -> None:
    assert len(modules()[name].read_text().splitlines()) <= LONGEST


def test_one_name_is_one_class() -> None:
    """Who searches for a class finds one."""
    names: dict[str, list[str]] = {}
    for name, file in modules().items():
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names.setdefault(node.name, []).append(name)
    assert {name: found for name, found in names.items() if len(found) > 1} == {}


def test_the_process_that_learns_loads_neither_cameras_nor_the_broker_nor_the_database() -> None:
    """It may die of memory; what it has never loaded it cannot hold, lock or leak."""
    forbidden = ("paho", "cv2", "PIL", "sqlite3", "torch", "agent.mqtt", "agent.store")
    code = f"import agent.learning.process, sys; print([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_tests_lie_where_the_package_lies_that_they_test() -> None:
    """`tests/<kind>/<package>`; what is tested across packages lies at the top of its kind."""
    kinds = ("unit", "broker", "system", "research")
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    assert len(tests) > 100
    for file in tests:
        kind, *package = file.relative_to(ROOT / "tests").parent.parts
        assert kind in kinds, file
        place = "/".join(package)
        assert (ROOT / place).is_dir() or (ROOT / "tests" / place).is_dir(), file


def test_no_test_imports_from_a_test() -> None:
    for file in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(part.startswith("test_") for name in names for part in name.split(".")), file


_BY_NAME = {"setattr", "delattr", "getattr", "hasattr", "attrgetter", "methodcaller", "patch", "object"}
"""Functions that take the name of an attribute as a text."""


def is_private(dotted: str) -> bool:
    """Whether a name, or one before it, begins with one underscore; `os._exit` is documented all the same."""
    parts = dotted.split(".")
    return dotted != "os._exit" and any(re.fullmatch(r"_(?!_)\w+", part) for part in parts)


def pokes(source: str) -> Iterator[str]:
    """Yield where a file reaches into what is private elsewhere; what is `self`'s or `cls`'s is its own."""
    for node in ast.walk(ast.parse(source)):
        found: list[str] = []
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            found = [ast.unparse(node)] if not own and is_private(node.attr) else []
        elif isinstance(node, ast.Import | ast.ImportFrom):
            within = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            found = [f"{within}{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            texts = [one.value for one in node.args[:2] if isinstance(one, ast.Constant)]
            found = [text for text in texts if isinstance(text, str)] if name in _BY_NAME else []
        yield from (f"{node.lineno}: {one}" for one in found if is_private(one))


def test_only_one_module_of_the_tests_reaches_into_what_is_private() -> None:
    """A test says what anyone can see; where there is no other way, `insides` has a function."""
    door = ROOT / "tests" / "support" / "insides.py"
    files = [file for file in sorted((ROOT / "tests").rglob("*.py")) if file != door]
    assert len(files) > 100
    found = [f"{file.relative_to(ROOT)}:{poke}" for file in files for poke in pokes(file.read_text())]
    assert found == []


@pytest.mark.parametrize(
    ("source", "poke"),
    [
        ("store._db.execute('VACUUM')", True),
        ("self.triggers._changed.notify()", True),
        ("super()._look()", True),
        ("one().two[3]._four", True),
        ("from agent.base.logs import _is_journal", True),
        ("from agent._base import logs", True),
        ("import torch._dynamo", True),
        ("monkeypatch.setattr('agent.base.logs._is_journal', yes)", True),
        ("monkeypatch.setattr('agent.base._logs.is_journal', yes)", True),
        ("monkeypatch.setattr(Audit, '_write', full)", True),
        ("getattr(store, '_db', None)", True),
        ("with mock.patch.object(Audit, '_write'): pass", True),
        ("self._db.execute('VACUUM')", False),
        ("cls._made.append(1)", False),
        ("one.__dict__", False),
        ("os._exit(1)", False),
        ("from __future__ import annotations", False),
        ("print('_db', _own)", False),
        ("monkeypatch.setattr('agent.base.logs.set_up', _own)", False),
    ],
)
def test_a_poke_is_told_from_what_is_ones_own(source: str, poke: bool) -> None:
    assert bool([*pokes(source)]) is poke
