from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from data_helpers import spec
from scipy import stats
from sklearn import metrics as sk

from dovetail.core.errors import DataError, InputError
from dovetail.core.protocols import Array
from dovetail.data.metrics import Binding, get_metric, metric_names
from dovetail.data.metrics.base import RowMetric, pad_rows
from dovetail.data.metrics.sequence import edit_distance

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(300, 5))
CLASSES = RNG.integers(0, 5, 300)
NUMBERS = RNG.normal(size=300)


def value(name: object, y: Array, labels: Array) -> float:
    metric = get_metric(name)  # type: ignore[arg-type]
    return metric.value(metric.rows_batch([y], labels))


def grouped_value(name: str, y: Array, labels: Array, size: int = 3) -> float:
    """The same samples, in units of several."""
    metric = get_metric(name)
    rows = []
    for start in range(0, len(y), size):
        part = range(start, min(start + size, len(y)))
        rows.append(metric.row([[y[i : i + 1]] for i in part], [labels[i] for i in part]))
    return metric.value(pad_rows(rows))


def test_classification_equals_scikit_learn() -> None:
    assert value("accuracy", SCORES, CLASSES) == sk.accuracy_score(CLASSES, SCORES.argmax(1))
    assert value("top3", SCORES, CLASSES) == pytest.approx(sk.top_k_accuracy_score(CLASSES, SCORES, k=3))
    assert value("f1", SCORES, CLASSES) == pytest.approx(sk.f1_score(CLASSES, SCORES.argmax(1), average="macro"))
    binary = (CLASSES > 2).astype(int)
    assert value("f1:binary", SCORES[:, :2], binary) == pytest.approx(sk.f1_score(binary, SCORES[:, :2].argmax(1)))
    rounded = np.round(NUMBERS, 1)
    assert value("auc", rounded[:, None], binary) == pytest.approx(sk.roc_auc_score(binary, rounded))
    assert value("auc", SCORES[:, :2], binary) == pytest.approx(sk.roc_auc_score(binary, SCORES[:, 1] - SCORES[:, 0]))
    assert value({"name": "accuracy", "threshold": 0.0}, NUMBERS[:, None], binary) == np.mean((NUMBERS > 0) == binary)


def test_correlation_and_errors_equal_scipy_and_numpy() -> None:
    y = np.round(NUMBERS[:, None], 1)
    labels = NUMBERS + RNG.normal(size=300)
    assert value("spearman", y, labels) == pytest.approx(stats.spearmanr(y[:, 0], labels).statistic)
    assert value("pearson", y, labels) == pytest.approx(stats.pearsonr(y[:, 0], labels).statistic)
    assert value("rmse", y, labels) == pytest.approx(math.sqrt(((y[:, 0] - labels) ** 2).mean()))
    assert value("mae", y, labels) == pytest.approx(np.abs(y[:, 0] - labels).mean())
    images, truth = RNG.random((4, 1, 8, 8)), RNG.random((4, 1, 8, 8))
    expected = np.mean([-10 * math.log10(((a - b) ** 2).mean()) for a, b in zip(images, truth, strict=True)])
    assert value("psnr", images, truth) == pytest.approx(expected)
    assert value("psnr", images, images) == 100


@pytest.mark.parametrize("name", ["accuracy", "top3", "f1", "spearman", "rmse", "mae"])
def test_units_of_several_samples_give_the_same_value(name: str) -> None:
    classes = name in ("accuracy", "top3", "f1")
    y, labels = (SCORES, CLASSES) if classes else (NUMBERS[:, None], NUMBERS * 2 + 1)
    assert grouped_value(name, y, labels, 7) == pytest.approx(value(name, y, labels))


def test_binary_rows() -> None:
    rows = get_metric("accuracy").rows_batch([SCORES], CLASSES)
    assert rows.shape == (300, 1) and set(rows.ravel()) == {0.0, 1.0} and get_metric("accuracy").binary


def test_the_cosine_of_pairs() -> None:
    pairs, labels = RNG.normal(size=(40, 2, 6)), RNG.random(40)
    metric = get_metric("spearman:cosine")
    rows = np.stack([metric.row([[a[None]], [b[None]]], [s, s]) for (a, b), s in zip(pairs, labels, strict=True)])
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]
    assert metric.value(rows) == pytest.approx(stats.spearmanr(cosines, labels).statistic)
    binding = Binding(inputs=(), outputs=(spec("e", "N", 6),), judged=(0,), units=[np.array([0, 1]), np.array([2])])
    with pytest.raises(DataError, match="units hold 1 or 2 samples"):
        metric.bind(binding)
    with pytest.raises(DataError, match="different labels"):
        metric.row([[pairs[0, :1]], [pairs[0, 1:]]], [1.0, 2.0])


def test_iou_counts_over_all_pixels() -> None:
    y, labels = RNG.normal(size=(3, 4, 6, 6)), RNG.integers(0, 4, (3, 6, 6))
    predicted = y.argmax(1)
    expected = sk.jaccard_score(labels.ravel(), predicted.ravel(), average="macro")
    assert value("iou", y, labels) == pytest.approx(expected)
    labels[:, :3] = 255
    seen = labels != 255
    assert value("iou", y, labels) == pytest.approx(sk.jaccard_score(labels[seen], predicted[seen], average="macro"))


def test_words_and_tokens() -> None:
    assert edit_distance([1, 2, 3, 4], [1, 3, 4, 5]) == 2 and edit_distance([], [1, 2]) == 2
    said = np.array([[1, 2, 3, -1], [4, 4, 4, 4]])
    assert value("wer", said, np.array([[1, 2, 4, -1], [4, 4, 4, 4]])) == pytest.approx(1 / 7)
    ctc = np.eye(4)[np.array([[0, 1, 1, 0, 1, 2, 2, 0]])]
    assert value({"name": "wer", "ctc_blank": 0}, ctc, np.array([[1, 1, 2]])) == 0
    logits, tokens = RNG.normal(size=(2, 5, 7)), RNG.integers(0, 7, (2, 5))
    tokens[1, 3:] = -100
    chosen = stats_log_softmax(logits)[tokens >= 0, tokens[tokens >= 0]]
    assert value("perplexity", logits, tokens) == pytest.approx(math.exp(-chosen.mean()))


def stats_log_softmax(x: Array) -> Array:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def test_hit_rate_with_several_relevant_items() -> None:
    labels = np.array([[3, -1], [0, 1]])
    scores = np.array([[0, 1, 2, 3.0, 4], [4, 3, 2, 1, 0.0]])
    assert value("hit-rate@1", scores, labels) == 0.5
    assert value("hit_rate@2", scores, labels) == 1.0


def test_detection_map() -> None:
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]]], dtype=float)
    scores, classes = np.array([[0.9, 0.8, 0.7]]), np.array([[0, 1, 1]])
    metric = get_metric("map")
    perfect = np.array([[0, 0, 10, 10, 0], [20, 20, 30, 30, 1]], dtype=float)
    rows = metric.row([[boxes, scores, classes]], [perfect])[None]
    assert metric.value(rows) == 1.0
    half = np.array([[0, 0, 10, 10, 0], [22, 20, 32, 30, 1]], dtype=float)  # IoU 8 / 12: right up to 0.65, so 4 of 10
    assert metric.value(metric.row([[boxes, scores, classes]], [half])[None]) == pytest.approx((1 + 0.4) / 2)
    late = np.array([[50, 50, 60, 60, 1]], dtype=float)  # the second detection of its class: precision 1/2 at every recall
    assert metric.value(metric.row([[boxes, scores, classes]], [late])[None]) == pytest.approx(0.5)
    assert math.isnan(metric.value(metric.row([[boxes, scores, classes]], [np.zeros((0, 5))])[None]))


# -- what cannot be judged -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "y", "labels", "message"),
    [
        ("accuracy", SCORES, CLASSES + 1, "label 5 lies outside the model's 5 classes .*\n.*count from 0"),
        ("accuracy", SCORES, CLASSES - 1, "label -1 lies outside"),
        ("accuracy", SCORES, CLASSES + 0.5, "a class is a whole number"),
        ("accuracy", SCORES, np.array(["cat"] * 300), "labels are text .*\n.*classes:"),
        ("accuracy", np.zeros((2, 3, 4, 5)), np.zeros(2, int), r"takes class scores \[N, C\]"),
        ("accuracy", SCORES, np.eye(5)[CLASSES], r"one class per sample; labels are of shape \[5\]"),
        ("accuracy", SCORES, CLASSES[:100], "no axis over its 100 samples"),
        ("auc", NUMBERS[:, None], CLASSES, "outside the model's 2 classes"),
        ("spearman", SCORES, NUMBERS, "one number per sample"),
        ("rmse", SCORES, NUMBERS, "differ in shape"),
        ("f1:binary", SCORES, CLASSES, "takes two classes"),
        ("perplexity", SCORES, CLASSES, "takes logits"),
        ("iou", np.zeros((1, 2, 2, 2)), np.full((1, 2, 2), 3), "lie outside the model's 2 classes"),
    ],
)
def test_unsuitable_outputs_and_labels(name: str, y: Array, labels: Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        value(name, y, labels)


def test_undefined_values_are_nan_and_say_why() -> None:
    constant = np.ones((300, 1))
    for name, y, labels in (
        ("spearman", constant, NUMBERS),
        ("pearson", NUMBERS[:, None], np.ones(300)),
        ("auc", NUMBERS[:, None], np.ones(300, int)),
        ("f1:binary", np.tile([1.0, 0.0], (300, 1)), np.zeros(300, int)),
        ("wer", np.zeros((3, 2), int), np.full((3, 2), -1)),
    ):
        assert math.isnan(value(name, y, labels)), name
        assert get_metric(name).undefined


def test_unknown_metrics_and_parameters() -> None:
    with pytest.raises(InputError, match="no metric 'acuracy'; did you mean accuracy"):
        get_metric("acuracy")
    with pytest.raises(InputError, match="f1 has no parameter 'avrage'; did you mean 'average'"):
        get_metric({"name": "f1", "avrage": "macro"})
    with pytest.raises(InputError, match="average 'weighted' is unknown"):
        get_metric("f1:weighted")
    with pytest.raises(InputError, match="psnr: data_range is 'x', which is not a float"):
        get_metric({"name": "psnr", "data_range": "x"})
    with pytest.raises(InputError, match="accuracy has no variant"):
        get_metric("accuracy:fast")
    with pytest.raises(InputError, match="needs a `name`"):
        get_metric({"output": "logits"})
    for name in metric_names():
        assert isinstance(get_metric(name), RowMetric) and get_metric(name).name == name


# -- the user's own ------------------------------------------------------------------------------------------------------


def test_a_users_function_with_rows_and_aggregate(tmp_path: Path) -> None:
    path = tmp_path / "judge.py"
    path.write_text(
        "higher_is_better = False\n"
        "def aggregate(rows):\n    return rows[:, 0].sum() / rows[:, 1].sum()\n"
        "def judge(outputs, label):\n    return [float(outputs['logits'].argmax() != label), 1.0]\n"
        "def fails(outputs, label):\n    return 1 / 0\n"
        "def text(outputs, label):\n    return 'good'\n"
    )
    binding = Binding(inputs=(), outputs=(spec("logits", "N", 5),), judged=(0,), units=[np.array([i]) for i in range(300)])
    metric = get_metric(f"{path}:judge").bind(binding)
    assert not metric.higher_is_better
    assert metric.value(metric.rows_batch([SCORES], CLASSES)) == pytest.approx(1 - value("accuracy", SCORES, CLASSES))
    with pytest.raises(DataError, match=r"judge.py:fails: it fails on unit 0: ZeroDivisionError") as error:
        get_metric(f"{path}:fails").bind(binding).rows_batch([SCORES], CLASSES)
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    with pytest.raises(DataError, match="returns 'good' on unit 0"):
        get_metric(f"{path}:text").bind(binding).rows_batch([SCORES], CLASSES)
    plain = get_metric(lambda outputs, label: [1.0, 2.0]).bind(binding)
    with pytest.raises(DataError, match="nothing says how they become a value"):
        plain.value(plain.rows_batch([SCORES], CLASSES))
