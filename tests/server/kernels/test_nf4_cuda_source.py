"""Every CUDA C++ kernel compiles, without a GPU, for each architecture and shape that is used."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from server.kernels.cuda.compiler import SOURCES, Compiler
from server.kernels.cuda.gpu import Gpu
from server.kernels.cuda.shapes import (
    WGMMA_TOKENS,
    WIDE_TOKENS,
    MmaShape,
    Mode,
    WgmmaShape,
    mma_shapes,
)

GPUS = (
    Gpu((8, 0), 108, 163 * 1024),
    Gpu((8, 9), 142, 99 * 1024),
    Gpu((9, 0), 132, 227 * 1024),
)
SHARED_BYTES = {gpu.arch: gpu.product_bytes for gpu in GPUS}
MODES: tuple[Mode, ...] = ("exact", "fast", "batch-invariant")
WGMMA_SHAPES = [WgmmaShape(tokens, bands) for tokens in WGMMA_TOKENS for bands in (1, 2)]
WGMMA_CASES = [(shape, exact) for shape in WGMMA_SHAPES for exact in (True, False)]
WGMMA_CASES.append((WgmmaShape(WIDE_TOKENS, 1), True))


def mma_cases() -> Iterator[tuple[str, Mode, MmaShape]]:
    for arch, shared_bytes in SHARED_BYTES.items():
        for mode in MODES:
            for shape in mma_shapes(shared_bytes, mode).values():
                yield arch, mode, shape


def compiled(arch: str, source: str, constants: Mapping[str, int]) -> str:
    """The assembler's log; the code itself must be an ELF file."""
    log = io.StringIO()
    assert Compiler(arch).compile(source, constants, log)[:4] == b"\x7fELF"
    return log.getvalue()


def assert_nothing_spills(log: str) -> None:
    assert ", 0 bytes spill stores, 0 bytes spill loads" in log


@pytest.mark.parametrize(("arch", "mode", "shape"), list(mma_cases()))
def test_the_mma_kernel_compiles_without_spilling(arch: str, mode: Mode, shape: MmaShape) -> None:
    constants = shape.constants(SHARED_BYTES[arch], exact=mode != "fast")
    log = compiled(arch, "nf4_mma.cu", constants)
    if mode != "fast":  # which keeps sums of 64 beside the others, and spills up to 24 bytes
        assert_nothing_spills(log)


@pytest.mark.parametrize(("shape", "exact"), WGMMA_CASES, ids=str)
def test_the_wgmma_kernel_neither_spills_nor_serializes(shape: WgmmaShape, exact: bool) -> None:
    constants = shape.constants(SHARED_BYTES["sm_90a"], exact=exact)
    log = compiled("sm_90a", "nf4_wgmma.cu", constants)
    assert_nothing_spills(log)
    assert "serialized" not in log


@pytest.mark.parametrize("arch", list(SHARED_BYTES))
def test_the_dequantize_kernel_compiles(arch: str) -> None:
    assert_nothing_spills(compiled(arch, "nf4_dequantize.cu", {}))


def test_products_and_sums_of_scales_are_not_contracted() -> None:
    """Contraction would round once where bitsandbytes rounds twice."""
    source = (SOURCES / "nf4_decode.cuh").read_text()
    assert "__fadd_rn(__fmul_rn(code, group.x), group.y)" in source


def test_a_cubin_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = Compiler("sm_90a", tmp_path)
    made = compiler.cubin("nf4_dequantize.cu", {})
    monkeypatch.setattr(Compiler, "compile", None)
    assert compiler.cubin("nf4_dequantize.cu", {}) == made
    assert [path.suffix for path in tmp_path.iterdir()] == [".cubin"]


def test_a_cubin_is_of_its_architecture_and_constants(tmp_path: Path) -> None:
    for arch, constants in (("sm_80", {}), ("sm_90a", {}), ("sm_80", {"OTHER": 1})):
        Compiler(arch, tmp_path).cubin("nf4_dequantize.cu", constants)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_source_that_does_not_compile_says_why() -> None:
    with pytest.raises(Exception, match="NF4_COLUMN_TILES"):
        Compiler("sm_80").compile("nf4_mma.cu", {})
