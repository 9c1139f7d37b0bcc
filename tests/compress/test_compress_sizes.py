"""Sizes that a graph states are read from it once, and those that it does not stay as they are."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dovetail.compress.graph.simplify import apply_rules
from dovetail.compress.graph.sizes import known_sizes


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        ("Slice(s, one, three)", [4, 5]),
        ("Slice(s, one, last, zero, two)", [4, 6]),
        ("Gather(s, two)", [5]),
        ("Gather(s, minus)", [6]),
        ("Slice(s, zero, two)", None),
        ("Gather(s, zero)", None),
    ],
)
def test_known_sizes_become_constants(read: str, expected: list[int] | None) -> None:
    text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[N,4,5,6] x) => (int64[M] y)
      <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] three = {{3}}, int64[1] last = {{9}},
       int64[1] minus = {{-1}}>
      {{ s = Shape(x) z = {read} y = Identity(z) }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert apply_rules(model, [known_sizes]) == (expected is not None)
    value = next(node for node in model.graph if node.op_type == "Identity").inputs[0]
    found = None if value.const_value is None else value.const_value.numpy()
    np.testing.assert_array_equal(found, expected)
