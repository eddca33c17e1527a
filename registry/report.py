"""What the lint measured: how large each update is and how many directions it uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .adapters import AdapterSpec
from .verdicts import Verdict

_OUTLIER = 10.0  # times the median norm


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


def measure(
    tensor: str, lora_a: NDArray[Any], lora_b: NDArray[Any], *, scaling: float
) -> ModuleReport:
    """Measure `scaling * lora_b @ lora_a` without building it.

    The squared singular values of BA are the eigenvalues of the rank-sized product of both Gram
    matrices. Effective rank is the exponential of the singular values' entropy (Roy and
    Vetterli 2007).
    """
    wide_a = lora_a.astype(np.float64, copy=False)
    wide_b = lora_b.astype(np.float64, copy=False)
    gram_a, gram_b = wide_a @ wide_a.T, wide_b.T @ wide_b  # [rank, rank]
    values, vectors = np.linalg.eigh(gram_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    squares = np.clip(np.linalg.eigvalsh(root @ gram_b @ root), 0, None)
    singular = np.sqrt(squares)
    total = float(singular.sum())
    if total == 0.0:
        return ModuleReport(tensor, 0.0, 0.0)
    shares = singular[singular > 0] / total
    effective = float(np.exp(-(shares * np.log(shares)).sum()))
    return ModuleReport(tensor, abs(scaling) * float(np.sqrt(squares.sum())), effective)
