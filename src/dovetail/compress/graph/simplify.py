"""General clean-up with the maintained optimisers of onnxscript and onnx_ir, and the driver of our own rules."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as passes

from dovetail.compress.graph.edit import all_nodes, constant
from dovetail.compress.graph.files import opset
from dovetail.compress.graph.recurrent import zero_states
from dovetail.core.errors import ModelError

Rule = Callable[[ir.Node], bool]
"""Looks at one node as the end of a pattern, rewrites the graph where it matches, and says whether it did."""

OLDEST_OPSET = 13
"""The first opset in which Squeeze, Unsqueeze and Split have the form that constant folding writes."""
MAX_ROUNDS = 20
FOLDED_ELEMENTS = 1 << 22
"""Constants up to this many elements are computed in advance; larger ones would make the file grow."""
SHAPE_ARITHMETIC_ELEMENTS = 1 << 10

logging.getLogger("onnx_ir").setLevel(logging.ERROR)
logging.getLogger("onnxscript").setLevel(logging.ERROR)


def simplify(model: ir.Model) -> ir.Model:
    """Folds constants, removes what does nothing, what is dead and what is computed twice.

    Decided branches of control flow are inlined, undecided ones stay. Quantisation pairs stay as they are.

    Returns:
        A model that shares tensors with the argument, which must not be used any more.

    Raises:
        ModelError: the opset is older than :data:`OLDEST_OPSET`, or the optimiser fails on an operator.
    """
    if opset(model) < OLDEST_OPSET:
        raise ModelError(
            f"opset {opset(model)} is too old to simplify", hint=f"convert it to opset {OLDEST_OPSET} or newer first"
        )
    passes.InlinePass()(model)
    for _ in range(MAX_ROUNDS):
        if not _fold_and_rewrite(model):
            break
    apply_rules(model, [zero_states])
    model = model.clone()  # forgets the bodies of inlined branches, which would still count as readers of weights
    tidy = ir.passes.Sequential(
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.LiftSubgraphInitializersToMainGraphPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.DeduplicateHashedInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.ClearMetadataAndDocStringPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    )
    return tidy(model).model


def _fold_and_rewrite(model: ir.Model) -> bool:
    import onnxscript.optimizer as optimizer
    from onnxscript.rewriter import RewritePass

    try:
        folded = optimizer.fold_constants_ir(
            model,
            onnx_shape_inference=True,
            input_size_limit=FOLDED_ELEMENTS,
            output_size_limit=FOLDED_ELEMENTS,
            should_fold=_fold_small_fill,
        ).modified
    except RuntimeError as exc:
        raise ModelError(f"cannot compute constants in advance: {exc}") from exc
    rewritten = RewritePass(_general_rules())(model).modified
    passes.RemoveUnusedNodesPass()(model)
    return bool(folded or rewritten)


def apply_rules(model: ir.Model, rules: Sequence[Rule]) -> int:
    """Applies rules everywhere, bodies of control flow included, until none matches; returns how often one did.

    Rules are tried in the order given on every node, so an earlier one wins.
    """
    total = 0
    for _ in range(MAX_ROUNDS):
        done = sum(any(rule(node) for rule in rules) for node in all_nodes(model) if node.graph is not None)
        if not done:
            break
        total += done
        passes.RemoveUnusedNodesPass()(model)
    return total


def _general_rules() -> list[Any]:
    """Published rules that hold for every opset and shape.

    Left out are those for which ours do more (batch norm), those that need opset 18 (halving slices become Split), and those
    that name new constants after their input, so that a second match on one value makes the graph invalid (Min, Max and Clip).
    """
    from onnxscript.rewriter.rules import common

    return [
        *common.mul_by_1_rule.commute(),
        *common.add_0_rule.commute(),
        common.sub_0_rule,
        common.div_by_1_rule,
        common.dropout_zero_rule,
        common.dropout_inference_rule,
        common.cast_cast_rule,
        common.no_op_cast_rule,
        common.no_op_expand_rule,
        common.no_op_transpose_rule,
        common.transpose_transpose_rule,
        common.unsqueeze_unsqueeze_rule,
        common.flatten_to_reshape_rule,
        common.reshape_reshape_rule,
        common.collapse_slice_rule,
        common.collapse_slice2_rule,
        common.successive_relu_rule,
        common.normalize_pad_format_conv_rule,
        common.fuse_pad_into_conv_rule,
        common.remove_optional_bias_from_conv_rule,
        common.remove_optional_bias_from_conv_transpose_rule,
        *common.expand_before_binary_op_rules,
    ]


def _fold_small_fill(node: ir.Node) -> bool | None:
    """Computes small ConstantOfShape in advance too (shape arithmetic of exporters); otherwise the default decides."""
    if node.domain != "" or node.op_type != "ConstantOfShape":
        return None
    shape: Any = constant(node.inputs[0])
    return shape is not None and int(shape.prod()) <= SHAPE_ARITHMETIC_ELEMENTS
