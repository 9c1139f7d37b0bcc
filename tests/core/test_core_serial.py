"""Values go to JSON and come back as they were."""

import json
import math

import pytest

from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.measurement import Interval
from dovetail.core.recipe import PassSpec, Recipe, freeze
from dovetail.core.serial import decode, encode


def there_and_back(value):
    return decode(type(value), json.loads(json.dumps(encode(value))))


def test_recipe_keeps_its_key():
    steps = (PassSpec(name="clean"), PassSpec(name="quantize_static", params=freeze({"exclude": ["a", "b"], "samples": 64})))
    recipe = Recipe(passes=steps, runtime="onnxruntime", options=freeze({"threads": 1, "spinning": False}))
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert Recipe.from_json(recipe.to_json()).key == recipe.key


def test_certificate_comes_back_equal():
    certificate = Certificate(
        claim="it holds",
        kind="quality",
        verdict=Verdict.CERTIFIED,
        method="score limit",
        n=600,
        alpha=0.05,
        interval=Interval(point=0.0, low=-0.01, high=0.01),
    )
    assert there_and_back(certificate) == certificate


def test_an_infinite_end_comes_back_unknown():
    read = there_and_back(Interval(point=0.2, low=-math.inf, high=math.inf))
    assert read.point == 0.2 and math.isnan(read.low) and math.isnan(read.high)


def test_an_interval_holds_its_point():
    with pytest.raises(ValueError, match="holds its point"):
        Interval(point=2.0, low=0.0, high=1.0)
