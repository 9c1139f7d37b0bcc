"""Describe the work: read a model, make it digestible, and count what it asks of the hardware.

Import the module that does the step; this package itself loads nothing.

| module | step |
|---|---|
| ``load`` | read an ONNX file and refuse what is not one; hash it; name its inputs and outputs |
| ``torch_import`` | export an ``nn.Module`` or a ``.pt2`` program to ONNX and check it against torch |
| ``normalize`` | rewrite a graph so that every tool takes it: opset, weights, annotations, names |
| ``analyze`` | FLOPs, bytes, parameters and shapes of every operator → :class:`dovetail.core.workload.Workload` |
| ``shapes``, ``flops``, ``liveness`` | what ``analyze`` is made of |
"""
