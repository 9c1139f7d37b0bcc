"""The fitted models of edge accelerators: laws they keep, and published rows as literals with their source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dovetail.predict.edge.additive import Additive
from dovetail.predict.edge.dpu import Dpu, DpuModel, Run, configuration
from dovetail.predict.edge.mcu import Mcu, McuModel, core
from dovetail.predict.edge.network import Network
from dovetail.predict.edge.npu import Chip, NpuModel
from dovetail.predict.fitted_file import parameters

PLAIN = {"depthwise": 0, "attention": 0, "dense": 0}
RESNET50 = Network(flop=7.76e9, pixels=224 * 224, params=25.6e6, layers=54, tags=PLAIN | {"resnet": 1})
VGG19 = Network(flop=39.28e9, pixels=224 * 224, params=143.7e6, layers=19, tags=PLAIN | {"vgg": 1})
MOBILENET = Network(flop=1.14e9, pixels=224 * 224, params=4.2e6, layers=28, tags=PLAIN | {"depthwise": 1})
SWIN = Network(flop=17.6e9, pixels=224 * 224, params=50e6, layers=180, tags=PLAIN | {"attention": 1, "window": 1})

HAILO8 = Chip(name="HAILO8", peak_flop_per_s=26e12, dram=False)
HAILO15H = Chip(name="HAILO15H", peak_flop_per_s=20e12, dram=True)


def board(name: str, text: str) -> Dpu:
    found = configuration(name, text)
    assert found is not None
    return found


ZCU102 = board("ZCU102", "ZCU102 (0432055-05) board with a 3 * B4096  @ 281MHz DPU configuration")
U55C = board("U55C", "Alveo U55C board with 11 DPUCAHX8H-DWC kernels running at 300Mhz in Gen3x4")


@pytest.mark.parametrize(
    ("network", "dpu", "multi", "fps"),
    [
        # Xilinx/Vitis-AI model_zoo/README.md (Vitis AI 2.5), frames a second end to end.
        (RESNET50, ZCU102, False, 87.33),
        (RESNET50, ZCU102, True, 192.94),
        (RESNET50, U55C, True, 1174.21),
        (VGG19, ZCU102, False, 17.37),
        (MOBILENET, ZCU102, True, 951.0),
    ],
)
def test_published_boards(network: Network, dpu: Dpu, multi: bool, fps: float) -> None:
    found = DpuModel(parameters("vitis_2_5")).predict([network], [Run(dpu=dpu, multi=multi)])
    assert found.low[0] < 1 / fps < found.high[0] and 0.6 < found.seconds[0] * fps < 1.7


@pytest.mark.parametrize(
    ("network", "chip", "fps"),
    [
        # hailo-ai/hailo_model_zoo docs/public_models: mobilenet_v1 and swin_small, batch 1 and 8.
        (MOBILENET, HAILO8, 3305.0),
        (SWIN, HAILO8, 16.0),
        (SWIN, replace(HAILO8, batch=8), 51.0),
        (SWIN, HAILO15H, 22.8),
    ],
)
def test_published_chips(network: Network, chip: Chip, fps: float) -> None:
    found = NpuModel(parameters("hailo")).predict([network], [chip])
    assert found.low[0] < 1 / fps < found.high[0]


def test_published_microcontrollers() -> None:
    # mlcommons/tiny_results_v1.2 closed/STMicroelectronics NUCLEO_H7A3ZI_Q, image classification: 40.84 ms, 5,090 µJ.
    network = Network(flop=2.5e7, params=7.8e4, tags={"depthwise": 0.0, "vectors": 0.0})
    part = Mcu(core=core("32-Bit ARM Cortex-M7"), clock_hz=280e6, library="X-CUBE-AI")
    model = McuModel(parameters("tiny"))
    found, joules = model.predict([network], [part]), model.energy([network], [part])
    assert found.low[0] < 0.04084 < found.high[0] and 0.7 < found.seconds[0] / 0.04084 < 1.4
    assert joules.low[0] < 5.09e-3 < joules.high[0]


def test_more_work_never_takes_a_board_less_time() -> None:
    model = DpuModel(parameters("vitis_2_5"))
    runs = [Run(dpu=dpu, multi=multi) for dpu in (ZCU102, U55C) for multi in (False, True)]
    for name in ("flop", "pixels", "params", "layers"):
        for run in runs:
            grown = [replace(RESNET50, **{name: getattr(RESNET50, name) * factor}) for factor in (1, 2, 5, 20)]
            times = model.predict(grown, [run] * 4).seconds
            assert (np.diff(times) >= 0).all(), (name, run)


def test_several_threads_and_greater_batches_raise_the_rate() -> None:
    dpus = DpuModel(parameters("vitis_2_5")).predict([RESNET50] * 2, [Run(dpu=ZCU102, multi=multi) for multi in (False, True)])
    assert dpus.seconds[1] < dpus.seconds[0]
    chips = [replace(HAILO8, batch=batch) for batch in (1, 2, 8, 32)]
    found = NpuModel(parameters("hailo")).predict([SWIN] * 4, chips)
    assert (np.diff(found.seconds) < 0).all()


def test_small_networks_stay_on_the_chip_and_large_ones_take_turns() -> None:
    model = NpuModel(parameters("hailo"))
    chance = model.chance([MOBILENET, SWIN], [HAILO8, HAILO8])
    assert chance[0] > 0.8 and chance[1] < 0.2
    shares = model.predict([SWIN], [HAILO8]).shares
    assert shares["swapped params"][0] + shares["swapped layers"][0] > 0.5
    assert sum(float(values[0]) for values in shares.values()) == pytest.approx(1)


def test_sizes_alone_are_enough_at_the_price_of_a_wider_interval() -> None:
    bare = Network(flop=RESNET50.flop, pixels=RESNET50.pixels)
    for model, place in (
        (DpuModel(parameters("vitis_2_5")), Run(dpu=ZCU102, multi=True)),
        (NpuModel(parameters("hailo")), HAILO8),
    ):
        known, unknown = (model.predict([network], [place]) for network in (RESNET50, bare))  # type: ignore[list-item]
        assert unknown.high[0] / unknown.low[0] > known.high[0] / known.low[0] and unknown.seconds[0] > 0
    assert DpuModel(parameters("vitis_2_5")).predict([Network(flop=1e9)], [Run(dpu=ZCU102, multi=True)]).seconds[0] > 0


def test_a_device_that_was_not_fitted_is_told_with_a_wider_interval() -> None:
    model = NpuModel(parameters("hailo"))
    unseen = replace(HAILO15H, name="HAILO15M", peak_flop_per_s=11e12)
    known, new = (model.predict([MOBILENET], [chip]) for chip in (HAILO15H, unseen))
    assert new.seconds[0] > known.seconds[0] and new.high[0] / new.low[0] > 0.999 * known.high[0] / known.low[0]


def test_no_frame_takes_less_than_its_operations_at_peak() -> None:
    monster = replace(RESNET50, flop=1e15)
    found = DpuModel(parameters("vitis_2_5")).predict([monster], [Run(dpu=ZCU102, multi=True)])
    assert found.low[0] >= 1e15 / ZCU102.peak_flop_per_s


@pytest.mark.parametrize(
    ("text", "kernels", "peak"),
    [
        ("3 * B4096  @ 281MHz", 3, 3 * 4096 * 281e6),
        ("1 * B1600  @ 287MHz   V1.4.0", 1, 1600 * 287e6),
        ("Versal board with 192 AIEs running at 1250 MHz", 1, 192 * 256 * 1.25e9),
        ("10 DPUCAHX8H kernels running at 275Mhz in Gen3x4", 10, 10 * 4096 * 275e6),
        ("DPUCVDX8H-aieDWC running at 6PE@350", 6, 6e13),
        ("C20B14CU1@300MHz", 1, 280 * 512 * 1.2e9),
    ],
)
def test_configurations_are_read(text: str, kernels: int, peak: float) -> None:
    found = board("a board", text)
    assert found.kernels == kernels and found.peak_flop_per_s == pytest.approx(peak, rel=1e-3)


def test_a_configuration_that_is_written_otherwise_is_not_guessed() -> None:
    assert configuration("a board", "a DPU, quite fast") is None


def test_parameters_survive_their_file() -> None:
    for name, key in (("hailo", "whole"), ("vitis_zoo", "times"), ("tiny", "power")):
        found = Additive.of_json(parameters(name)[key])
        assert found.to_json() == Additive.of_json(found.to_json()).to_json()
