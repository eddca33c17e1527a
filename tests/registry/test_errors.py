from __future__ import annotations

from collections.abc import Iterator

from registry import errors
from registry.errors import RegistryError

PACKAGE = f"{errors.__name__}."
WIDTH = 33  # columns of the tree before the status


def branches(parent: type[RegistryError], indent: str = "") -> Iterator[str]:
    """The tree as the package's docstring draws it, siblings in the order that it has them in."""
    drawn = (errors.__doc__ or "").split()
    ours = [each for each in parent.__subclasses__() if each.__module__.startswith(PACKAGE)]
    ours.sort(key=lambda each: drawn.index(each.__name__))
    for each in ours:
        is_last = each is ours[-1]
        name = f"{indent}{'└── ' if is_last else '├── '}{each.__name__}"
        yield f"{name:<{WIDTH}} {each.status} {each.code}"
        yield from branches(each, indent + ("    " if is_last else "│   "))


def test_the_drawn_tree_is_the_real_one() -> None:
    root = f"{'RegistryError':<{WIDTH}} {RegistryError.status} {RegistryError.code}"
    assert "\n".join([root, *branches(RegistryError)]) in (errors.__doc__ or "")


def test_every_error_can_be_had_from_the_package() -> None:
    """By its code too, as clients of a registry's server find it (`registry.remote`)."""

    def family(parent: type[RegistryError]) -> Iterator[type[RegistryError]]:
        yield parent
        for each in parent.__subclasses__():
            yield from family(each)

    ours = [each for each in family(RegistryError) if each.__module__.startswith(PACKAGE)]
    assert sorted(each.__name__ for each in ours) == errors.__all__
    assert all(getattr(errors, each.__name__) is each for each in ours)
