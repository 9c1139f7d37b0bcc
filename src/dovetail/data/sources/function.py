"""Samples from a user's function that yields ``(feeds, label)`` or ``(feeds, group, label)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dovetail.data.functions import load_function
from dovetail.data.request import DataRequest
from dovetail.data.sources.memory import records_of
from dovetail.data.sources.record import Records


def from_name(text: str, request: DataRequest) -> Records:
    """Loads ``module:function`` or ``file.py:function``.

    Raises:
        InputError: it cannot be imported.
    """
    return from_callable(load_function(text, what="data"), request, text)


def from_callable(function: Callable[[], Any], request: DataRequest, where: str) -> Records:
    """Calls a function without arguments and reads what it yields; bare feeds are one sample each."""
    return records_of(function, request, where, split_unlabelled=False)
