"""Compiles the CUDA C++ kernels of this folder for one GPU, once per source."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from cuda.core import Program, ProgramOptions

SOURCES = Path(__file__).parent
SUFFIXES = (".cu", ".cuh")


@dataclass(frozen=True)
class Compiler:
    """NVRTC, and a folder of what it has already made.

    arch: `sm_80`, `sm_89`, `sm_90a`, … cache: where cubins are kept, or None to keep none. A cubin
    is found again by the hash of every source here, the kernel's constants and the architecture.
    """

    arch: str
    cache: Path | None = None

    def cubin(self, source: str, constants: Mapping[str, int]) -> bytes:
        """`source` (a file name here) with `constants` as macros, compiled or taken from the cache.

        Raises cuda.core's NVRTCError, with the compiler's log, if it does not compile.
        """
        if self.cache is None:
            return self.compile(source, constants)
        path = self.cache / f"{Path(source).stem}-{self._key(source, constants)}.cubin"
        if path.is_file():
            return path.read_bytes()
        made = self.compile(source, constants)
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.cache, delete=False) as file:
            file.write(made)
        Path(file.name).replace(path)  # whole or not at all, whoever else compiles the same
        return made

    def compile(
        self, source: str, constants: Mapping[str, int], log: TextIO | None = None
    ) -> bytes:
        """The same without the cache; `log` gets what the assembler says of registers and waits."""
        options = ProgramOptions(
            name=source,
            arch=self.arch,
            std="c++17",
            include_path=[str(SOURCES)],
            define_macro=[(name, str(value)) for name, value in constants.items()] or None,
            ptxas_options=["-v"],
        )
        program = Program((SOURCES / source).read_text(), "c++", options)
        return bytes(program.compile("cubin", logs=log).code)

    def _key(self, source: str, constants: Mapping[str, int]) -> str:
        digest = hashlib.sha256(f"{source} {self.arch} {sorted(constants.items())}".encode())
        for path in sorted(SOURCES.iterdir()):
            if path.suffix in SUFFIXES:
                digest.update(path.read_bytes())
        return digest.hexdigest()[:32]
