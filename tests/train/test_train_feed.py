"""Order, padding, pairs and prefetching of training batches."""

import numpy as np
import pytest
from train_samples import Arrays

from dovetail.core.errors import DataError
from dovetail.core.protocols import TensorSpec
from dovetail.data.dataset import write_split

torch = pytest.importorskip("torch")

from dovetail.train.batching import split_off  # noqa: E402
from dovetail.train.feed import Feed, prefetched  # noqa: E402

pytestmark = pytest.mark.torch


def numbers(feed, epoch, start=0):
    return [batch.indices.tolist() for batch in feed.batches(epoch, start)]


def plain(count=103, batch=10, **kind):
    x = np.arange(count, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    return Feed(Arrays({"x": x}, np.arange(count)), np.arange(count), batch=batch, **kind)


def test_every_epoch_has_an_order_of_its_own_and_always_the_same():
    feed = plain()
    assert len(feed) == 10 == len(numbers(feed, 0))
    assert numbers(feed, 0) == numbers(plain(), 0) != numbers(feed, 1)
    assert numbers(feed, 0) != numbers(plain(seed=1), 0)
    assert numbers(feed, 3, start=4) == numbers(feed, 3)[4:]
    seen = sum(numbers(feed, 0), [])
    assert len(set(seen)) == len(seen) == 100


def test_feeds_and_labels_belong_to_the_indices():
    batch = next(plain().batches(0))
    assert batch.feeds["x"].shape == (10, 3) and batch.feeds["x"].dtype == torch.float32
    assert batch.feeds["x"][:, 0].tolist() == batch.indices.tolist() == batch.labels.tolist()


def test_fewer_samples_than_a_batch_make_one_batch():
    assert [len(b) for b in numbers(plain(7), 0)] == [7]


def test_reading_in_order_serves_every_sample_once():
    feed = plain()
    assert sorted(int(i) for batch in feed.in_order() for i in batch.indices) == list(range(103))


def tokens(count=60, pairs=False, mask="attention_mask"):
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 20, count)
    ids = [rng.integers(1, 100, n) for n in lengths]
    masks = [np.ones(n, np.int64) for n in lengths]
    groups = np.arange(count) // 2 if pairs else None
    labels = np.repeat(rng.random(count // 2), 2) if pairs else None
    return Arrays({"input_ids": ids, mask: masks}, labels, groups), lengths


def test_sequences_are_padded_to_the_longest_of_like_length():
    data, lengths = tokens()
    feed = Feed(data, np.arange(60), batch=8)
    padding = 0
    for batch in feed.batches(0):
        own = lengths[batch.indices]
        assert batch.feeds["input_ids"].shape == (len(own), own.max())
        assert batch.feeds["attention_mask"].sum(dim=1).tolist() == own.tolist()
        assert ((batch.feeds["input_ids"] > 0) == batch.feeds["attention_mask"].bool()).all()
        padding += int((own.max() - own).sum())
    assert padding < 0.2 * lengths.sum()
    assert numbers(feed, 0) != numbers(feed, 1)


def test_without_a_mask_only_equal_shapes_share_a_batch():
    data, lengths = tokens(mask="other")
    feed = Feed(data, np.arange(60), batch=8)
    batches = numbers(feed, 0)
    assert len(batches) == len(feed) and sorted(sum(batches, [])) == list(range(60))
    assert all(len({lengths[i] for i in batch}) == 1 for batch in batches)


def test_pairs_come_side_by_side():
    data, _ = tokens(pairs=True)
    for batch in Feed(data, np.arange(60), batch=8, pairs=True).batches(0):
        groups = data.groups[batch.indices]
        assert (groups[0::2] == groups[1::2]).all() and len(set(groups)) == len(groups) // 2
        assert (batch.labels[0::2] == batch.labels[1::2]).all()


def test_pairs_need_groups_of_two():
    with pytest.raises(DataError, match="two samples in every group"):
        plain(pairs=True)


def test_held_out_groups_do_not_train():
    groups = np.repeat(np.arange(40), 3)
    trains, judges = split_off(groups, 0.1, seed=0)
    assert len(judges) == 12 and not set(groups[trains]) & set(groups[judges])
    assert sorted([*trains, *judges]) == list(range(120))
    assert len(split_off(np.arange(50_000), 0.1, seed=0)[1]) == 1000
    assert len(split_off(groups, 0.0, seed=0)[1]) == 0
    trains, judges = split_off(np.arange(12_000) // 2000, 0.1, seed=0)
    assert len(judges) == 1000 and len(trains) == 10_000, "a speaker is held out whole, and judges by a thousand samples"


def test_a_stored_split_is_read_in_any_order(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 1, 4, 4)).astype(np.float32)
    spec = TensorSpec(name="x", dtype="float32", shape=("n", 1, 4, 4))
    split = write_split(tmp_path / "train", (({"x": image[None]}, i, i % 3) for i, image in enumerate(x)), [spec])
    for batch in Feed(split, np.arange(20), batch=6).batches(2):
        assert np.array_equal(batch.feeds["x"].numpy(), x[batch.indices])
        assert batch.labels.tolist() == (batch.indices % 3).tolist()


def test_text_labels_are_no_labels():
    data = Arrays({"x": np.zeros((4, 2), np.float32)}, np.array(["a", "b", "a", "b"]))
    assert next(Feed(data, np.arange(4), batch=2).batches(0)).labels is None


def test_prefetching_changes_neither_order_nor_threads():
    before = torch.get_num_threads()
    assert list(prefetched(iter(range(50)))) == list(range(50))
    assert torch.get_num_threads() == before


def test_a_fault_in_the_thread_reaches_the_caller():
    def broken():
        yield 1
        raise DataError("torn")

    feed = prefetched(broken())
    assert next(feed) == 1
    with pytest.raises(DataError, match="torn"):
        next(feed)


def test_an_abandoned_feed_ends_its_thread():
    import threading

    feed = prefetched(iter(range(10**9)))
    next(feed)
    feed.close()
    assert not [t for t in threading.enumerate() if t.name == "dovetail-feed"]
