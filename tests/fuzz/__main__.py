"""Fuzz one reader with atheris: `python -m tests.fuzz TARGET [libFuzzer's options]`.

The long form, ten minutes a target: `tests/fuzz/long.sh`. What crashed is left in a file; give it
as the only option to see it again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.seeds import seeds


def main() -> int:
    """Run the loop in a process of its own: libFuzzer ends it without letting Python clean up."""
    name, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(seeds()[name]):
            (Path(folder) / f"seed-{number}").write_bytes(content)
        command = [sys.executable, "-m", "tests.fuzz.loop", name, *options, folder]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
