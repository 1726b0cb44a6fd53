"""NVIDIA GPUs, through nvidia-ml-py."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any


class Gpus:
    """The GPUs that this process may see. None where nvidia-ml-py or the driver is missing."""

    def __init__(self) -> None:
        """Starts NVIDIA's library; without a driver it is found missing at once."""
        self._handles: dict[int, Any] = {}
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._handles = _find(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
        except Exception:  # noqa: BLE001  # no library, driver, GPU or permission: each has its own error
            return

    def sample(self) -> dict[str, float]:
        """Such as gpu0/utilization_percent. A number that a GPU does not tell is left out."""
        found: dict[str, float] = {}
        for index, handle in self._handles.items():
            for read in _READERS:
                try:
                    found |= {f"gpu{index}/{name}": value for name, value in read(self._nvml, handle).items()}
                except Exception:  # noqa: BLE001, S112  # parts of GPUs and old ones lack some
                    continue
        return found


def _find(nvml: Any, visible: str | None) -> dict[int, Any]:
    """visible: numbers or UUIDs, separated by commas; None: all."""
    handles = {index: nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())}
    if visible is None:
        return handles
    chosen = {word.strip() for word in visible.split(",")}
    uuids = {index: _text(nvml.nvmlDeviceGetUUID(handle)) for index, handle in handles.items()}
    return {
        index: handle
        for index, handle in handles.items()
        # A UUID may be shortened.
        if any(word == str(index) or (len(word) > 4 and uuids[index].startswith(word)) for word in chosen)
    }


def _utilization(nvml: Any, handle: Any) -> Mapping[str, float]:
    return {"utilization_percent": nvml.nvmlDeviceGetUtilizationRates(handle).gpu}


def _memory(nvml: Any, handle: Any) -> Mapping[str, float]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {"memory_used_bytes": memory.used, "memory_percent": 100 * memory.used / memory.total}


def _temperature(nvml: Any, handle: Any) -> Mapping[str, float]:
    return {"temperature_celsius": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)}


def _power(nvml: Any, handle: Any) -> Mapping[str, float]:
    return {"power_watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000}


_READERS: tuple[Callable[[Any, Any], Mapping[str, float]], ...] = (_utilization, _memory, _temperature, _power)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
