"""The loop over a torch module: learning, averages, time, faults, and going on after a kill."""

import dataclasses
import functools
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dovetail.core.errors import InputError, ModelError

torch = pytest.importorskip("torch")

import loop_samples  # noqa: E402
from loop_samples import accuracy, held_out, network, trained, weights  # noqa: E402

from dovetail.core.training import Schedule  # noqa: E402
from dovetail.train import loop, optimizers, pace  # noqa: E402
from dovetail.train.checkpoint import Checkpoints  # noqa: E402
from dovetail.train.ema import Ema  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", [{}, {"optimizer": "adamw", "learning_rate": 0.01, "curve": "one_cycle", "clip": 1.0}])
def test_it_learns_digits(kind):
    net, result = trained(judge=held_out, epochs=6, ema=0.95, **kind)
    assert accuracy(net) > 0.95
    assert [row.step for row in result.history] == [24 * (i + 1) for i in range(6)]
    assert result.history[-1].loss < result.history[0].loss / 3
    assert result.score == max(row.score for row in result.history)
    assert result.samples_per_s > 0 and not net.training


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, _ = trained(epochs=1)
    again, _ = trained(epochs=1)
    other, _ = trained(epochs=1, seed=1)
    assert same(weights(first), weights(again)) and not same(weights(first), weights(other))


def test_a_fraction_of_an_epoch_is_a_training_too():
    _, result = trained(epochs=0.5)
    assert [row.step for row in result.history] == [12]


def test_accumulated_batches_make_the_step_of_a_large_one():
    small, large = torch.nn.Linear(64, 10), torch.nn.Linear(64, 10)
    large.load_state_dict(small.state_dict())
    for net, batch, accumulate in ((small, 20, 3), (large, 60, 1)):

        def loss(batch, net=net):
            return torch.nn.functional.cross_entropy(net(batch.feeds["x"].flatten(1)), batch.labels)

        _, result = trained(net, loss=loss, batch=batch, accumulate=accumulate, epochs=1)
        assert len(result.history) == 1 and result.history[0].step == 20
    assert torch.allclose(small.weight, large.weight, atol=1e-5)


def test_biases_norms_and_scales_are_not_decayed():
    net = network()
    optimizer = optimizers.build(list(net.parameters()), Schedule(weight_decay=0.1))
    decays = {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {(16, 1, 3, 3): 0.1, (10, 256): 0.1, (16,): 0.0, (10,): 0.0}


def test_the_average_is_that_of_its_recurrence():
    net = torch.nn.BatchNorm1d(2)
    ema = Ema(net, 0.9)
    expected = {"weight": torch.ones(2), "running_mean": torch.zeros(2)}
    for step in range(30):
        with torch.no_grad():
            net.weight.fill_(step)
            net.running_mean.fill_(-step)
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in (("weight", float(step)), ("running_mean", -float(step))):
            expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in expected.items():
        assert torch.allclose(ema.average[name], value, atol=1e-4)
    with ema.swapped():
        assert torch.allclose(net.weight, expected["weight"], atol=1e-4)
    assert net.weight.tolist() == [29, 29]


def test_masks_with_infinities_are_no_statistics():
    net = torch.nn.Linear(2, 2)
    net.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    ema = Ema(net, 0.9)
    ema.update(0)
    assert "mask" not in ema.average and "weight" in ema.average


def test_weights_that_are_zero_stay_zero_where_asked():
    net = network()
    with torch.no_grad():
        net[0].weight[::2] = 0
    trained(net, epochs=1, keep_zeros=True, ema=0.9)
    assert (net[0].weight[::2] == 0).all() and (net[0].weight[1::2] != 0).all()


def test_it_stops_early_and_keeps_the_best():
    scores = iter([0.5, 0.7, 0.6, 0.65, 0.6, 0.9, 0.9])
    at_best = {}

    def judge(net):
        def score():
            value = next(scores)
            if value == 0.7:
                at_best.update(weights(net))
            return value

        return loop.Judge(name="accuracy", score=score, higher_is_better=True)

    net, result = trained(judge=judge, epochs=7, patience=3)
    assert len(result.history) == 5 and result.score == 0.7
    assert "stopped after epoch 5" in result.notes[-1]
    assert same(weights(net), at_best)


def test_the_last_weights_are_kept_where_asked():
    scores = iter([0.9, 0.1])
    net, result = trained(
        judge=lambda net: loop.Judge(name="accuracy", score=lambda: next(scores), higher_is_better=True), epochs=2, keep="last"
    )
    assert result.score == 0.1
    plain, _ = trained(epochs=2)
    assert same(weights(net), weights(plain))


def failing(net, at, value=math.nan):
    """A loss that is not finite at one step."""
    calls = []

    def loss(batch):
        calls.append(1)
        y = torch.nn.functional.cross_entropy(net(batch.feeds["x"]), batch.labels)
        return y * value if len(calls) == at else y

    return loss


def test_nan_after_an_epoch_keeps_the_best_weights(tmp_path):
    good, _ = trained(epochs=2, curve="constant", warmup=0.0)
    net, steady = network(), {"curve": "constant", "warmup": 0.0}
    _, result = trained(net, loss=failing(net, 55), checkpoints=Checkpoints(tmp_path, "x"), **steady)
    assert same(weights(net), weights(good))
    assert result.notes == ("the loss became nan at step 55 of 96; the weights after epoch 2 are kept",)
    again = network()
    _, resumed = trained(again, **steady, checkpoints=Checkpoints(tmp_path, "x"))
    assert same(weights(again), weights(good)) and resumed.notes == result.notes


def test_nan_weights_are_noticed_where_loss_and_score_stay_finite():
    """As rounding to 8 bits lets them."""
    good, _ = trained(epochs=2, curve="constant", warmup=0.0)
    net, calls = network(), []

    def loss(batch):
        calls.append(1)
        if len(calls) == 55:
            with torch.no_grad():
                net[-1].weight[0, 0] = math.nan
        return torch.nn.functional.cross_entropy(net(batch.feeds["x"]).nan_to_num(), batch.labels)

    rising = iter(range(9))
    _, result = trained(
        net, loss=loss, curve="constant", warmup=0.0,
        judge=lambda net: loop.Judge(name="accuracy", score=lambda: float(next(rising)), higher_is_better=True),
    )  # fmt: skip
    assert same(weights(net), weights(good)) and len(result.history) == 2
    assert "the weights gave nan after step 72 of 96; the weights after epoch 2 are kept" in result.notes


def test_nan_before_an_epoch_is_an_error_that_names_the_learning_rate():
    net = network()
    with pytest.raises(ModelError, match=r"loss became inf at step 3 of 96, before one epoch(.|\n)*lower the learning rate"):
        trained(net, loss=failing(net, 3, math.inf))


def test_a_model_without_weights_is_refused():
    with pytest.raises(ModelError, match="no weights to train"):
        trained(torch.nn.ReLU())


def test_more_batches_to_a_step_than_an_epoch_has_are_refused():
    with pytest.raises(InputError, match="24 batches, and 30 make one step"):
        trained(accumulate=30)


class Stopped(Exception):
    pass


def interrupted(folder, at, **changes):
    """A training that is stopped at its step ``at``, then goes on; its network and result."""
    net = network()
    count = [0]

    def loss(batch):
        count[0] += 1
        if count[0] == at:
            raise Stopped
        return torch.nn.functional.cross_entropy(net(batch.feeds["x"]).float(), batch.labels)

    with pytest.raises(Stopped):
        trained(net, loss=loss, checkpoints=Checkpoints(folder, "same", every_s=0.0), **changes)
    return trained(network(seed=9), checkpoints=Checkpoints(folder, "same", every_s=0.0), **changes)


SETTINGS = {
    "sgd": {"ema": 0.9},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01, "accumulate": 2},
    "bfloat16": {"judge": held_out, "precision": "bfloat16"},
}


@functools.cache
def unbroken(settings):
    net, result = trained(epochs=2, **SETTINGS[settings])
    return weights(net), result


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("at", [1, 25, 40])
def test_a_stopped_training_goes_on_to_bitwise_the_same_weights(tmp_path, at, settings):
    expected, whole = unbroken(settings)
    resumed, rest = interrupted(tmp_path, at, epochs=2, **SETTINGS[settings])
    assert same(expected, weights(resumed))
    shown = [[dataclasses.replace(row, seconds=0) for row in result.history] for result in (whole, rest)]
    assert shown[0] == shown[1]


def test_a_stopped_training_with_augmentation_goes_on_the_same(tmp_path):
    from dovetail.train.augment import RECIPES, Augment, measure_ranges

    ranges = measure_ranges(loop_samples.DATA, loop_samples.np.arange(100), "x", "NCHW")
    augment = Augment(RECIPES["strong_shifts"], ranges, input="x")
    whole, _ = trained(epochs=1, augment=augment)
    resumed, _ = interrupted(tmp_path, 11, epochs=1, augment=augment)
    assert same(weights(whole), weights(resumed))


def test_an_exception_of_the_progress_callback_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_PROGRESS_S", 0.0)

    def stop(fraction, text):
        if fraction > 0.4:
            raise Stopped

    with pytest.raises(Stopped):
        trained(checkpoints=Checkpoints(tmp_path, "same", every_s=0.0), progress=stop)
    resumed, _ = trained(network(seed=5), checkpoints=Checkpoints(tmp_path, "same"))
    assert same(weights(resumed), weights(trained()[0]))


def test_a_finished_training_is_not_repeated(tmp_path):
    first, result = trained(checkpoints=Checkpoints(tmp_path, "same"))
    again, repeated = trained(network(seed=3), loss=lambda batch: 1 / 0, checkpoints=Checkpoints(tmp_path, "same"))
    assert same(weights(first), weights(again)) and repeated.history == result.history


def test_a_checkpoint_of_another_training_is_not_taken(tmp_path):
    trained(epochs=1, checkpoints=Checkpoints(tmp_path, "one"))
    net, _ = trained(epochs=1, seed=4, checkpoints=Checkpoints(tmp_path, "two"))
    assert same(weights(net), weights(trained(epochs=1, seed=4)[0]))


def test_a_torn_checkpoint_starts_anew(tmp_path):
    trained(epochs=1, checkpoints=Checkpoints(tmp_path, "same"))
    tensors = next(tmp_path.glob("step-*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:100])
    assert Checkpoints(tmp_path, "same").read() is None
    net, _ = trained(epochs=1, checkpoints=Checkpoints(tmp_path, "same"))
    assert same(weights(net), weights(trained(epochs=1)[0]))


def test_only_one_checkpoint_stays_on_disk(tmp_path):
    trained(epochs=1, checkpoints=Checkpoints(tmp_path, "same", every_s=0.0))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_a_killed_process_goes_on_to_bitwise_the_same_weights(tmp_path):
    script = Path(__file__).with_name("loop_in_process.py")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([sys.executable, script, whole, "0"], check=True, timeout=300)
    for _ in range(3):
        with subprocess.Popen([sys.executable, script, broken, "0.2"], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None and child.stdout.readline()
            time.sleep(0.3)
            child.send_signal(signal.SIGKILL)
    subprocess.run([sys.executable, script, broken, "0"], check=True, timeout=300)
    assert same(torch.load(whole / "weights.pt"), torch.load(broken / "weights.pt"))


# -- time ----------------------------------------------------------------------------------------------------------------


def test_a_budget_allows_so_many_steps_as_fit_and_no_more_than_asked():
    costs = pace.Costs(step_s=0.1, judge_s=1.0, steps=100)
    assert pace.steps_within(110.0 / 0.92, 0.0, costs, epochs=50) == pytest.approx(1000, abs=1)
    assert pace.steps_within(1e6, 0.0, costs, epochs=2.5) == 250
    assert pace.steps_within(110.0 / 0.92 + 11 / 0.92, 11.0, costs, epochs=50) == pytest.approx(1000, abs=1)


def test_a_budget_too_short_for_one_epoch_says_how_long_one_takes():
    costs = pace.Costs(step_s=0.1, judge_s=1.0, steps=100)
    with pytest.raises(InputError, match=r"5.0 s are too short: one epoch takes about 11 s(.|\n)*give it 13 s"):
        pace.steps_within(5.0, 0.0, costs, epochs=50)
    assert pace.steps_within(3.0, 0.0, costs, epochs=0.2) == 20, "a fifth of an epoch was asked for"


class Clock:
    """A clock that only work moves on: a tenth of a second per loss, two seconds per judgement."""

    def __init__(self, monkeypatch, net):
        self.now, self._net = 0.0, net
        for module in (loop, pace):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self):
        return self.now

    perf_counter = monotonic

    def loss(self, batch):
        self.now += 0.1
        return torch.nn.functional.cross_entropy(self._net(batch.feeds["x"]), batch.labels)

    def judge(self, net):
        def score():
            self.now += 2.0
            return float(self.now)

        return loop.Judge(name="accuracy", score=score, higher_is_better=True)


def test_a_budget_is_used_up_and_the_rate_ends_with_it(monkeypatch):
    net = network()
    clock = Clock(monkeypatch, net)
    _, result = trained(net, epochs=500, budget_s=60.0, loss=clock.loss, judge=clock.judge)
    last = result.history[-1]
    assert 50 < result.seconds <= 60 and last.learning_rate < 0.05 * 0.01
    assert result.notes == (f"{last.epoch:.1f} instead of 500 epochs fit 1 min 00 s",)


def test_a_training_that_falls_behind_is_shortened_and_the_rate_still_ends(monkeypatch):
    """The plan believes in steps ten times as fast as they are."""
    net = network()
    clock = Clock(monkeypatch, net)
    monkeypatch.setattr(pace, "step_seconds", lambda step: 0.01)
    _, result = trained(net, epochs=500, budget_s=30.0, loss=clock.loss)
    assert 20 < result.seconds <= 30 and result.history[-1].learning_rate < 0.05 * 0.01
    assert len(result.notes) == 2 and result.notes[1].startswith("steps took longer than planned")


class Written(Checkpoints):
    """Keeps step and closed epochs of every checkpoint."""

    def __init__(self, folder):
        super().__init__(folder, "same", every_s=1e9)
        self.seen = []

    def write(self, step, tensors, values):
        self.seen.append((step, len(values["history"])))
        super().write(step, tensors, values)


def test_no_checkpoint_lies_between_an_epoch_and_its_judgement(tmp_path, monkeypatch):
    """Each step is slower than the one before, so that the plan is shortened at each."""
    net = network()
    clock = Clock(monkeypatch, net)
    monkeypatch.setattr(pace, "step_seconds", lambda step: 0.01)
    monkeypatch.setattr(pace, "RESERVE", 0.0)
    monkeypatch.setattr(loop, "_LOOKS", 10**6)

    def loss(batch):
        clock.now += 0.05 + 0.02 * clock.now
        return torch.nn.functional.cross_entropy(net(batch.feeds["x"]), batch.labels)

    checkpoints = Written(tmp_path)
    trained(net, epochs=500, budget_s=30.0, loss=loss, checkpoints=checkpoints)
    *before, _ = checkpoints.seen
    assert max(step for step, _ in before) > 48 and all(closed == step // 24 for step, closed in before)


def test_a_planned_training_goes_on_by_the_same_plan(tmp_path):
    settings = {"epochs": 4, "budget_s": 100_000.0, "judge": held_out}
    net, whole = trained(**settings)
    resumed, rest = interrupted(tmp_path, 60, **settings)
    assert len(whole.history) == len(rest.history) == 4 and same(weights(net), weights(resumed))


def test_measuring_leaves_no_trace():
    plain, _ = trained(epochs=1)
    measured, _ = trained(epochs=1, budget_s=100_000.0)
    assert same(weights(plain), weights(measured))


def test_bfloat16_is_taken_only_where_it_is_faster():
    def slow_in(slow):
        return lambda low: time.sleep(0.02 if low == slow else 0.002)

    assert pace.bfloat16_is_faster(slow_in(False)) and not pace.bfloat16_is_faster(slow_in(True))


def test_bfloat16_learns_digits():
    net, result = trained(epochs=4, precision="bfloat16")
    assert accuracy(net) > 0.93 and result.notes == ("forward passes in bfloat16",)
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_progress_tells_epoch_loss_score_and_time_left(monkeypatch):
    monkeypatch.setattr(loop, "_PROGRESS_S", 0.0)
    told = []
    trained(progress=lambda fraction, text: told.append((fraction, text)), judge=held_out, epochs=2)
    assert [f for f, _ in told] == sorted(f for f, _ in told) and told[-1][0] == 1.0
    assert "epoch 1.5 of 2.0, loss " in told[35][1] and "accuracy 0." in told[35][1] and told[35][1].endswith(" left")
