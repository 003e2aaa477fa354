"""How busy the device is while a block runs."""

import os
import threading
import time
from contextlib import suppress
from typing import Any

import torch

SECONDS_BETWEEN_SAMPLES = 0.05


class Utilization:
    """Measures during a ``with`` block; ``share`` holds the result afterwards.

    On a GPU, the share of time in which any kernel ran, as NVML reports it (what nvidia-smi shows). On a CPU, this
    process's processor time over the time that its threads could have used.

    Args:
        device: that this process computes on.
    """

    def __init__(self, device: torch.device):
        self.share: float | None = None
        """0 to 1; None where it cannot be measured."""
        self._device, self._samples = device, list[float]()
        self._ended = threading.Event()
        self._handle: Any = None

    def __enter__(self) -> "Utilization":
        self._began, self._busy = time.perf_counter(), time.process_time()
        if self._device.type == "cuda":
            with suppress(Exception):  # no driver library, or no permission: not measured
                import pynvml

                pynvml.nvmlInit()
                # By its UUID: NVML ignores CUDA_VISIBLE_DEVICES.
                uuid = torch.cuda.get_device_properties(self._device).uuid
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
                self._thread = threading.Thread(target=self._sample, daemon=True)
                self._thread.start()
        return self

    def _sample(self) -> None:
        import pynvml

        with suppress(Exception):
            while not self._ended.wait(SECONDS_BETWEEN_SAMPLES):
                self._samples.append(pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100)

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cpu":
            seconds = time.perf_counter() - self._began
            threads = min(torch.get_num_threads(), os.cpu_count() or 1)
            self.share = min(1.0, (time.process_time() - self._busy) / (seconds * threads))
        elif self._handle is not None:
            self._ended.set()
            self._thread.join()
            self.share = sum(self._samples) / len(self._samples) if self._samples else None
