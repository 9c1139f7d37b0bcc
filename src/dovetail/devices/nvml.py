"""NVIDIA's graphics processors through its management library, NVML.

Names, arguments and units of the functions are those of the NVML API reference (https://docs.nvidia.com/deploy/nvml-api); the
package ``nvidia-ml-py`` hands them through. Power is in milliwatts, energy in millijoules, clocks in MHz. On Ampere and later
parts, GA100 left out, the power that is told is a mean over the last second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from dovetail.core.gpu import Gpu

_CLOCK_SM, _CLOCK_MEMORY, _TEMPERATURE_GPU = 1, 2, 0
"""``NVML_CLOCK_SM``, ``NVML_CLOCK_MEM`` and ``NVML_TEMPERATURE_GPU`` of nvml.h."""
_INSTALL = "NVML cannot be asked: pip install 'dovetail[gpu]'"


class Unanswered(Exception):
    """NVML does not answer a question: the part cannot, or may not."""


class Nvml(Protocol):
    """Asks the library."""

    def ask(self, function: str, gpu: int | None = None, *arguments: int) -> Any:
        """What a function of NVML returns, in NVML's own units.

        Args:
            function: its name.
            gpu: index of the part that it is asked about; ``None`` where it is about the system.
            arguments: behind the handle.

        Raises:
            Unanswered: it does not answer.
        """
        ...


class Library:
    """The library of the driver.

    Args:
        module: ``pynvml``, loaded and initialised.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def ask(self, function: str, gpu: int | None = None, *arguments: int) -> Any:
        """See :meth:`Nvml.ask`."""
        try:
            call = getattr(self._module, function)
            return call(*arguments) if gpu is None else call(self._module.nvmlDeviceGetHandleByIndex(gpu), *arguments)
        except (AttributeError, self._module.NVMLError) as error:
            raise Unanswered(str(error)) from error


def library() -> Nvml:
    """The library of this machine.

    Raises:
        Unanswered: the package or the driver is not there.
    """
    try:
        import pynvml
    except ImportError as error:
        raise Unanswered(_INSTALL) from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise Unanswered(f"NVML cannot be asked: {error}") from error
    return Library(pynvml)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The graphics processors; ``gpus`` is ``None`` when they cannot be told, and ``reason`` says why."""

    gpus: tuple[Gpu, ...] | None
    reason: str = ""


def graphics(open_: Callable[[], Nvml] = library) -> Found:
    """All of this machine's, as NVML tells them.

    Args:
        open_: gives the library.
    """
    try:
        nvml = open_()
        return Found(gpus=tuple(gpu(nvml, index) for index in range(int(nvml.ask("nvmlDeviceGetCount")))))
    except Unanswered as error:
        return Found(gpus=None, reason=str(error))


def gpu(nvml: Nvml, index: int) -> Gpu:
    """One of them.

    Raises:
        Unanswered: there is none of that index.
    """

    def known(function: str, *arguments: int) -> Any:
        return _or_none(nvml, function, index, *arguments)

    memory, capability = known("nvmlDeviceGetMemoryInfo"), known("nvmlDeviceGetCudaComputeCapability")
    generation, width = known("nvmlDeviceGetMaxPcieLinkGeneration"), known("nvmlDeviceGetMaxPcieLinkWidth")
    return Gpu(
        index=index,
        name=_text(nvml.ask("nvmlDeviceGetName", index)),
        uuid=_text(known("nvmlDeviceGetUUID")),
        driver=_text(_or_none(nvml, "nvmlSystemGetDriverVersion", None)),
        capability=".".join(map(str, capability or ())),
        memory_bytes=None if memory is None else float(memory.total),
        clock_hz=_scaled(known("nvmlDeviceGetMaxClockInfo", _CLOCK_SM), 1e6),
        memory_clock_hz=_scaled(known("nvmlDeviceGetMaxClockInfo", _CLOCK_MEMORY), 1e6),
        power_limit_w=_scaled(known("nvmlDeviceGetEnforcedPowerLimit"), 1e-3),
        link=f"PCIe {generation} ×{width}" if generation and width else "",
        power_w=power_w(nvml, index),
        temperature_c=_scaled(known("nvmlDeviceGetTemperature", _TEMPERATURE_GPU), 1.0),
    )


def power_w(nvml: Nvml, index: int) -> float | None:
    """Drawn now, in watts; ``None`` when not told."""
    return _scaled(_or_none(nvml, "nvmlDeviceGetPowerUsage", index), 1e-3)


def energy_j(nvml: Nvml, index: int) -> float | None:
    """Drawn since the driver was loaded, in joules; ``None`` when not told (before Volta it is not)."""
    return _scaled(_or_none(nvml, "nvmlDeviceGetTotalEnergyConsumption", index), 1e-3)


def clock_hz(nvml: Nvml, index: int) -> float | None:
    """Clock of the processors now; ``None`` when not told."""
    return _scaled(_or_none(nvml, "nvmlDeviceGetClockInfo", index, _CLOCK_SM), 1e6)


def _or_none(nvml: Nvml, function: str, index: int | None, *arguments: int) -> Any:
    try:
        return nvml.ask(function, index, *arguments)
    except Unanswered:
        return None


def _scaled(value: Any, scale: float) -> float | None:
    return None if value is None else float(value) * scale


def _text(value: Any) -> str:
    """Older packages return bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
