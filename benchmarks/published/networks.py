"""What is known of the networks of the model zoos from their names: depth, weights where the zoo does not state them, kind.

Counted from the tables of the papers and public implementations that the networks are named after, and rounded: depths
(convolutions and matrix products) are good to about a fifth. A user's network is counted operator by operator instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dovetail.predict.edge.network import TAGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Of one network.

    Attributes:
        layers: convolutions and matrix products.
        params: weights before pruning; ``None`` where unknown or stated by the zoo.
        tags: what kind it is, more finely than :data:`dovetail.predict.edge.network.TAGS`. These alone are used, as an analysis
            of a user's network tells no more.
    """

    layers: float
    params: float | None
    tags: frozenset[str]

    def told(self) -> dict[str, float]:
        """Tags as an analysis tells them. RegNets sum a branch and its input too."""
        found = self.tags | ({"resnet"} if "regnet" in self.tags else set())
        return {tag: float(tag in found) for tag in TAGS}


def known(name: str) -> Known | None:
    """The first line of the table whose pattern is found in the name, ``None`` when there is none."""
    for pattern, layers, million_params, tags in _TABLE:
        if re.search(pattern, name.lower()):
            params = million_params * 1e6 if million_params else None
            return Known(layers=layers, params=params, tags=frozenset(tags.split()))
    return None


_TABLE = (
    ("siglip2_l.*text", 192, 0, "attention text"),
    ("tinyclip.*text_3m.*text_encoder", 24, 0, "attention text"),
    ("tinyclip.*text_encoder", 48, 0, "attention text"),
    ("text_encoder", 96, 0, "attention text"),
    ("tinyclip_vit_8m", 80, 0, "attention clip"),
    ("tinyclip", 98, 0, "attention clip"),
    ("clip_vit_l|siglip2_l", 194, 0, "attention clip"),
    ("clip_vit|siglip2", 98, 0, "attention clip"),
    ("clip_resnet_50x4", 90, 0, "resnet"),
    ("clip_resnet", 62, 0, "resnet"),
    ("vit_large", 194, 0, "attention"),
    ("depth_anything", 130, 0, "attention dense"),
    ("cas_vit", 150, 0, "depthwise attention mixed"),
    ("davit", 110, 0, "attention window"),
    ("swin_small", 180, 0, "attention window"),
    ("swin", 92, 0, "attention window"),
    ("levit", 90, 0, "attention"),
    ("fastvit", 60, 0, "depthwise"),
    ("efficientformer", 45, 0, "pooling"),
    ("vit_pose|vit_|deit", 98, 0, "attention"),
    ("poolformer", 36, 0, "pooling window"),
    ("segformer", 100, 0, "attention dense"),
    ("detr", 150, 0, "attention detect"),
    ("petrv2.*transformer", 150, 0, "attention detect"),
    ("efficientnet_l$|efficientnet-edgetpu-l", 80, 10.6, "depthwise mixed"),
    ("efficientnet_m$|efficientnet-edgetpu-m", 55, 6.9, "depthwise mixed"),
    ("efficientnet_s$|efficientnet-edgetpu-s", 43, 5.4, "depthwise mixed"),
    ("efficientnet_lite0", 49, 0, "depthwise"),
    ("efficientnet_lite1", 64, 0, "depthwise"),
    ("efficientnet_lite2", 66, 0, "depthwise"),
    ("efficientnet_lite3", 77, 0, "depthwise"),
    ("efficientnet_lite4", 92, 0, "depthwise"),
    ("efficientnet-b0", 82, 5.3, "depthwise se"),
    ("efficientdet_lite0", 170, 0, "depthwise detect bifpn"),
    ("efficientdet_lite1", 200, 0, "depthwise detect bifpn"),
    ("efficientdet_lite2|efficientdet-d2", 230, 8.1, "depthwise detect bifpn"),
    ("hardnet39", 39, 0, "depthwise concat"),
    ("hardnet68", 70, 0, "concat"),
    ("hardnet_mixed|hardnet_mseg", 75, 17, "concat dense"),
    ("inceptionresnet", 245, 55.8, "inception"),
    ("inception_?v1", 58, 6.6, "inception"),
    ("ssdinceptionv2", 90, 14, "inception detect"),
    ("inceptionv2", 70, 11.2, "inception"),
    ("inceptionv3", 95, 23.8, "inception"),
    ("inceptionv4", 150, 42.7, "inception"),
    ("semanticfpn-mobilenetv2", 75, 5, "depthwise dense"),
    ("semanticfpn|fpn-resnet18|fpn.*covid", 40, 13, "dense"),
    ("ssd_?mobilenet_?v1", 47, 6.8, "depthwise detect"),
    ("ssd_?mobilenet_?v2|ssdlite", 75, 4.5, "depthwise detect"),
    ("retinaface", 55, 0, "depthwise detect"),
    ("linknet", 45, 0, "depthwise dense"),
    ("mobilefacenet", 50, 0, "depthwise"),
    ("deeplab", 59, 0, "depthwise dense"),
    ("unet_mobilenet_v2", 73, 0, "depthwise dense"),
    ("mobilenetv2.*cityscapes|mobilenetv2.*seg", 65, 4, "depthwise dense"),
    ("mobilenetedge", 60, 4, "depthwise mixed"),
    ("mobilenet_?v1_?-?0.25", 28, 0.47, "depthwise"),
    ("mobilenet_?v1_?-?0.5", 28, 1.3, "depthwise"),
    ("mobilenet_?v1", 28, 4.2, "depthwise"),
    ("mobilenet_?v2", 53, 3.5, "depthwise"),
    ("mobilenet_?v3", 63, 5.4, "depthwise"),
    ("repghost", 110, 0, "depthwise ghost"),
    ("osnet", 190, 0, "depthwise ghost"),
    ("yolact_regnetx_800", 80, 0, "regnet detect dense"),
    ("yolact_regnetx_1.6", 84, 0, "regnet detect dense"),
    ("centerpose_regnetx_800", 86, 0, "regnet detect"),
    ("centerpose_regnetx_1.6", 90, 0, "regnet detect"),
    ("mspn", 80, 0, "regnet"),
    ("regnetx_800", 54, 0, "regnet"),
    ("regnetx_1.6", 60, 0, "regnet"),
    ("centerpose_repvgg", 45, 0, "repvgg detect"),
    ("nanodet", 45, 0, "repvgg detect"),
    ("repvgg_b0", 28, 0, "repvgg"),
    ("repvgg", 22, 0, "repvgg"),
    ("centernet_resnet_v1_18", 30, 0, "resnet detect"),
    ("centernet", 60, 0, "resnet detect"),
    ("fcn8", 27, 0, "resnet dense"),
    ("resnet_v1_18|person_attr|personreid-res18", 21, 11.2, "resnet"),
    ("resnet_v1_34", 37, 0, "resnet"),
    ("arcface_r50|resnext50", 54, 0, "resnet"),
    ("resnext26", 28, 0, "resnet"),
    ("ssdresnet50v1_fpn", 90, 50, "resnet detect"),
    ("mlperf_resnet34|ssd.?resnet34", 50, 20, "resnet detect"),
    ("resnet_?v?\\d?[-_]?101", 105, 44.5, "resnet"),
    ("resnet_?v?\\d?[-_]?152", 156, 60.2, "resnet"),
    ("ofa-resnet50|resnet_?v?\\d?[-_]?50|personreid-res50|ofa_resnet50", 54, 25.6, "resnet"),
    ("resnet_?v?1?[-_]?18", 21, 11.7, "resnet"),
    ("resnet34", 37, 21.8, "resnet"),
    ("squeeze", 26, 1.24, "fire"),
    ("vgg_?16", 16, 138.4, "vgg"),
    ("vgg_?19", 19, 143.7, "vgg"),
    ("tiny.?yolov3", 13, 0, "yolo detect"),
    ("tiny.?yolov4", 21, 0, "yolo detect"),
    ("yolov3", 75, 62, "yolo detect resnet"),
    ("yolov4csp", 115, 53, "yolo detect"),
    ("yolov4", 110, 64, "yolo detect"),
    ("yolov5[ns]6", 80, 0, "yolo detect"),
    ("yolov5m6", 108, 0, "yolo detect"),
    ("yolov5(n|s|xs)", 60, 0, "yolo detect"),
    ("yolov5m", 82, 0, "yolo detect"),
    ("yolov5l", 104, 0, "yolo detect"),
    ("yolov5x", 126, 0, "yolo detect"),
    ("yolov6m", 80, 34.9, "yolo detect"),
    ("yolov6", 55, 0, "yolo detect"),
    ("yolov7_tiny", 58, 0, "yolo detect"),
    ("yolov7x", 121, 0, "yolo detect"),
    ("yolov7e6", 180, 0, "yolo detect"),
    ("yolov7", 92, 0, "yolo detect"),
    ("yolov8[ns]|fast_sam", 63, 0, "yolo detect"),
    ("yolov8m", 83, 0, "yolo detect"),
    ("yolov8[lx]", 103, 0, "yolo detect"),
    ("yolov9", 150, 0, "yolo detect concat"),
    ("yolov10[ns]", 83, 0, "yolo detect psa"),
    ("yolov10", 105, 0, "yolo detect psa"),
    ("yolov1[12][ns]", 88, 0, "yolo detect psa"),
    ("yolov1[12]m", 112, 0, "yolo detect psa"),
    ("yolov1[12]", 165, 0, "yolo detect psa"),
    ("yolox_(s|tiny|n)", 82, 9, "yolo detect"),
    ("yolox_m", 100, 0, "yolo detect"),
    ("yolox", 120, 0, "yolo detect"),
    ("yolo_world", 100, 0, "yolo detect psa"),
    ("damoyolo", 90, 0, "yolo detect"),
    ("ofa-yolo", 70, 0, "yolo detect"),
    ("yolo-fastest|face-mask", 60, 0, "depthwise yolo detect"),
    ("scrfd", 60, 0, "detect"),
    ("lprnet", 20, 0, "plain"),
    ("tddfa", 28, 0, "depthwise"),
    ("face_landmarks|hand_landmark|palm_det", 62, 0, "depthwise"),
    ("lightface", 25, 0, "detect"),
    ("dncnn", 20, 0, "dense"),
    ("zero_dce", 7, 0, "dense"),
    ("espcn", 4, 0, "dense"),
    ("stdc1", 45, 0, "concat dense"),
    ("scdepth", 35, 0, "resnet dense"),
    ("fast_depth", 40, 0, "depthwise dense"),
    ("r3d", 21, 0, "volume"),
    ("paddle_ocr.*det", 90, 0, "depthwise dense"),
    ("paddle", 70, 0, "depthwise"),
    ("facerec-resnet20", 20, 22, "resnet"),
    ("facerec-resnet64", 64, 35, "resnet"),
    ("resmlp", 36, 0, "pooling"),
    ("stereonet", 40, 0, "dense stereo"),
    ("esrgan", 350, 0, "dense super"),
    ("solo", 100, 0, "resnet detect dense"),
    ("fairmot", 90, 0, "detect dense"),
    ("sp-?net", 21, 0, "resnet"),
    ("plate", 20, 0, "plain"),
    ("c2d2|cflow", 60, 0, "volume"),
    ("bcc", 40, 17, "dense"),
    ("clocs", 40, 0, "detect cloud"),
    ("drunet", 30, 0, "dense"),
    ("2d-unet|unet", 25, 0, "dense"),
    ("(^|_)enet", 90, 0.4, "dense"),
    ("erfnet", 85, 2, "dense"),
    ("(^|_)ocr", 70, 0, "dense"),
    ("salsanext", 60, 0, "dense cloud"),
    ("ssr", 40, 0, "dense super"),
    ("rcan", 60, 0, "dense super"),
    ("sesr", 8, 0, "dense super"),
    ("fadnet", 100, 0, "dense stereo"),
    ("psmnet", 100, 0, "dense stereo"),
    ("textmountain", 70, 0, "dense"),
    ("hfnet", 60, 0, "depthwise dense"),
    ("superpoint", 12, 0, "dense"),
    ("pointpainting|pointpillars|centerpoint", 60, 0, "detect cloud"),
    ("refinedet", 30, 0, "detect"),
    ("densebox", 15, 0, "detect"),
    ("movenet|openpose|hourglass|pose", 70, 0, "depthwise"),
    ("ultrafast|lane", 25, 0, "detect"),
    ("adas|multi|mt-", 40, 0, "detect dense"),
    ("facereid", 20, 0, "plain"),
    ("pmg", 24, 0, "plain"),
    ("vehicle", 21, 11.2, "resnet"),
    ("reid", 30, 0, "plain"),
    ("bert", 98, 110, "attention text"),
    ("face", 30, 0, "detect"),
    ("ssd", 40, 0, "detect"),)
