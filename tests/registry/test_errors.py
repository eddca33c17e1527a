from __future__ import annotations

from collections.abc import Iterator

from registry import errors
from registry.errors import RegistryError

WIDTH = 33  # columns of the tree before the status


def branches(parent: type[RegistryError], indent: str = "") -> Iterator[str]:
    """The tree as the module's docstring draws it, in the order of the classes."""
    order = list(vars(errors))
    ours = [each for each in parent.__subclasses__() if each.__module__ == errors.__name__]
    ours.sort(key=lambda each: order.index(each.__name__))
    for each in ours:
        is_last = each is ours[-1]
        name = f"{indent}{'└── ' if is_last else '├── '}{each.__name__}"
        yield f"{name:<{WIDTH}} {each.status} {each.code}"
        yield from branches(each, indent + ("    " if is_last else "│   "))


def test_the_drawn_tree_is_the_real_one() -> None:
    root = f"{'RegistryError':<{WIDTH}} {RegistryError.status} {RegistryError.code}"
    assert "\n".join([root, *branches(RegistryError)]) in (errors.__doc__ or "")
