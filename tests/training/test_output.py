"""The adapter folder is whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import OutputError
from training.output import atomic_folder, check_output


def test_the_folder_appears_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "out"
    with atomic_folder(folder) as partial:
        (partial / "x").write_text("1")
        assert not folder.exists()
        assert partial.parent == folder.parent
    assert (folder / "x").read_text() == "1"
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_an_earlier_adapter_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").touch()
    with atomic_folder(folder) as partial:
        (partial / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").touch()

    def stopped_halfway() -> None:
        with atomic_folder(folder) as partial:
            (partial / "new").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_halfway()
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_something_else_is_not_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    check_output(folder)
    folder.mkdir()
    check_output(folder)
    (folder / "thesis.tex").touch()
    with pytest.raises(OutputError, match="something else"):
        check_output(folder)
    (folder / "adapter_config.json").touch()
    (folder / "recipe.yaml").touch()
    check_output(folder)
    with pytest.raises(OutputError, match="is a file"):
        check_output(folder / "thesis.tex")
