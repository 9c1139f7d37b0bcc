"""Maps that a network shares with the one it was made from."""

from pathlib import Path

import onnx
import pytest
from onnx import parser

from dovetail.compress.landmarks import landmarks

NETWORK = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,3,8,8] x) => (float[N,4,4,4] y) <float[6,3,3,3] a, float[6,6,3,3] b, float[4,6,3,3] c> {
  [first] h = Conv<pads=[1,1,1,1]>(x, a) [relu] r = Relu(h) [second] s = Conv<pads=[1,1,1,1]>(r, b) [sum] t = Add(r, s)
  [third] u = Conv<pads=[1,1,1,1], strides=[2,2]>(t, c) [last] v = Relu(u) [out] y = Sigmoid(v)
}"""


def network(text: str = NETWORK) -> onnx.ModelProto:
    return parser.parse_model(text)


def test_the_last_map_of_each_resolution_is_taken() -> None:
    assert landmarks(network(), network()) == (("t", "t"), ("v", "v"))


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        ("[sum] t = Add(r, s)", "[sum] t = Mul(r, s)", ("r", "v")),  # another operator
        ("[sum] t =", "[other] t =", ("r", "v")),  # a name that was given anew
        ("float[4,6,3,3] c", "float[5,6,3,3] c", ("t",)),  # fewer or more channels
    ],
)
def test_what_is_not_the_same_is_left_out(old: str, new: str, left: tuple[str, ...]) -> None:
    changed = network(NETWORK.replace(old, new).replace("float[N,4,4,4] y", "float[N,M,4,4] y"))
    assert tuple(name for name, _ in landmarks(changed, network())) == left


def test_networks_that_share_nothing_have_none(shared_data: Path) -> None:
    other = onnx.load(shared_data / "mlperf_tiny/ad_toycar_autoencoder.onnx")
    assert landmarks(other, network()) == ()
