"""Imports run one way, and torch stays where tensors live."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"server", "registry", "training", "clients"}
TENSORS = {"torch", "transformers", "peft", "bitsandbytes", "safetensors", "accelerate"}
MAY_IMPORT = {
    "registry": set(),
    "server": {"registry"},
    "training": {"registry"},
    "clients": set(),
}
"""Which of ours each package may import, wherever in its files the import stands."""

LAZILY = {"clients": {"registry", "server", "training"}}
"""What may also be imported inside a function."""


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(tree: ast.AST, *, lazy: bool = False) -> Iterator[str]:
    """Top-level names of absolute imports; those inside functions only if `lazy`.

    What stands under `if TYPE_CHECKING:` never runs, so it does not count.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if lazy:
                yield from imports(node, lazy=True)
        elif not (isinstance(node, ast.If) and _is_type_checking(node.test)):
            yield from imports(node, lazy=lazy)


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize("package", sorted(OURS))
def test_packages_import_one_way(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    for path in files(package):
        tree = parse(path)
        at_top, anywhere = set(imports(tree)) & OURS, set(imports(tree, lazy=True)) & OURS
        assert at_top <= allowed, f"{path}: {at_top - allowed}"
        anywhere -= LAZILY.get(package, set())
        assert anywhere <= allowed, f"{path}: {anywhere - allowed}"


@pytest.mark.parametrize("folder", ["registry", "server/api"])
def test_no_tensors_here(folder: str) -> None:
    for path in files(folder):
        found = set(imports(parse(path), lazy=True)) & TENSORS
        assert not found, f"{path}: {found}"


def test_clients_import_tensors_only_inside_a_command() -> None:
    for path in files("clients"):
        found = set(imports(parse(path))) & TENSORS
        assert not found, f"{path}: {found}"


@pytest.mark.parametrize(
    "modules",
    [
        "registry, clients, clients.cli, registry.cli",
        "registry.api.serving, registry.remote.mirror, registry.collection",
        "server.api.app, server.metrics, server.settings, server.api.draining",
    ],
)
def test_torch_is_not_loaded(modules: str) -> None:
    program = f"import sys, {modules}; print(*({TENSORS!r} & set(sys.modules)))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_subpackages_do_not_shadow_the_standard_library() -> None:
    for package in OURS:
        for path in files(package):
            if path.name == "__init__.py" and path.parent != ROOT / package:
                assert path.parent.name not in sys.stdlib_module_names, path


def test_packages_export_what_they_say() -> None:
    for package in sorted(OURS):
        module = __import__(package)
        names = getattr(module, "__all__", [])
        assert list(names) == sorted(names), package
        assert all(hasattr(module, name) for name in names), package
