"""What belongs to a model file."""

from dovetail.core.protocols import Model


def test_weights_of_an_onnx_file_are_the_one_file_beside_it(tmp_path):
    """Whatever its name: files of others that look alike do not count."""
    model = Model(path=tmp_path / "net[1].onnx")
    model.path.write_bytes(b"graph")
    (tmp_path / "net[1].onnx.data.old").write_bytes(b"another")
    assert model.files() == [model.path]
    (tmp_path / "net[1].onnx.data").write_bytes(b"weights")
    assert model.files() == [model.path, tmp_path / "net[1].onnx.data"]
    assert model.size_bytes() == 12
