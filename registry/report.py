"""What the lint measured: how large each update is and how many directions it uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .adapters import AdapterSpec
from .verdicts import Verdict

Gram = NDArray[np.float64]  # [rank, rank]

_OUTLIER = 10.0  # times the median norm
_SMALLEST = 1e-20  # a sum of squares below which float32 may have lost some to underflow
_NOISE = 1e-6  # of the largest squared singular value: what rounding in float32 leaves of a zero


@dataclass(frozen=True)
class ModuleReport:
    """One projection's update: Frobenius norm of `scaling * B @ A`, and its effective rank."""

    tensor: str
    norm: float
    effective_rank: float


@dataclass(frozen=True)
class Report:
    """What push and verify say about an adapter; `warnings` are for people to judge."""

    num_tensors: int
    num_parameters: int
    dtype: str
    max_rank: int
    projections: tuple[str, ...]
    median_norm: float
    mean_effective_rank: float
    warnings: tuple[str, ...] = field(default=())
    verdicts: tuple[Verdict, ...] = field(default=())
    modules: tuple[ModuleReport, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, modules: Sequence[ModuleReport], spec: AdapterSpec, dtype: str) -> Report:
        """Sum up the modules, warning of zero and outlying ones."""
        median = float(np.median([module.norm for module in modules]))
        warnings = list(spec.warnings)
        zero = [module.tensor for module in modules if module.norm == 0]
        if zero:
            warnings.append(
                f"{len(zero)} of {len(modules)} updates are zero, {zero[0]} among them: "
                "these projections did not train"
            )
        warnings += [
            f"{module.tensor}: the update's norm {module.norm:.3g} is "
            f"{module.norm / median:.0f} times the median"
            for module in modules
            if median > 0 and module.norm > _OUTLIER * median
        ]
        trained = [module.effective_rank for module in modules if module.norm]
        return cls(
            num_tensors=len(spec.tensors),
            num_parameters=sum(rows * columns for rows, columns in spec.tensors.values()),
            dtype=dtype,
            max_rank=spec.max_rank,
            projections=spec.projections,
            median_norm=median,
            mean_effective_rank=float(np.mean(trained)) if trained else 0.0,
            warnings=tuple(warnings),
            verdicts=spec.verdicts,
            modules=tuple(modules),
        )


def gram(factor: NDArray[Any]) -> Gram:
    """The Gram matrix [rank, rank] of a factor [rank, features]; finite if the factor is.

    In float32 as far as its range allows, where the products of half-precision numbers are exact.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        narrow: NDArray[Any] = np.dot(factor, factor.T)  # @ would keep the interpreter's lock
        if _SMALLEST < np.trace(narrow) < np.inf:
            return narrow.astype(np.float64)
        wide = factor.astype(np.float64)
        return np.asarray(np.dot(wide, wide.T))


def measure(
    tensors: Sequence[str],
    grams: Sequence[tuple[Gram, Gram]],
    scalings: Sequence[float],
) -> list[ModuleReport]:
    """Measure each `scaling * B @ A` by the Gram matrices of A and of Bᵀ, without building it.

    The squared singular values of BA are the eigenvalues of the rank-sized product of both Gram
    matrices. Effective rank is the exponential of the singular values' entropy (Roy and
    Vetterli 2007).
    """
    grams_a, grams_b = _stacked([a for a, _ in grams]), _stacked([b for _, b in grams])
    values, vectors = np.linalg.eigh(grams_a)
    scaled = vectors * np.sqrt(np.clip(values, 0, None))[:, None, :]
    roots = scaled @ vectors.swapaxes(1, 2)
    squares = np.clip(np.linalg.eigvalsh(roots @ grams_b @ roots), 0, None)
    return [
        ModuleReport(tensor, abs(scaling) * float(np.sqrt(each.sum())), _effective_rank(each))
        for tensor, scaling, each in zip(tensors, scalings, squares, strict=True)
    ]


def _stacked(grams: Sequence[Gram]) -> NDArray[np.float64]:
    """Gram matrices as [number, rank, rank]; zeros make up for smaller ranks."""
    rank = max(len(each) for each in grams)
    stack = np.zeros((len(grams), rank, rank))
    for place, each in zip(stack, grams, strict=True):
        place[: len(each), : len(each)] = each
    return stack


def _effective_rank(squares: NDArray[np.float64]) -> float:
    """By squared singular values; 0 if there is none."""
    singular = np.sqrt(squares[squares > _NOISE * squares.max()])
    shares = singular / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())) if singular.size else 0.0
