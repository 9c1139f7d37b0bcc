"""The fitted models of edge accelerators, asked for devices of the catalogue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from dovetail.core.device import Device, Kind
from dovetail.core.prediction import Binds
from dovetail.predict.edge.dpu import Dpu, DpuModel, Run, configuration
from dovetail.predict.edge.mcu import Mcu, McuModel, core
from dovetail.predict.edge.npu import Chip, NpuModel
from dovetail.predict.edge.timed import Timed
from dovetail.predict.fitted_file import parameters, source
from dovetail.predict.op_table import OpTable
from dovetail.predict.setting import Band, Declined, Setting, Told

_LIMITS = {
    "call": Binds.OVERHEAD,
    "layers": Binds.OVERHEAD,
    "flop": Binds.COMPUTE,
    "params": Binds.BANDWIDTH,
    "pixels": Binds.INPUT,
    "dense pixels": Binds.LINK,
    "swapped params": Binds.MEMORY,
    "swapped layers": Binds.MEMORY,
    "swapped pixels": Binds.MEMORY,
}

_BOARDS = {
    "ZCU102": ("ZCU102", "3 * B4096  @ 281MHz", "vitis_2_5"),
    "ZCU104": ("ZCU104", "2 * B4096  @ 300MHz", "vitis_2_5"),
    "KV260": ("KV260", "1 * B4096F  @ 300MHz", "vitis_2_5"),
    "Ultra96": ("Ultra96", "1 * B1600  @ 287MHz", "vitis_2_5"),
    "VCK190": ("VCK190", "192 AIEs running at 1250 MHz", "vitis_2_5"),
    "VCK5000": ("VCK5000", "DPUCVDX8H running at 8PE@350", "vitis_2_5"),
    "U50LV": ("U50lv", "8 DPUCAHX8H-DWC kernels running at 275Mhz", "vitis_2_5"),
    "U55C": ("U55C", "11 DPUCAHX8H-DWC kernels running at 300Mhz", "vitis_2_5"),
    "U200": ("U200", "2 DPUCADX8G kernels running at 350Mhz", "vitis_2_5"),
    "U250": ("U250", "4 DPUCADX8G kernels running at 350Mhz", "vitis_2_5"),
    "VEK280": ("VEK280", "C20B14CU1@300MHz", "vitis_zoo"),
    "V70": ("Alveo V70", "C20B14CU1@250MHz", "vitis_zoo"),
}
"""Word in a device's name → board, its usual configuration and the set that it was measured in."""
_ONE_THREAD = frozenset({"DPUCZDX8G", "DPUCVDX8G", "DPUCADX8G"})
"""Cores that were measured with one thread too, which tells the latency."""
_TINY = "microcontrollers of MLPerf Tiny"
_MCU_TYPES = ("int8", "fp32")
_STATED = r"(\d+) ?MHz"
_NO_TYPE = Declined(model=_TINY, reason="it was fitted to int8 and fp32")
_FLOATS = Declined(model="the model of its zoo", reason="it was fitted to int8")


def _band(timed: Timed, i: int, factor: float = 1.0) -> Band:
    return Band(value=factor * float(timed.seconds[i]), low=factor * float(timed.low[i]), high=factor * float(timed.high[i]))


def _greatest(timed: Timed, i: int) -> Binds:
    """The limit that most of the time is spent on."""
    total: dict[Binds, float] = {}
    for term, shares in timed.shares.items():
        total[_LIMITS[term]] = total.get(_LIMITS[term], 0.0) + float(shares[i])
    return max(total, key=lambda limit: total[limit])


def _int8(setting: Setting) -> bool:
    """Whether a device that computes in int8 alone can do what is asked."""
    return setting.precision in (None, "int8")


@cache
def _dpu(name: str) -> DpuModel:
    return DpuModel(parameters(name))


@cache
def _npu() -> NpuModel:
    return NpuModel(parameters("hailo"))


@cache
def _mcu() -> McuModel:
    return McuModel(parameters("tiny"))


class Dpus:
    """Boards with Vitis AI's processor in their logic."""

    def knows(self, device: Device) -> bool:
        """Whether a board of that name was measured."""
        return device.kind is Kind.FPGA and _board(device.name) is not None

    def tell(self, table: OpTable, devices: Sequence[Device], setting: Setting) -> Sequence[Told | Declined]:
        """Rates with several threads; latency with one, where that was measured."""
        told: list[Told | Declined] = [_FLOATS] * len(devices)
        boards = [_board(device.name) for device in devices]
        for name in {board[1] for board in boards if board and _int8(setting)}:
            places = [i for i, board in enumerate(boards) if board and board[1] == name]
            dpus = [board[0] for board in boards if board and board[1] == name]
            runs = [Run(dpu=dpu, multi=multi) for multi in (True, False) for dpu in dpus]
            found = _dpu(name).predict([table.network] * len(runs), runs)
            for k, (i, dpu) in enumerate(zip(places, dpus, strict=True)):
                told[i] = _dpu_told(found, k, len(dpus) + k, dpu, name, setting)
        return told


def _dpu_told(found: Timed, many: int, one: int, dpu: Dpu, fitted: str, setting: Setting) -> Told:
    alone = dpu.core in _ONE_THREAD or dpu.board == "VEK280"
    return Told(
        precision="int8",
        seconds=_band(found, many),
        latency_s=_band(found, one, setting.batch) if alone else None,
        binds=_greatest(found, many),
        source=source(fitted),
        model="boards of the Vitis AI model zoo",
        note=f"as {dpu.name}, end to end with the host's work" + ("" if alone else "; only rates were published"),
    )


@cache
def _board(name: str) -> tuple[Dpu, str] | None:
    """Configuration and set of the board that a device's name holds."""
    for word, (board, text, fitted) in _BOARDS.items():
        if word in name and (dpu := configuration(board, text)):
            return dpu, fitted
    return None


class DataflowChips:
    """Hailo's chips."""

    def knows(self, device: Device) -> bool:
        """Whether it is one, with a peak."""
        return device.vendor == "Hailo" and "int8" in device.peak_flop_per_s

    def tell(self, table: OpTable, devices: Sequence[Device], setting: Setting) -> Sequence[Told | Declined]:
        """Rates at the batch; latency where the network is swapped, as frames do not overlap then."""
        if not _int8(setting):
            return [_FLOATS] * len(devices)
        chips = [_chip(device, setting.batch) for device in devices]
        found = _npu().predict([table.network] * len(chips), chips)
        chances = _npu().chance([table.network] * len(chips), chips)
        most, params = _npu().parameters["most_params"], table.network.params or 0.0
        small = [params <= most[chip.family] for chip in chips]
        return [_chip_told(found, i, float(chance), setting, small[i]) for i, chance in enumerate(chances)]


def _chip(device: Device, batch: int) -> Chip:
    return Chip(
        name=re.sub(r"[^A-Z0-9]", "", device.name.upper()),
        peak_flop_per_s=device.peak_flop_per_s["int8"].value,
        dram=bool(device.memory) and device.memory[0].name == "DRAM",
        batch=batch,
    )


def _chip_told(found: Timed, i: int, chance: float, setting: Setting, small: bool) -> Told:
    whole = chance >= 0.5
    overlap = "; frames overlap, and the time of a single one was not published" if whole else ""
    beyond = "" if small else "; it has more weights than any network that was measured on such a chip"
    return Told(
        precision="int8",
        seconds=_band(found, i),
        latency_s=None if whole else _band(found, i, setting.batch),
        binds=_greatest(found, i),
        source=source("hailo"),
        model="chips of the Hailo model zoo",
        streams=small,
        note=f"fits on the chip as a whole with a chance of {chance:.0%}, else in parts that take turns{overlap}{beyond}",
    )


class Microcontrollers:
    """Parts that MLPerf Tiny measured, and their like."""

    def knows(self, device: Device) -> bool:
        """Whether it is one whose clock is told by its name or its peak."""
        return device.kind is Kind.MCU and _clock_hz(device) is not None

    def tell(self, table: OpTable, devices: Sequence[Device], setting: Setting) -> Sequence[Told | Declined]:
        """Time and energy of one inference."""
        precision = setting.precision or "int8"
        if precision not in _MCU_TYPES:
            return [_NO_TYPE] * len(devices)
        parts = [_part(device, precision) for device in devices]
        networks = [table.network] * len(parts)
        found, joules, powered = _mcu().predict(networks, parts), _mcu().energy(networks, parts), _mcu().power.conditions
        return [
            Told(
                precision=precision,
                seconds=_band(found, i),
                latency_s=_band(found, i, setting.batch),
                binds=_greatest(found, i),
                source=source("tiny"),
                model=_TINY,
                energy_j=_band(joules, i) if part.core in powered else None,
                note=_clock_note(devices[i], part),
            )
            for i, part in enumerate(parts)
        ]


def _part(device: Device, precision: str) -> Mcu:
    return Mcu(
        core=core(device.name),
        clock_hz=_clock_hz(device) or 1e8,
        floats=precision == "fp32",
        library="X-CUBE-AI" if "x-cube-ai" in device.software else None,
    )


def _clock_note(device: Device, part: Mcu) -> str:
    """What is assumed of its clock; empty where its name states it."""
    if re.search(_STATED, device.name):
        return ""
    return f"its clock is not stated: taken as {part.clock_hz / 1e6:.0f} MHz, one multiply-add a cycle at its peak (assumed)"


def _clock_hz(device: Device) -> float | None:
    """From its name, or one multiply-add a cycle."""
    if found := re.search(_STATED, device.name):
        return float(found[1]) * 1e6
    peak = device.peak_flop_per_s.get("int8")
    return peak.value / 2 if peak else None
