"""Read an adapter's file into host memory as it is; a kernel lays it out on the device."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safetensors import safe_open

from registry.adapters import AdapterSpec
from server.engine.arena import Blob
from server.engine.config import ModelConfig
from server.engine.request import AdapterRef
from server.residency.blob_layout import CONVERTED, BlobLayout, BlobLayouts
from server.residency.pinned import Extent, PinnedMemory
from server.residency.stored_file import StoredFile

MOST_READERS = 8


class BlobPacker:
    """Reads adapters for a device's arena. Called by the loader's threads.

    Its own threads, which share the reading of each file, end with it.
    """

    def __init__(self, memory: PinnedMemory) -> None:
        self._memory = memory
        self._layouts = BlobLayouts(pin=memory.pin)
        self._readers = ThreadPoolExecutor(
            min(MOST_READERS, os.cpu_count() or 1), thread_name_prefix="adapter-reader"
        )

    def __call__(
        self, adapter: AdapterRef, weights: Path, spec: AdapterSpec, config: ModelConfig
    ) -> Blob:
        """Read `adapter_model.safetensors`; ValueError if it is not what `spec` says."""
        with StoredFile(weights) as file:
            layout = self._layouts.find(file.header, spec, config)
            if layout.is_converted:
                extent = self._convert(weights, layout, spec)
            else:
                extent = self._memory.allocate(layout.num_bytes)
                file.read_data(memoryview(extent.data.numpy()), self._readers)  # type: ignore[arg-type]
        return Blob(
            digest=adapter.digest,
            label=adapter.label,
            rank=spec.max_rank,
            memory=extent,
            data=extent.data.view(layout.dtype),
            pieces=layout.pieces,
            table=layout.table,
            num_elements=layout.num_elements,
        )

    def _convert(self, weights: Path, layout: BlobLayout, spec: AdapterSpec) -> Extent:
        elements = sum(rows * columns for rows, columns in spec.tensors.values())
        extent = self._memory.allocate(CONVERTED.itemsize * elements)
        data = extent.data.view(CONVERTED)
        with safe_open(weights, framework="pt", device="cpu") as file:
            for name, start in layout.starts.items():
                tensor = file.get_tensor(name)
                data[start : start + tensor.numel()] = tensor.flatten().to(CONVERTED)
        return extent
