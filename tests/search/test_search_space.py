"""Which recipes exist for which model, data and machine."""

import pytest
from search_samples import FORMATS, KNOBS, machine, space, traits

from dovetail import plugins
from dovetail.devices.probe import environment
from dovetail.search.space import chains, enumerate_space

RUNTIMES = ("onnxruntime", "openvino", "torch")


def test_every_recipe_stands_once_and_the_original_comes_first():
    proposals = space()
    assert len({p.recipe.key for p in proposals}) == len(proposals)
    assert not proposals[0].recipe.passes
    assert not proposals[0].recipe.options
    assert proposals[0].baseline


def test_a_network_with_data_gives_at_least_sixty_recipes_on_this_machine():
    here = environment()
    usable = {name: plugins.runtime(name) for name in RUNTIMES if plugins.runtime(name).missing() is None}
    knobs = {name: runtime.knobs(here) for name, runtime in usable.items()}
    proposals = enumerate_space(traits(), here, knobs, {name: runtime.formats for name, runtime in usable.items()})
    assert len({p.recipe.key for p in proposals}) == len(proposals) >= 60


def test_every_pass_of_the_space_is_registered():
    kinds = frozenset({"MatMul", "Softmax", "LayerNormalization", "Conv"})
    for chain in chains(traits(kinds=kinds, free_dims={"batch": 1}), machine("avx2")):
        for step in chain.passes:
            assert plugins.compression_pass(step.name).version == step.version


def quantising(proposals):
    return [s for p in proposals for s in p.recipe.passes if s.name in ("quantize_static", "quantize_nncf")]


@pytest.mark.parametrize("isa", [("avx2",), ("avx2", "avx512f", "avx512bw"), ("asimd",), ()])
def test_without_an_8_bit_dot_product_ranges_are_halved(isa):
    steps = quantising(space(machine(*isa)))
    assert steps
    assert all(dict(step.params).get("reduce_range") is True for step in steps)


@pytest.mark.parametrize("isa", ["avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"])
def test_with_an_8_bit_dot_product_ranges_are_whole(isa):
    steps = quantising(space(machine("avx2", isa)))
    assert steps
    assert not any("reduce_range" in dict(step.params) for step in steps)


def test_without_an_8_bit_dot_product_dynamic_weights_are_of_7_bits_too():
    for isa, reduced in ((("avx2",), True), (("avx2", "avx512_vnni"), None)):
        proposals = space(machine(*isa), kinds=frozenset({"MatMul"}))
        (recipe,) = [p.recipe for p in proposals if p.label == "dynamic int8 · onnxruntime"]
        assert dict(recipe.passes[-1].params).get("reduce_range") is reduced


def test_without_data_only_lossless_recipes_are_proposed():
    proposals = space(lossless_only=True, has_calibration=False)
    assert len(proposals) > 3
    assert all(p.lossless for p in proposals)
    assert all("precision" not in dict(p.recipe.options) for p in proposals)
    assert {step.name for p in proposals for step in p.recipe.passes} == {"clean"}


def test_without_calibration_samples_nothing_that_calibrates_is_proposed():
    names = {step.name for p in space(has_calibration=False) for step in p.recipe.passes}
    assert {"quantize_dynamic", "weight_only"} <= names
    assert not any(plugins.compression_pass(name).needs_calibration for name in names)


def test_a_quantised_model_is_not_quantised_again():
    assert {step.name for p in space(quantised=True) for step in p.recipe.passes} == {"clean"}


def test_free_dimensions_are_fixed_to_what_the_samples_share():
    chain = next(c for c in chains(traits(free_dims={"batch": 1}), machine("avx2")) if c.label == "static shapes")
    assert dict(chain.passes[-1].params)["dims"] == ("batch=1",)
    assert not [c for c in chains(traits(), machine("avx2")) if c.label == "static shapes"]


def test_a_runtime_gets_only_the_formats_it_takes():
    for proposal in space():
        targets = [dict(step.params).get("target") for step in proposal.recipe.passes]
        assert proposal.recipe.runtime == "openvino" or "openvino" not in targets


def test_baselines_are_the_unchanged_model_with_threads_and_precision_alone():
    baselines = [p for p in space() if p.baseline]
    assert {p.recipe.runtime for p in baselines} == set(KNOBS)
    assert all(not p.recipe.passes for p in baselines)
    assert {name for p in baselines for name, _ in p.recipe.options} == {"threads", "precision"}


def test_lossless_options_share_outputs_and_lossy_ones_do_not():
    original = [p for p in space() if not p.recipe.passes and p.recipe.runtime == "openvino"]
    by_precision = {dict(p.recipe.options).get("precision", "f32"): set() for p in original}
    for proposal in original:
        by_precision[dict(proposal.recipe.options).get("precision", "f32")].add(proposal.quality_key)
        assert proposal.lossless is ("precision" not in dict(proposal.recipe.options))
    assert [len(keys) for keys in by_precision.values()] == [1, 1]
    assert by_precision["f32"] != by_precision["bf16"]


def test_a_twin_is_a_family_of_the_space():
    proposals = space()
    families = {p.family for p in proposals}
    assert any(p.twin for p in proposals)
    assert all(p.twin in families for p in proposals if p.twin)


def lowered(**changes):
    """Proposals for LiteRT of a network whose samples share their sizes."""
    knobs = {**KNOBS, "litert": KNOBS["onnxruntime"][:1]}
    formats = {name: frozenset({"litert" if name == "litert" else "onnx"}) for name in knobs}
    proposals = enumerate_space(traits(**{"fixed_sizes": True, **changes}), machine("avx2", "avx512_vnni"), knobs, formats)
    return [p for p in proposals if p.recipe.runtime == "litert"]


def test_graphs_of_fixed_sizes_are_lowered_last_and_with_their_sizes():
    proposals = lowered(free_dims={"batch": 1})
    assert {"clean", "int8", "int8 nncf qdq"} <= {p.label.partition(" · ")[0] for p in proposals}
    for proposal in proposals:
        *_, last = proposal.recipe.passes
        assert last.name == "lower_litert"
        assert dict(last.params)["dims"] == ("batch=1",)
        assert [step.name for step in proposal.recipe.passes].count("lower_litert") == 1


def test_samples_of_different_sizes_leave_litert_out():
    assert lowered(fixed_sizes=False) == []


def test_a_lowered_twin_is_a_twin_of_a_lowered_family():
    proposals = lowered()
    families = {p.family for p in proposals}
    twins = {p.twin for p in proposals if p.twin}
    assert twins and twins <= families


def test_the_unchanged_model_runs_in_litert_only_where_that_is_its_own_format():
    assert all(p.recipe.passes for p in lowered())
    own = [p for p in lowered(native="litert") if not p.recipe.passes]
    assert own and own[0].baseline and own[0].lossless


def test_a_quantised_model_lowered_is_not_promised_to_be_unchanged():
    assert not any(p.lossless for p in lowered(quantised=True))
    assert any(p.lossless for p in lowered())


def test_what_speeds_up_matrix_products_alone_promises_no_more_than_their_share_allows():
    """A classifier behind convolutions is a hundredth of them: its weights in 8 bits cannot make the whole 3× faster."""
    small, all_of_it = (
        {p.label: p.gain[1] for p in space(product_share=share) if p.label.startswith(("dynamic", "int4"))}
        for share in (0.01, 1.0)
    )
    assert all(gain < 1.02 for gain in small.values())
    assert all_of_it["dynamic int8 · onnxruntime"] == pytest.approx(3.0)


def test_what_a_runtime_computes_in_float_is_not_hoped_to_be_faster_there():
    integers = {"openvino": frozenset({"int8"})}
    proposals = enumerate_space(
        traits(kinds=frozenset({"MatMul"})), machine("avx2", "avx512_vnni"), KNOBS, FORMATS, integers
    )
    most = {p.label: p.gain[1] for p in proposals if not p.recipe.options}
    assert most["dynamic int8 · openvino"] == 1.0 < most["dynamic int8 · onnxruntime"]
    assert most["int8 · openvino"] == most["int8 · onnxruntime"] > 1.0
    assert plugins.runtime("torch").integer_forms == frozenset()
