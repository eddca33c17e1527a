"""Fuzz one reader with atheris: `python -m tests.fuzz TARGET [libFuzzer's options]`.

The long form, ten minutes a target: `tests/fuzz/long.sh`. What crashed is left in a file; give it
as the only option to see it again.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["registry"]):
    from tests.fuzz.targets import TARGETS, survive

from tests.fuzz.seeds import seeds


def main() -> None:
    name, options = sys.argv[1], sys.argv[2:]
    target = TARGETS[name]
    warnings.simplefilter("ignore")  # `re` warns of odd patterns, which is all it does
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(seeds()[name]):
            (Path(folder) / f"seed-{number}").write_bytes(content)
        atheris.Setup([sys.argv[0], *options, folder], lambda content: survive(target, content))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
