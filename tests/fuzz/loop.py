"""One fuzzing process: `python -m tests.fuzz.loop TARGET [libFuzzer's options] CORPUS`."""

from __future__ import annotations

import sys
import warnings

import atheris

with atheris.instrument_imports(include=["registry", "server.api", "training"]):
    from tests.fuzz.targets import TARGETS, survive

from tests.fuzz.mutating import FRAMES, mutate


def main() -> None:
    name, options = sys.argv[1], sys.argv[2:]
    target, frame = TARGETS[name], FRAMES.get(name)
    warnings.simplefilter("ignore")  # `re` warns of odd patterns, which is all it does

    def change(content: bytes, max_size: int, seed: int) -> bytes:
        changed = None if frame is None else mutate(frame, content, seed)
        if changed is None or len(changed) > max_size:
            return bytes(atheris.Mutate(content, max_size))
        return changed

    atheris.Setup(
        [sys.argv[0], *options],
        lambda content: survive(target, content),
        custom_mutator=change,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
