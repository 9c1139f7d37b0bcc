"""What kernels are counted as, and that their times are learned from others."""

import math
from dataclasses import replace

import numpy as np
import pytest
from probe_kernels import conv, network, relu, traces

from dovetail.core.profile import Kernel
from dovetail.core.source import Source, SourceKind
from dovetail.predict.call_model import CallModel, learn_calls
from dovetail.predict.kernel_model import KernelModel, label, learn_kernels
from dovetail.predict.kernel_work import logarithms, work

SOURCE = Source(kind=SourceKind.DERIVED, ref="made for a test")


@pytest.mark.parametrize(
    ("facts", "family", "flop", "k"),
    [
        (("Conv", ((1, 3, 32, 32), (16, 3, 3, 3), (16,)), (1, 16, 32, 32)), "conv", 884736, 27),
        (("CONV_2D", ((1, 32, 32, 3), (16, 3, 3, 3), (16,)), (1, 32, 32, 16)), "conv", 884736, 27),
        (("DEPTHWISE_CONV_2D", ((1, 8, 8, 24), (1, 3, 3, 24)), (1, 8, 8, 24)), "depthwise", 27648, 9),
        (("QLinearConv", ((1, 8, 8, 8), (), (), (16, 8, 1, 1), (16,), (16,)), (1, 16, 8, 8)), "conv", 16384, 8),
        (("Convolution", ((1, 8, 4, 4), (8, 1, 1, 3, 3)), (1, 8, 4, 4)), "depthwise", 2304, 9),
        (("FullyConnected", ((1, 64), (10, 64)), (1, 10)), "matmul", 1280, 64),
        (("MatMul", ((1, 4, 16, 8), (1, 4, 8, 32)), (1, 4, 16, 32)), "matmul", 32768, 8),
        (("LSTM", ((5, 1, 8), (1, 64, 8), (1, 64, 16)), (5, 1, 1, 16)), "recurrent", 15360, 8),
        (("Relu", ((1, 8),), (1, 8)), "move", 8, 1),
    ],
)
def test_work_is_counted_in_every_layout(facts, family, flop, k):
    kind, inputs, output = facts
    found = work(Kernel(name="", kind=kind, inputs=inputs, outputs=(output,)))
    assert found.family == family
    assert found.flop == pytest.approx(flop)
    assert found.k == pytest.approx(k)


def test_a_kernel_without_shapes_still_counts_as_something():
    assert work(Kernel(name="", kind="Mystery")).flop >= 0
    assert work(Kernel(name="", kind="Conv", inputs=((1, 3, 8, 8),), outputs=((1, 8, 8, 8),))).family == "move"


def model_of(kernels):
    works = [work(kernel) for kernel in kernels]
    labels = [label(*pair) for pair in zip(kernels, works, strict=True)]
    times = np.array([kernel.time_s for kernel in kernels])
    return KernelModel(learn_kernels(labels, logarithms(works), times, np.arange(len(kernels)) // 12))


def networks(count):
    rng = np.random.default_rng(1)
    return [kernel for _ in range(count) for kernel in network(rng)]


@pytest.fixture(scope="module")
def learned():
    return model_of(networks(20))


def costly(channels, size):
    """An element-wise kernel that takes twenty times as long as others do."""
    plain = relu(channels, size)
    return replace(plain, kind="LRN", time_s=20 * plain.time_s)


def test_a_costly_kind_that_few_networks_have_is_told_by_its_own_times():
    model = model_of([*networks(20), costly(64, 28), costly(32, 14), costly(16, 28)])
    unseen = [costly(96, 56), costly(8, 7), costly(64, 112)]
    found, _ = model.predict(unseen)
    assert np.abs(np.log(found / [kernel.time_s for kernel in unseen])).max() < math.log(1.5)


def test_a_product_that_also_activates_is_the_same_code(learned):
    plain = conv(48, 28, 1)
    assert learned.predict([replace(plain, kind="FusedConv")])[0] == learned.predict([plain])[0]


def test_times_of_shapes_that_were_not_measured(learned):
    unseen = [conv(24, 20), conv(48, 28, 1), conv(96, 14), relu(24, 40), conv(16, 112)]
    found, _ = learned.predict(unseen)
    truth = np.array([kernel.time_s for kernel in unseen])
    assert np.abs(np.log(found / truth)).max() < math.log(1.2)


def test_a_stranger_is_less_certain_than_a_neighbour(learned):
    stranger = Kernel(name="", kind="Mystery", dtype="int4", inputs=((1, 512, 64, 64),), outputs=((1, 512, 64, 64),))
    _, (near, far) = learned.predict([conv(32, 28), stranger])
    assert near < far


def test_no_kernels_take_no_time(learned):
    seconds, deviation = learned.predict([])
    assert seconds.size == deviation.size == 0


def test_calls_of_unseen_networks_lie_in_their_intervals():
    model = CallModel(learn_calls(traces(30))[0], SOURCE)
    unseen = traces(40, seed=9)
    errors, inside = [], 0
    for trace in unseen:
        found = model.predict(trace.kernels)
        errors.append(abs(found.latency_s.value / trace.call_s - 1))
        inside += found.latency_s.low <= trace.call_s <= found.latency_s.high
    assert np.median(errors) < 0.1
    assert inside >= 32  # of 40, at a nominal 90 %


def test_the_parts_of_a_call_add_up():
    model = CallModel(learn_calls(traces(20))[0], SOURCE)
    found = model.predict(traces(1, seed=5)[0].kernels)
    assert found.overhead_s > 0
    assert sum(found.kernels_s) + found.overhead_s == pytest.approx(found.latency_s.value)


def test_more_kernels_never_take_less():
    model = CallModel(learn_calls(traces(20))[0], SOURCE)
    kernels = traces(1, seed=5)[0].kernels
    times = [model.predict(kernels[:count]).latency_s.value for count in range(2, len(kernels) + 1, 2)]
    assert times == sorted(times)
