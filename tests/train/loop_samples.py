"""A small torch network on digits, for the tests of the loop alone."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from train_samples import digits

from dovetail.core.training import Schedule
from dovetail.train import loop
from dovetail.train.feed import Feed

DATA, TEST_X, TEST_Y = digits(flat=False)


def network(seed=0):
    """Convolution, batch normalisation, dropout and a linear layer."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.1), nn.Linear(256, 10),
    )  # fmt: skip


def trained(net=None, *, checkpoints=None, progress=None, judge=None, loss=None, augment=None, bfloat16=False, **changes):
    """The network and what came of its training."""
    net = network() if net is None else net
    settings = {"epochs": 4, "batch": 50, "learning_rate": 0.05, "precision": "float32", **changes}
    feed = Feed(DATA, np.arange(1200), batch=settings["batch"], augment=augment)

    def entropy(batch):
        return functional.cross_entropy(net(batch.feeds["x"]).float(), batch.labels)

    result = loop.fit(
        net, loss or entropy, feed, Schedule(**settings),
        judge=judge(net) if judge else None, checkpoints=checkpoints, progress=progress, bfloat16=bfloat16,
    )  # fmt: skip
    return net, result


def held_out(net):
    """Accuracy on samples that do not train."""
    feed = Feed(DATA, np.arange(1200, 1400), batch=200)

    def score():
        batch = next(feed.in_order())
        return float((net(batch.feeds["x"]).argmax(1) == batch.labels).float().mean())

    return loop.Judge(name="accuracy", score=score, higher_is_better=True)


def accuracy(net):
    """On test images."""
    with torch.no_grad():
        return float((net.eval()(torch.from_numpy(TEST_X)).argmax(1).numpy() == TEST_Y).mean())


def weights(net):
    """Copies of all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
