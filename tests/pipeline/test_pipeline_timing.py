"""What is timed, and which sizes a model may be bound to."""

import numpy as np
import pytest

from dovetail.core.errors import InputError
from dovetail.core.protocols import TensorSpec
from dovetail.data.dataset import StoredDataset, write_split
from dovetail.data.job import FitJob
from dovetail.pipeline.timing import TIMING_SAMPLES, made_again, made_up, on_samples

IDS = TensorSpec(name="ids", dtype="int64", shape=("batch", "tokens"))
MASK = TensorSpec(name="mask", dtype="float32", shape=("batch", "tokens"))
IMAGE = TensorSpec(name="image", dtype="float32", shape=(None, 3, None, None))


@pytest.fixture
def invented(tmp_path):
    """Timing without data, with what the job file says under ``inputs:``."""

    def make(*inputs, batch=1, **declared):
        plans = FitJob.model_validate({"inputs": declared}).request(inputs).inputs
        return made_up(inputs, plans, tmp_path, seed=0, batch=batch)

    return make


def samples(folder, lengths) -> StoredDataset:
    rows = [({"ids": np.zeros((1, n), np.int64)}, i, None) for i, n in enumerate(lengths)]
    return write_split(folder / "data", rows, [IDS])


# -- no data -------------------------------------------------------------------------------------------------------------


def test_sizes_that_were_made_up_bind_nothing(invented):
    timing = invented(IDS, MASK)
    assert timing.calls == ({"ids": (1, 128), "mask": (1, 128)},)
    assert timing.assumed == {"tokens": 128}
    assert timing.free_dims((IDS, MASK)) == {}
    assert timing.data.sample(0).feeds["ids"].max() <= 1


def test_images_are_large_enough_for_networks_that_halve_them_five_times(invented):
    timing = invented(IMAGE)
    assert timing.calls == ({"image": (1, 3, 224, 224)},)
    assert timing.assumed == {"image:2": 224, "image:3": 224}


def test_the_leading_axis_is_the_batch_of_the_user(invented):
    vector = TensorSpec(name="x", dtype="float32", shape=("N", 4))
    timing = invented(vector, batch=8)
    assert timing.assumed == {}
    assert timing.calls == ({"x": (8, 4)},)
    assert timing.free_dims((vector,)) == {"N": 8}
    assert timing.data.sample(0).feeds["x"].shape == (1, 4)


def test_declared_shapes_are_known_also_where_inputs_share_them(invented):
    timing = invented(IDS, MASK, ids={"shape": ["batch", 64]})
    assert timing.assumed == {}
    assert timing.free_dims((IDS, MASK)) == {"batch": 1, "tokens": 64}


def test_a_declared_value_is_fed_as_it_is(invented):
    rate = TensorSpec(name="rate", dtype="int64", shape=(1,))
    timing = invented(IMAGE, rate, rate={"value": 16000}, image={"shape": [None, 3, 8, 8]})
    assert timing.data.sample(3).feeds["rate"].tolist() == [16000]
    assert timing.free_dims((IMAGE, rate)) == {"image:0": 1, "image:2": 8, "image:3": 8}
    with pytest.raises(InputError, match=r"inputs.rate.value: a value of shape \[2, 2\]"):
        invented(IMAGE, rate, rate={"value": [[1, 2], [3, 4]]})


# -- data ----------------------------------------------------------------------------------------------------------------


def test_samples_of_one_shape_tell_all_sizes(tmp_path):
    timing = on_samples(samples(tmp_path, [12] * 40), 1)
    assert len(timing.indices) == TIMING_SAMPLES
    assert timing.free_dims((IDS,)) == {"batch": 1, "tokens": 12}
    batched = on_samples(timing.data, 4)
    assert batched.free_dims((IDS,)) == {"batch": 4, "tokens": 12}
    assert batched.calls == ({"ids": (4, 12)},)


@pytest.mark.parametrize("count", [3, 10, 500])
def test_one_sample_of_another_shape_is_enough(tmp_path, count):
    timing = on_samples(samples(tmp_path, [12] * (count - 1) + [7]), 1)
    assert timing.free_dims((IDS,)) == {}
    assert len(set(timing.indices)) == len(timing.indices) == min(count, 32)


def test_samples_of_several_shapes_form_no_batch(tmp_path):
    with pytest.raises(InputError, match="samples cannot form a batch of 2"):
        on_samples(samples(tmp_path, [12, 7]), 2)


# -- again ---------------------------------------------------------------------------------------------------------------


def test_shapes_of_earlier_calls_are_made_again(tmp_path):
    plans = FitJob().request((IDS, MASK)).inputs
    calls = ({"ids": (4, 12)}, {"ids": (4, 7)})
    timing = made_again(plans, calls, tmp_path, seed=0)
    shapes = [timing.data.sample(i).feeds["ids"].shape for i in timing.indices]
    assert shapes == [(4, 12), (4, 7)] * (TIMING_SAMPLES // 2)
    assert timing.data.sample(0).feeds.keys() == {"ids"}  # the other was state in the fit, which starts at zero
