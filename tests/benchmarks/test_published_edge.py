"""Published rows of edge accelerators: one network stays one under all its names, and what the product ships predicts them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from dovetail.predict.fitted_file import parameters

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from published import hailo, tiny, vitis_2_5, vitis_zoo
from published.dpu_rows import family, same_network
from published.table import absolute_errors, folds

SETS = {table.name: table for table in (hailo.TABLE, tiny.TABLE, vitis_2_5.TABLE, vitis_zoo.TABLE)}


@pytest.mark.parametrize(
    "names",
    [
        ("tf_resnetv1_50_imagenet_224_224_6.97G", "tf_mlperf_resnet50_imagenet_224_224_8.19G"),
        ("tf2_resnet50_imagenet_224_224_7.76G", "tf_resnetv1_50_imagenet_224_224_6.97G"),
        ("tf_yolov3_voc_416_416_65.63G", "tf2_yolov3_coco_416_416_65.9G", "dk_yolov3_voc_416_416_65.42G"),
        ("pt_pointpainting_nuscenes_126G", "pt_pointpainting_nuscenes_126G_2.5"),
        ("pt_inceptionv3_3.5", "tf_inceptionv3_3.5"),
        ("pt_vehicle-make-classification_3.5", "pt_vehicle-type-classification_3.5"),
    ],
)
def test_a_network_has_one_group_under_all_its_names(names: tuple[str, ...]) -> None:
    assert len({same_network(name) for name in names}) == 1


def test_sizes_and_pruned_versions_are_networks_of_one_family() -> None:
    names = ("pt_resnet50_0.3_3.5", "pt_resnet50_0.6_3.5", "tf_resnetv1-152_3.5", "pt_OFA-resnet50_0.88_3.5")
    assert len({same_network(name) for name in names}) == 4 and len({family(name) for name in names}) == 1


@pytest.mark.parametrize("name", SETS)
def test_all_rows_of_a_network_are_in_one_fold(name: str, shared_data: Path) -> None:
    table = SETS[name]
    rows = table.read(shared_data.parent / "validation")
    groups = table.groups(rows)["unseen models"]
    fold = folds(groups)
    assert all(len(set(fold[[g == group for g in groups]])) == 1 for group in set(groups))
    assert (table.measured(rows) > 0).all() and len(rows) > 40


@pytest.mark.parametrize("name", SETS)
def test_the_shipped_parameters_predict_the_rows_they_were_fitted_to(name: str, shared_data: Path) -> None:
    table = SETS[name]
    rows = table.read(shared_data.parent / "validation")
    found, measured = table.predict(parameters(name), rows), table.measured(rows)
    assert np.median(absolute_errors(found.value, measured)) < 0.2
    assert ((found.low <= measured) & (measured <= found.high)).mean() > 0.85
