"""Rates of input: plausible numbers from real work, none from nothing."""

from pathlib import Path

from dovetail.devices import rates


def test_images_are_decoded_and_normalised(monkeypatch) -> None:
    monkeypatch.setattr(rates, "_SECONDS", 0.01)
    found = rates.input_bytes_per_s()
    assert set(found) == {"normalize_bytes_per_s", "decode_bytes_per_s"}  # Pillow is part of the development extra
    assert all(1e5 < value < 1e12 for value in found.values())


def test_a_disk_is_read_and_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rates, "_FILE_BYTES", 1 << 23)
    found = rates.disk_bytes_per_s(tmp_path)
    assert set(found) == {"disk_write_bytes_per_s", "disk_read_bytes_per_s"} and min(found.values()) > 0
    assert list(tmp_path.iterdir()) == []
