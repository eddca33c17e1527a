"""What the kernels must know of a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch

BESIDE = 22 * 1024  # bytes of a multiprocessor's shared memory that products leave to others


@dataclass(frozen=True)
class Gpu:
    """Compute capability, multiprocessors, and the shared memory a block may ask for, in bytes."""

    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int

    @classmethod
    def of(cls, device: torch.device) -> Gpu:
        properties = torch.cuda.get_device_properties(device)
        return cls(
            capability=(properties.major, properties.minor),
            multiprocessors=properties.multi_processor_count,
            shared_bytes=properties.shared_memory_per_block_optin,  # type: ignore[attr-defined]
        )

    @property
    def arch(self) -> str:
        """The compiler's name for it. Hopper's own instructions need the `a`."""
        major, minor = self.capability
        return f"sm_{major}{minor}" + ("a" if self.has_wgmma else "")

    @property
    def has_wgmma(self) -> bool:
        return self.capability == (9, 0)

    @property
    def product_bytes(self) -> int:
        """Shared memory that a product asks for.

        On Hopper it leaves room for the step's small kernels: those after it are placed while it
        runs, and it is placed while those before it run.
        """
        return self.shared_bytes - BESIDE if self.has_wgmma else self.shared_bytes

    @property
    def overlaps_launches(self) -> bool:
        """Whether a kernel may begin while the one before it ends."""
        return self.capability >= (9, 0)
