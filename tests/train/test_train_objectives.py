"""Losses against their definitions, and which loss is chosen."""

import math

import numpy as np
import pytest

from dovetail.core.errors import DataError, InputError, ModelError
from dovetail.core.training import Objective

torch = pytest.importorskip("torch")

from dovetail.train import losses  # noqa: E402
from dovetail.train.augment import Mix  # noqa: E402
from dovetail.train.feed import Batch  # noqa: E402
from dovetail.train.objectives import Criterion, Head, check_labels, chosen_task  # noqa: E402

pytestmark = pytest.mark.torch
PLAIN, SOFTMAX, SIGMOID = (Head(output="y", scores=s, squashed=q) for s, q in (("y", ""), ("z", "softmax"), ("z", "sigmoid")))


def some(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(labels, mix=None):
    return Batch(feeds={}, labels=labels, indices=np.arange(len(labels)), mix=mix)


def test_kl_is_that_of_the_softened_probabilities_times_the_temperature_squared():
    s, t, temperature = some(5, 7), some(5, 7, seed=1), 3.0
    p, q = torch.softmax(t / temperature, 1), torch.softmax(s / temperature, 1)
    expected = (p * (p.log() - q.log())).sum(1).mean() * temperature**2
    assert losses.kl_divergence(s, t, temperature) == pytest.approx(float(expected), rel=1e-5)
    assert losses.kl_divergence(t, t, temperature) == pytest.approx(0, abs=1e-6)


def test_the_gradient_of_kl_keeps_its_size_when_the_temperature_grows():
    """For large T it tends to (s - t) / C per row, as Hinton (2015, eq. 4) derives for centred logits."""
    s, t = some(4, 6), some(4, 6, seed=1)
    s, t = (s - s.mean(1, keepdim=True)).requires_grad_(), t - t.mean(1, keepdim=True)
    losses.kl_divergence(s, t, 1000.0).backward()
    assert torch.allclose(s.grad, (s - t).detach() / 6 / 4, atol=1e-3)


def test_features_are_compared_relative_to_the_teacher():
    t = some(2, 3, 4, 4)
    assert losses.feature_match(1.1 * t, t) == pytest.approx(0.01, rel=1e-4)
    assert losses.feature_match(torch.zeros_like(t), t) == pytest.approx(1)


def test_features_of_other_width_are_compared_by_where_they_are_active():
    t = some(2, 6, 4, 4)
    assert losses.feature_match(t[:, :3].repeat(1, 1, 1, 1), t[:, :3].repeat(1, 2, 1, 1)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ModelError, match="cannot be compared"):
        losses.feature_match(some(2, 3), some(2, 4))


def test_relations_ignore_scale_and_rotation_but_not_distance():
    t = some(8, 5)
    turn = torch.linalg.qr(some(5, 5, seed=2))[0]
    assert losses.relations(3 * t @ turn, t) == pytest.approx(0, abs=1e-5)
    assert losses.relations(some(8, 9, seed=3), t) > 0.05, "other widths can be compared"


def test_relations_have_gradients_where_samples_coincide():
    s = torch.ones(4, 3, requires_grad=True)
    losses.relations(s, some(4, 3)).backward()
    assert torch.isfinite(s.grad).all()


def test_one_number_per_sample_needs_no_axis_of_its_own():
    y, labels = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])
    assert losses.error(y, labels, absolute=False).tolist() == [1, 4]
    assert losses.error(y, labels, absolute=True).tolist() == [1, 2]
    entropies = [math.log1p(math.exp(-1)), math.log1p(math.exp(3))]
    assert losses.binary_cross_entropy(-y, labels).tolist() == pytest.approx(entropies)


def test_pairs_learn_the_cosine_that_their_label_says():
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert losses.pair_error(a, torch.tensor([5.0, 5.0, 0.0, 0.0]), 0, 5).tolist() == pytest.approx([0, 0])
    assert losses.pair_error(a, torch.tensor([0.0, 0.0, 5.0, 5.0]), 0, 5).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("metric", "labels", "columns", "head", "task"),
    [
        ("accuracy", np.array([1, 2]), 10, PLAIN, "classification"),
        ("accuracy", np.array([0, 1]), 1, SIGMOID, "binary"),
        ("top5", np.array([1, 2]), 10, SOFTMAX, "classification"),
        ("f1:binary", np.array([0, 1]), 1, PLAIN, "binary"),
        ("rmse", np.array([0.5, 1]), 1, PLAIN, "regression"),
        ("mae", np.array([0.5, 1]), 1, PLAIN, "absolute"),
        ("spearman:cosine", np.array([0.5, 1]), 384, PLAIN, "cosine_pairs"),
        ("", np.array([1, 2]), 10, PLAIN, "classification"),
        ("my.py:judge", np.array([0.5, 1]), 1, PLAIN, "regression"),
    ],
)
def test_the_loss_follows_from_metric_labels_and_output(metric, labels, columns, head, task):
    assert chosen_task(metric, labels, columns, head) == task


def test_an_unclear_task_is_asked_for():
    with pytest.raises(InputError, match="does not tell which loss"):
        chosen_task("wer", None, 10, PLAIN)


@pytest.mark.parametrize("labels", [None, np.array(["cat", "dog"]), np.array([0, 10]), np.array([0.5, 1.0])])
def test_labels_that_a_loss_cannot_use_are_refused_with_an_offer(labels):
    with pytest.raises(DataError, match="learn from the original instead"):
        check_labels(labels, "classification", 10)


def test_terms_are_weighted_and_summed():
    s, t, labels = some(6, 4), some(6, 4, seed=1), torch.tensor([0, 1, 2, 3, 0, 1])
    wish = Objective(task="classification", hard=0.3, label_smoothing=0.1, logits=0.7, temperature=2.0)
    found = Criterion(wish, PLAIN, PLAIN)({"y": s}, {"y": t}, batch(labels))
    hard = torch.nn.functional.cross_entropy(s, labels, label_smoothing=0.1)
    assert found == pytest.approx(float(0.3 * hard + 0.7 * losses.kl_divergence(s, t, 2.0)), rel=1e-5)


def test_logits_are_read_before_the_softmax():
    z, t = some(6, 4), some(6, 4, seed=1)
    criterion = Criterion(Objective(logits=1.0, temperature=1.0), SOFTMAX, Head(output="y", scores="t", squashed="softmax"))
    assert criterion.student_taps == ("z", "y") and criterion.teacher_taps == ("t",)
    found = criterion({"z": z, "y": z.softmax(1)}, {"t": t}, batch(torch.zeros(6)))
    assert found == pytest.approx(float(losses.kl_divergence(z, t, 1.0)))


def test_a_quantised_softmax_is_passed_over_too():
    """Its float teacher's answer is read before the softmax, so the student's must be."""
    from onnx import helper

    from dovetail.train.heads import head_of

    nodes = [helper.make_node("Softmax", ["z"], ["p"], axis=-1), helper.make_node("QuantizeLinear", ["p", "s", "o"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "o"], ["y"])]  # fmt: skip
    info = [helper.make_tensor_value_info(name, 1, ["n", 4]) for name in ("z", "y")]
    proto = helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:]))
    assert head_of(proto) == Head(output="y", scores="z", squashed="softmax", axis=-1)


def test_other_outputs_than_classes_are_matched_by_their_values_in_any_unit():
    s, t = some(30, 2), some(30, 2, seed=1)
    criterion = Criterion(Objective(logits=1.0), PLAIN, PLAIN, classes=False)
    found = criterion({"y": s}, {"y": t}, batch(torch.zeros(30)))
    assert found == pytest.approx(float(((s - t) ** 2).mean() / t.var(correction=0)), rel=1e-5)
    assert criterion({"y": 1e3 * s}, {"y": 1e3 * t}, batch(torch.zeros(30))) == pytest.approx(float(found), rel=1e-4)
    plain = Criterion(Objective(logits=1.0, logits_loss="mse"), PLAIN, PLAIN, classes=False)
    assert plain({"y": s}, {"y": t}, batch(torch.zeros(30))) == pytest.approx(float(((s - t) ** 2).mean()), rel=1e-5)


def test_a_mixed_sample_has_both_labels_by_their_share():
    s, labels = some(4, 3), torch.tensor([0, 1, 2, 0])
    mix = Mix(partner=torch.tensor([1, 2, 3, 0]), share=torch.tensor([0.9, 0.5, 1.0, 0.2]))
    found = Criterion(Objective(task="classification"), PLAIN)({"y": s}, {}, batch(labels, mix))
    soft = torch.zeros(4, 3)
    for i in range(4):
        soft[i, labels[i]] += mix.share[i]
        soft[i, labels[mix.partner[i]]] += 1 - mix.share[i]
    assert found == pytest.approx(float(torch.nn.functional.cross_entropy(s, soft)), rel=1e-5)


def test_segmentation_has_a_loss_per_pixel():
    s, labels = some(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4), generator=torch.Generator().manual_seed(0))
    criterion = Criterion(Objective(task="classification"), PLAIN)
    expected = float(torch.nn.functional.cross_entropy(s, labels))
    assert criterion({"y": s}, {}, batch(labels)) == pytest.approx(expected, rel=1e-5)
    right, of = criterion.right({"y": s}, batch(labels))
    assert of == 32 and right == int((s.argmax(1) == labels).sum())


def test_a_single_score_is_judged_at_its_middle():
    z = torch.tensor([[2.0], [-1.0], [0.5]])
    criterion = Criterion(Objective(task="binary"), SIGMOID)
    data = batch(torch.tensor([1, 1, 0]))
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(1)) + math.log1p(math.exp(0.5))) / 3
    assert criterion({"z": z, "y": z.sigmoid()}, {}, data) == pytest.approx(expected, rel=1e-5)
    assert criterion.right({"z": z}, data) == (1, 3)
