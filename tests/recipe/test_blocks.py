"""Blocks of a recipe: what their uses become, what names mean in them, and where each mistake is shown."""

from __future__ import annotations

import json
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from trainer.errors import RecipeError
from trainer.recipe.document import Document, dump
from trainer.recipe.explanation import explain
from trainer.recipe.filling import computed
from trainer.recipe.json_schema import json_schema
from trainer.recipe.load import Loaded, load_recipe, recipe_of
from trainer.recipe.uses import MOST_LINES
from trainer.train.identity import resolved

RECIPES = Path(__file__).parents[2] / "recipes"
VALIDATOR = Draft7Validator(json_schema())
ONE = "{image: {preprocess: [{Reshape: {target_shape: [64]}}]}}"
TWO = (
    "{left: {field: image, preprocess: [{Reshape: {target_shape: [64]}}]}, "
    "right: {field: image, preprocess: [{Reshape: {target_shape: [64]}}]}}"
)
STEPS = "{image: {}}"
OUT = "    - Dense: {name: out, units: 10, activation: softmax}\n"
FIRE = """\
  blocks:
    fire:
      parameters: [squeeze, {expand: 8}]
      layers:
        - Dense: {name: squeezed, units: $squeeze}
        - Dense: {name: left, units: $expand, activation: relu}
        - Dense: {name: right, inputs: squeezed, units: $expand * 2}
        - Concatenate: {inputs: [left, right]}
"""
"Lines 6 to 13 of the text; layers begin in line 14, their first entry is line 15."
RESIDUAL = """\
  blocks:
    residual:
      layers:
        - Dense: {name: inner, inputs: input, units: 64}
        - Add: {inputs: [input, inner]}
"""


def text_of(model: str, inputs: str = ONE, rest: str = "") -> str:
    return (
        f"dataset:\n  source: digits\n  inputs: {inputs}\n  targets: {{label: {{}}}}\nmodel:\n{model}"
        f"compile: {{loss: sparse_categorical_crossentropy}}\n{rest}"
    )


def recipe(model: str, *sets: str, inputs: str = ONE) -> Loaded:
    document = Document.parse(text_of(model, inputs), "recipe.yaml").with_sets(list(sets))
    return recipe_of(document, "recipe", Path())


def calls(model: str, *sets: str, inputs: str = ONE) -> list[str]:
    """`layer < what it reads` for each call, in order."""
    graph = recipe(model, *sets, inputs=inputs).outline.graph
    assert graph is not None
    return [f"{graph.called(c.output)} < {' '.join(graph.called(n) for n in c.inputs)}" for c in graph.calls]


def spec(loaded: Loaded, name: str) -> dict[str, Any]:
    """The options of a layer."""
    return next(layer for layer in loaded.recipe.model.held() if layer.name == name).model_dump()


def problems(text: str, *sets: str) -> list[tuple[str, str, str]]:
    """(`line:column path`, message, hint) of each problem."""
    with pytest.raises(RecipeError) as caught:
        recipe_of(Document.parse(text, "recipe.yaml").with_sets(list(sets)), "recipe", Path())
    found = []
    for problem in caught.value.problems:
        assert problem.place is not None
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in problem.path)[1:]
        found.append((f"{problem.place.line}:{problem.place.column} {path}", problem.message, problem.hint))
    return found


def one(model: str, inputs: str = ONE) -> tuple[str, str, str]:
    (problem,) = problems(text_of(model, inputs))
    return problem


def layers(*lines: str) -> str:
    return "  layers:\n" + "".join(f"    - {line}\n" for line in lines) + OUT


def test_a_use_is_the_layers_of_its_block() -> None:
    loaded = recipe(FIRE + layers("fire: {name: fire2, squeeze: 4}"))
    assert [c.layer for c in loaded.outline.wiring.calls] == [
        "fire2_squeezed",
        "fire2_left",
        "fire2_right",
        "fire2",
        "out",
    ]
    assert calls(FIRE + layers("fire: {name: fire2, squeeze: 4}")) == [
        "fire2_squeezed < image",
        "fire2_left < fire2_squeezed",
        "fire2_right < fire2_squeezed",
        "fire2 < fire2_left fire2_right",
        "out < fire2",
    ]
    assert spec(loaded, "fire2_squeezed")["units"] == 4
    assert spec(loaded, "fire2_left")["units"] == 8
    assert spec(loaded, "fire2_right")["units"] == 16


def test_uses_without_a_name_are_numbered_as_layers_are() -> None:
    model = FIRE.replace("[squeeze,", "[{squeeze: 3},") + layers("fire", "fire", "fire: {name: last, inputs: fire}")
    found = calls(model.replace("Dense: {name: out,", "Add: {inputs: [fire_1, last]}\n    - Dense: {name: out,"))
    assert "fire_1_squeezed < fire" in found
    assert "last_squeezed < fire" in found
    assert "add < fire_1 last" in found


def test_a_repeated_use_goes_by_its_name_as_a_whole() -> None:
    model = FIRE + layers("fire: {name: stage, squeeze: 4, times: 3}", "Dense: {inputs: stage_1, units: 3}")
    found = calls(
        model.replace("name: out,", "name: out, inputs: both,") + "    - Add: {name: both, inputs: [a, b]}\n"
        "    - Dense: {name: a, inputs: stage, units: 3}\n    - Dense: {name: b, inputs: dense, units: 3}\n"
        "  outputs: [out]\n"
    )
    assert "stage_2_squeezed < stage_1" in found
    assert "stage_3_squeezed < stage_2" in found
    assert "stage < stage_3_left stage_3_right" in found
    assert "dense < stage_1" in found
    assert "a < stage" in found


def test_the_outputs_of_a_model_may_be_uses_that_are_repeated() -> None:
    model = FIRE + "  layers:\n    - fire: {name: out, squeeze: 5, expand: 10, times: 2}\n  outputs: [out]\n"
    loaded = recipe(
        model.replace("Concatenate", "Softmax")
        .replace("inputs: [left, right]", "inputs: left")
        .replace("        - Dense: {name: right, inputs: squeezed, units: $expand * 2}\n", "")
    )
    assert list(loaded.outline.wiring.outputs) == ["out"]


def test_each_repetition_may_have_values_of_its_own() -> None:
    use = "fire: {name: s, squeeze: 4, each: [{}, {squeeze: 5}, {expand: 2}]}"
    loaded = recipe(FIRE + layers(use))
    assert [spec(loaded, f"s_{n}_squeezed")["units"] for n in (1, 2, 3)] == [4, 5, 4]
    assert [spec(loaded, f"s_{n}_left")["units"] for n in (1, 2, 3)] == [8, 8, 2]


def test_once_is_no_repetition() -> None:
    assert calls(FIRE + layers("fire: {name: s, squeeze: 4, times: 1}"))[0] == "s_squeezed < image"
    assert calls(FIRE + layers("fire: {name: s, each: [{squeeze: 4}]}"))[0] == "s_squeezed < image"


def test_what_a_block_calls_its_input_is_the_line_above() -> None:
    found = calls(
        RESIDUAL + layers("Dense: {units: 64}", "Dense: {units: 64}", "residual: {times: 2}", "residual: {name: r}")
    )
    assert found[:6] == [
        "dense < image",
        "dense_1 < dense",
        "residual_1_inner < dense_1",
        "residual_1 < dense_1 residual_1_inner",
        "residual_2_inner < residual_1",
        "residual < residual_1 residual_2_inner",
    ]


def test_a_first_line_reads_the_only_input() -> None:
    assert calls(RESIDUAL + layers("residual: {name: r}"))[:2] == ["r_inner < image", "r < image r_inner"]


def test_a_block_reads_the_line_above_though_that_calls_a_layer_again() -> None:
    found = calls(RESIDUAL + layers("Dense: {name: step, units: 64}", "step", "residual: {name: r}"))
    assert found[1:4] == ["r_input < step", "r_inner < r_input", "r < r_input r_inner"]


def test_inputs_of_a_use() -> None:
    model = RESIDUAL + layers("Dense: {name: a, units: 64}", "Dense: {name: b, units: 64}", "residual: {inputs: a}")
    found = calls(
        model.replace("name: out,", "name: out, inputs: sum,") + "    - Add: {name: sum, inputs: [residual, b]}\n"
        "  outputs: [out]\n"
    )
    assert "residual < a residual_inner" in found


BESIDE = """\
  blocks:
    beside:
      inputs: [main, memory]
      layers:
        - Dense: {name: inner, inputs: main, units: 64}
        - Add: {inputs: [inner, memory]}
"""


@pytest.mark.parametrize("inputs", ["[left, right]", "{main: left, memory: right}", "{memory: right, main: left}"])
def test_several_inputs_by_place_or_by_name(inputs: str) -> None:
    found = calls(BESIDE + layers(f"beside: {{name: b, inputs: {inputs}}}"), inputs=TWO)
    assert found[:2] == ["b_inner < left", "b < b_inner right"]


def test_a_repetition_hands_on_the_first_input_and_keeps_the_others() -> None:
    found = calls(BESIDE + layers("beside: {name: b, inputs: [left, right], times: 3}"), inputs=TWO)
    assert found[:6] == [
        "b_1_inner < left",
        "b_1 < b_1_inner right",
        "b_2_inner < b_1",
        "b_2 < b_2_inner right",
        "b_3_inner < b_2",
        "b < b_3_inner right",
    ]


def test_the_parts_of_a_use_whose_last_layer_makes_several() -> None:
    model = """\
  blocks:
    reader:
      parameters: [units]
      layers:
        - Dense: {units: $units}
        - LSTM: {units: $units, return_state: true}
    writer:
      inputs: [state]
      layers:
        - Dense: {inputs: state/1, units: 4}
""" + layers(
        "reader: {name: r, units: 3}",
        "Dense: {name: a, inputs: r/0, units: 4}",
        "writer: {name: w, inputs: r}",
        "Add: {inputs: [a, w]}",
    )
    found = calls(model, inputs=STEPS)
    assert found[1:5] == ["r < r_dense", "a < r/0", "w < r/1", "add < a w"]


def test_blocks_in_blocks_have_the_names_of_both() -> None:
    model = (
        FIRE
        + """\
    stage:
      parameters: [size]
      layers:
        - fire: {name: first, squeeze: $size}
        - fire: {squeeze: $size * 2, times: 2}
        - Concatenate: {inputs: [first, fire, first_left]}
        - fire: {squeeze: 3, expand: $size / 2}
"""
        + layers("stage: {name: s, size: 4}", "stage: {size: 6}")
    )
    found = calls(model)
    assert found[:4] == [
        "s_first_squeezed < image",
        "s_first_left < s_first_squeezed",
        "s_first_right < s_first_squeezed",
        "s_first < s_first_left s_first_right",
    ]
    assert "s_fire < s_fire_2_left s_fire_2_right" in found
    assert "s_concatenate < s_first s_fire s_first_left" in found
    assert "s < s_left s_right" in found
    assert "stage_first_squeezed < s" in found
    assert spec(recipe(model), "s_fire_2_squeezed")["units"] == 8
    assert spec(recipe(model), "s_left")["units"] == 2


def test_a_block_whose_first_line_is_a_use() -> None:
    model = (
        RESIDUAL
        + """\
    twice:
      layers:
        - residual
        - residual
"""
        + layers("Dense: {name: a, units: 64}", "twice", "twice: {name: t, inputs: a}")
        .replace("name: out,", "name: out, inputs: [twice, t],")
        .replace("Dense: {name: out", "Add: {name: s")
    )
    found = calls(model.replace(", units: 10, activation: softmax", "") + OUT)
    assert found[1:5] == [
        "twice_residual_inner < a",
        "twice_residual < a twice_residual_inner",
        "twice_inner < twice_residual",
        "twice < twice_residual twice_inner",
    ]
    assert found[5] == "t_residual_inner < a"


def test_a_layer_called_again_inside_a_block() -> None:
    model = """\
  blocks:
    shared:
      inputs: [x, y]
      layers:
        - Dense: {name: eye, inputs: x, units: 8}
        - eye: {name: other, inputs: y}
        - eye: {inputs: y}
""" + layers("shared: {name: s, inputs: [left, right]}")
    found = problems(text_of(model, TWO))
    assert [m for _, m, _ in found] == [
        'no layer that leads to an output reads the input "left"',
        "what s_eye makes leads to no output (in s, line 14)",
        "what s_other makes leads to no output (in s, line 14)",
    ]
    good = model.replace("        - eye: {inputs: y}\n", "        - Subtract: {inputs: [eye, other]}\n")
    loaded = recipe(good, inputs=TWO)
    assert [c.layer for c in loaded.outline.wiring.calls] == ["s_eye", "s_eye", "s", "out"]
    assert calls(good, inputs=TWO) == ["s_eye < left", "s_other < right", "s < s_eye s_other", "out < s"]


def test_a_layer_called_again_last() -> None:
    model = """\
  blocks:
    deep:
      layers:
        - Dense: {name: step, units: 64}
        - step
        - step
""" + layers("deep: {name: d}")
    assert calls(model) == ["d_step < image", "d_step:2 < d_step", "d < d_step:2", "out < d"]


def test_names_of_a_block_are_not_those_outside() -> None:
    model = FIRE + layers(
        "Dense: {name: left, units: 3}", "Dense: {name: squeezed, units: 3}", "fire: {name: right, squeeze: 4}"
    )
    found = calls(model)
    assert found[:4] == ["left < image", "squeezed < left", "right_squeezed < squeezed", "right_left < right_squeezed"]


def test_blocks_inside_models() -> None:
    model = RESIDUAL + layers(
        "Dense: {units: 64}",
        "Model: {name: inner, layers: [{Dense: {units: 64}}, {residual: {name: r}}, residual]}",
        "Model: {name: other, layers: [{residual: {name: r}}]}",
        "Sequential: {name: chain, layers: [{Dense: {units: 4}}, plain, {plain: {times: 2}}]}",
    ).replace("  layers:", "    plain: {layers: [{Dense: {units: 5}}, ReLU]}\n  layers:", 1)
    loaded = recipe(model)
    held = {layer.name: layer for layer in loaded.recipe.model.held()}
    inner = [call.layer for call in held["inner"].wiring().calls]
    assert inner == ["dense", "r_inner", "r", "residual_inner", "residual"]
    assert [call.layer for call in held["chain"].wiring().calls][:3] == ["dense", "plain_dense", "plain"]


def test_models_inside_blocks_with_parameters_and_uses() -> None:
    model = (
        RESIDUAL
        + """\
    tower:
      parameters: [units]
      inputs: [a, b]
      layers:
        - Model:
            inputs: {x: a, y: b}
            layers:
              - Dense: {name: one, inputs: x, units: $units}
              - Dense: {name: two, inputs: y, units: 64}
              - residual: {inputs: two}
              - Concatenate: {inputs: [one, residual]}
"""
        + layers("tower: {name: t, units: 3, inputs: [left, right]}")
    )
    loaded = recipe(model, inputs=TWO)
    held = {layer.name: layer for layer in loaded.recipe.model.held()}
    assert list(held) == ["t", "out"]
    assert [call.layer for call in held["t"].wiring().calls][-3:] == ["residual_inner", "residual", "concatenate"]
    assert next(layer for layer in held["t"].held() if layer.name == "one").model_dump()["units"] == 3


def test_a_model_inside_a_wrapper_may_use_blocks() -> None:
    model = """\
  blocks:
    plain: {parameters: [units], layers: [{Dense: {units: $units}}, ReLU]}
""" + layers("TimeDistributed: {layer: {Sequential: {layers: [{plain: {units: 3}}, {plain: {units: 4}}]}}}", "Flatten")
    graph = recipe(model, inputs=STEPS).outline.graph
    assert graph is not None
    assert graph.shapes[graph.calls[0].output] == (None, 8, 4)


def test_a_parameter_may_be_a_layer_or_hold_mappings() -> None:
    model = """\
  blocks:
    any:
      parameters: [what, {start: {HeNormal: {seed: 3}}}, {norm: LayerNormalization}]
      layers:
        - $what
        - $norm
        - Dense: {units: 4, kernel_initializer: $start}
""" + layers("any: {name: a, what: {Dense: {units: 7}}}", "any: {name: b, what: ReLU, norm: Softmax, start: zeros}")
    loaded = recipe(model)
    made = [type(layer).__name__ for layer in loaded.recipe.model.held()]
    assert made == ["Dense", "LayerNormalization", "Dense", "ReLU", "Softmax", "Dense", "Dense"]
    assert spec(loaded, "a")["kernel_initializer"]["seed"] == 3


@pytest.mark.parametrize(
    ("a", "sign", "b", "made"),
    [(3, "*", 4, 12), (7, "/", 2, 3.5), (8, "/", 2, 4), (8, "-", 2.5, 5.5), (1, "+", 1, 2), (0.5, "*", 4, 2.0)],
)
def test_formulas(a: float, sign: str, b: float, made: float) -> None:
    assert computed(a, sign, b) == made
    assert type(computed(a, sign, b)) is type(made)


@pytest.mark.parametrize(("a", "sign", "b"), [(1, "/", 0), (10**15, "*", 10), (10**16, "-", 1), (float("inf"), "*", 0)])
def test_formulas_without_a_sensible_result(a: float, sign: str, b: float) -> None:
    with pytest.raises(ValueError, match=r"^expected (a|numbers) "):
        computed(a, sign, b)


def test_numbers_first_and_two_parameters() -> None:
    model = FIRE.replace("$expand * 2", "2 * $expand").replace("units: $squeeze}", "units: $squeeze + $expand}")
    loaded = recipe(model + layers("fire: {name: s, squeeze: 4}"))
    assert (spec(loaded, "s_right")["units"], spec(loaded, "s_squeezed")["units"]) == (16, 12)


MISTAKES = yaml.safe_load((Path(__file__).parent / "block_mistakes.yaml").read_text())
WRITTEN = {"fire": FIRE, "residual": RESIDUAL, "beside": BESIDE}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_shown_where_it_was_written(case: str) -> None:
    known = MISTAKES[case]
    model = textwrap.indent(known.get("model", ""), "  ") or WRITTEN[known["block"]]
    for old, new in known.get("changes", ()):
        assert old in model
        model = model.replace(old, new)
    model += layers(*known["layers"]) if "layers" in known else ""
    inputs = TWO if known.get("inputs") == "two" else ONE
    assert one(model, inputs) == (known["place"], known["message"], known.get("hint", ""))


DECLARED: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "a list of blocks": (
        "[1]",
        [("6:11 model.blocks", "expected a mapping from names of blocks to blocks, found [1]")],
    ),
    "a capital": (
        "{Fire: {layers: [ReLU]}}",
        [("6:12 model.blocks.Fire", 'expected the name of a block, found "Fire"')],
    ),
    "a number": ("{3: {layers: [ReLU]}}", [("6:12 model.blocks[3]", "expected the name of a block, found 3")]),
    "a layer": ("{Dense: {layers: [ReLU]}}", [("6:12 model.blocks.Dense", '"Dense" is a layer already')]),
    "no layers": ("{a: {}}", [("6:12 model.blocks.a.layers", "LayerBlock needs layers, which is missing")]),
    "nothing": ("{a: }", [("6:14 model.blocks.a.layers", "LayerBlock needs layers, which is missing")]),
    "text": ("{a: b}", [("6:15 model.blocks.a", 'expected the options of LayerBlock as a mapping, found "b"')]),
    "empty layers": ("{a: {layers: []}}", [("6:24 model.blocks.a.layers", "expected a list of layers, found []")]),
    "an unknown key": (
        "{a: {layer: [ReLU], layers: [ReLU]}}",
        [("6:16 model.blocks.a.layer", 'LayerBlock has no option "layer"')],
    ),
    "parameters of text": (
        "{a: {parameters: b, layers: [ReLU]}}",
        [
            (
                "6:28 model.blocks.a.parameters",
                "expected a list of names, such as [filters, {kernel_size: 3}], "
                'or a mapping from names to values, found "b"',
            )
        ],
    ),
    "a reserved parameter": (
        "{a: {parameters: [name], layers: [{Dense: {units: $name}}]}}",
        [("6:29 model.blocks.a.parameters[0]", 'expected the name of a parameter, found "name"')],
    ),
    "a parameter with a dash": (
        "{a: {parameters: {a-b: 3}, layers: [ReLU]}}",
        [("6:29 model.blocks.a.parameters.a-b", 'expected the name of a parameter, found "a-b"')],
    ),
    "a parameter twice": (
        "{a: {parameters: [b, {b: 3}], layers: [{Dense: {units: $b}}]}}",
        [("6:33 model.blocks.a.parameters[1].b", 'two parameters are called "b"')],
    ),
    "inputs twice": (
        "{a: {inputs: [x, x], layers: [{Add: {inputs: [x, x]}}]}}",
        [
            (
                "6:24 model.blocks.a.inputs",
                "expected a name of letters, digits and _, or a list of them, each once, found ['x', 'x']",
            )
        ],
    ),
    "an input that nothing reads": (
        "{a: {inputs: [x, y], layers: [{ReLU: {inputs: x}}]}}",
        [("6:24 model.blocks.a.inputs", 'no layer of the block a reads its input "y"')],
    ),
    "the only input, which nothing reads": (
        "{a: {layers: [{Add: {inputs: [b, b]}}, {ReLU: {name: b, inputs: b}}]}}",
        [("6:12 model.blocks.a", 'no layer of the block a reads its input "input"')],
    ),
    "a first layer that does not say what it reads": (
        "{a: {inputs: [x, y], layers: [ReLU, {Add: {inputs: [x, y]}}]}}",
        [
            (
                "6:41 model.blocks.a.layers[0]",
                "the first layer of a block with several inputs must say which it reads: x, y",
            )
        ],
    ),
    "two faulty blocks": (
        "{a: {layers: []}, b: {parameters: [c], layers: [ReLU]}}",
        [
            ("6:24 model.blocks.a.layers", "expected a list of layers, found []"),
            ("6:46 model.blocks.b.parameters[0]", "no layer of the block b uses $c"),
        ],
    ),
}


@pytest.mark.parametrize("case", DECLARED)
def test_a_declaration_is_checked_though_nothing_uses_it(case: str) -> None:
    blocks, expected = DECLARED[case]
    found = problems(text_of(f"  blocks: {blocks}\n" + layers("Flatten")))
    assert [(place, message) for place, message, _ in found] == expected


def test_a_faulty_block_does_not_hide_what_else_is_wrong() -> None:
    model = (
        FIRE.replace("$squeeze", "$squeze")
        + """\
    other: {parameters: [a], layers: [{Dense: {units: $a}}]}
"""
        + layers("fire: {name: s}", "other", "other: {b: 3}")
    )
    text = text_of(model, rest="fit: {epoch: 3}\n").replace("loss: sparse", "metrics: [acuracy], loss: sparse")
    assert [place for place, _, _ in problems(text)] == [
        "10:42 model.blocks.fire.layers[0].Dense.units",
        "17:7 model.layers[1]",
        "18:15 model.layers[2].other.b",
        "20:21 compile.metrics[0]",
        "21:7 fit.epoch",
    ]


def test_all_uses_with_a_wrong_value_are_told_at_once() -> None:
    model = FIRE + layers("fire: {squeeze: 0}", "fire: {squeeze: x}", "fire: {squeeze: 3, expand: 2.5}")
    text = text_of(model).replace("loss: sparse", "metrics: [acuracy], loss: sparse")
    assert [place.split()[0] for place, _, _ in problems(text)] == ["12:57", "15:23", "16:23", "17:34", "19:21"]


def test_blocks_that_are_null_are_none() -> None:
    assert calls("  blocks:\n" + layers("Flatten")) == ["flatten < image", "out < flatten"]


def exploding(depth: int, width: int) -> str:
    lines = ["  blocks:", "    b0: {layers: [ReLU]}"]
    for n in range(1, depth):
        lines.append(f"    b{n}: {{layers: [{', '.join([f'b{n - 1}'] * width)}]}}")
    return "\n".join(lines) + "\n" + layers(f"b{depth - 1}")


KEYS = ", ".join(f"k{i}: $v" for i in range(99))
HOSTILE = {
    "blocks of blocks of blocks": (
        exploding(8, 40),
        "expected blocks that make at most 5,000 layers in all, found more",
    ),
    "too deep": (exploding(10, 1), "expected blocks in blocks at most 8 deep, found more"),
    "times of times": (
        "  blocks:\n    a: {layers: [ReLU]}\n    b: {layers: [{a: {times: 5000}}]}\n"
        "    c: {layers: [{b: {times: 5000}}]}\n" + layers("c: {times: 5000}"),
        "expected blocks that make at most 5,000 layers in all, found more",
    ),
    "times of a mistake": (
        "  blocks:\n    a: {layers: [{ReLU: {}}]}\n    b: {layers: [{a: {x: 3}}]}\n"
        + "    c: {layers: [{b: {times: 5000}}]}\n"
        + layers("c: {times: 5000}"),
        'the block a has no parameter "x"',
    ),
    "wide blocks of mistakes": (
        exploding(7, 60).replace("b0: {layers: [ReLU]}", "b0: {layers: [{Dense: {inputs: nowhere}}]}"),
        'no layer of the block b0 reads its input "input"',
    ),
    "long values": (
        "  blocks:\n    a: {parameters: [v], layers: [{Dense: {units: $v}}]}\n"
        + layers(f"a: {{v: [{', '.join(['1'] * 9000)}], times: 5000}}"),
        "expected blocks that make at most 100,000 values in all, found more",
    ),
    "a value that grows": (
        "  blocks:\n    a0: {parameters: [v], layers: [{Dense: {units: $v}}]}\n"
        + "".join(
            f"    a{n}: {{parameters: [v], layers: [{{a{n - 1}: {{v: [$v, $v, $v, $v, $v, $v, $v, $v]}}}}]}}\n"
            for n in range(1, 8)
        )
        + layers("a7: {v: 1}"),
        "expected blocks that make at most 100,000 values in all, found more",
    ),
    "a mapping that grows": (
        "  blocks:\n    a0: {parameters: [v], layers: [{Dense: {units: $v * 2, inputs: $v}}]}\n"
        + "".join(f"    a{n}: {{parameters: [v], layers: [{{a{n - 1}: {{v: {{{KEYS}}}}}}}]}}\n" for n in range(1, 8))
        + layers("a7: {v: 1}"),
        "expected blocks that make at most 100,000 values in all, found more",
    ),
    "numbers that grow": (
        "  blocks:\n    a0: {parameters: [v], layers: [{Dense: {units: $v}}]}\n"
        + "".join(f"    a{n}: {{parameters: [v], layers: [{{a{n - 1}: {{v: $v * $v}}}}]}}\n" for n in range(1, 8))
        + layers(f"a7: {{v: {'9' * 90}}}"),
        "expected numbers up to 1e+15 in a formula, found a larger one",
    ),
    "a block in itself, again and again": (
        "  blocks:\n    a: {layers: [ReLU, {a: {times: 3}}]}\n" + layers("a: {times: 4}", "a: {name: b, times: 4}"),
        "a block can't stand in itself: a in a",
    ),
    "a wrong name in the place of a parameter, again and again": (
        "  blocks:\n    a: {parameters: [v], layers: [{Dense: {units: $v}}]}\n    b: {layers: [{a: {w: 3}}]}\n"
        + layers("b: {times: 3}", "b"),
        'the block a has no parameter "w"',
    ),
    "a block that is handed itself": (
        "  blocks:\n    a: {parameters: [what], layers: [$what]}\n" + layers("a: {what: {a: {what: ReLU}}}"),
        "a block can't stand in itself: a in a",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_explodes_is_refused_in_time(case: str) -> None:
    model, message = HOSTILE[case]
    document = Document.parse(text_of(model), "recipe.yaml")
    started = time.process_time()
    with pytest.raises(RecipeError) as caught:
        document.expanded()
    assert time.process_time() - started < 2  # under a second on an idle machine
    assert message in [p.message for p in caught.value.problems]
    assert len(caught.value.problems) < 100


def test_as_many_layers_as_may_be() -> None:
    times = MOST_LINES - 2
    document = Document.parse(text_of("  blocks:\n    a: {layers: [ReLU]}\n" + layers("a: {times: 2499}")), "r.yaml")
    assert len(document.expanded().value["model"]["layers"]) == 2500
    assert times > 2499


def test_flags_reach_uses_and_parameters() -> None:
    model = FIRE + layers("fire: {name: s, squeeze: 4}", "fire: {squeeze: 4}")
    loaded = recipe(model, "model.layers.s.squeeze=6", "model.layers.fire.expand=3")
    assert spec(loaded, "s_squeezed")["units"] == 6
    assert spec(loaded, "fire_left")["units"] == 3
    loaded = recipe(model, "model.blocks.fire.parameters.expand=5", "model.layers[1].expand=7")
    assert (spec(loaded, "s_left")["units"], spec(loaded, "fire_left")["units"]) == (5, 7)
    loaded = recipe(model, "model.blocks.fire.layers.left.units=9")
    assert spec(loaded, "s_left")["units"] == 9
    bare = FIRE.replace("[squeeze,", "{squeeze: 2,").replace("{expand: 8}]", "expand: 8}") + layers("fire")
    assert spec(recipe(bare, "model.layers.fire.squeeze=6"), "fire_squeezed")["units"] == 6
    assert spec(recipe(bare, "model.blocks.fire.parameters.squeeze=7"), "fire_squeezed")["units"] == 7


def test_a_flag_gives_a_needed_parameter_a_default() -> None:
    loaded = recipe(FIRE + layers("fire: {name: s}"), "model.blocks.fire.parameters.squeeze=6")
    assert spec(loaded, "s_squeezed")["units"] == 6


@pytest.mark.parametrize(
    "flag",
    ["model.layers.s.squeeze=-3", "model.blocks.fire.parameters.expand=-3", "model.blocks.fire.layers.left.units=-3"],
)
def test_a_wrong_flag_is_named(flag: str) -> None:
    model = FIRE + layers("fire: {name: s, squeeze: 4}")
    with pytest.raises(RecipeError) as caught:
        recipe(model, flag)
    assert f"--set {flag}" in str(caught.value)
    assert "expected an integer above 0, found -3" in str(caught.value)


def test_blocks_of_the_recipe_that_is_extended(tmp_path: Path) -> None:
    base = text_of(FIRE + layers("fire: {name: s, squeeze: 4}"))
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "child.yaml").write_text(
        textwrap.dedent("""\
        extends: base.yaml
        model:
          layers:
            - fire: {name: a, squeeze: 5}
            - fire: {name: b, squeeze: -5}
            - Dense: {units: 10, activation: softmax}
        """)
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "child.yaml")
    (problem,) = caught.value.problems
    assert problem.place is not None
    assert (Path(problem.place.file).name, problem.place.line) == ("child.yaml", 5)
    loaded = load_recipe(tmp_path / "child.yaml", ["model.layers.b.squeeze=6"])
    assert spec(loaded, "b_squeezed")["units"] == 6


def test_a_mistake_in_a_block_that_is_extended_names_both_files(tmp_path: Path) -> None:
    base = text_of(FIRE.replace("relu", "relo") + layers("Flatten"))
    (tmp_path / "base.yaml").write_text(base)
    child = "extends: base.yaml\nmodel:\n  layers:\n    - fire: {name: a, squeeze: 5}\n" + OUT
    (tmp_path / "child.yaml").write_text(child)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "child.yaml")
    (problem,) = caught.value.problems
    assert problem.place is not None
    assert (Path(problem.place.file).name, problem.place.line) == ("base.yaml", 11)
    assert problem.message.endswith(f"(in a, {tmp_path / 'child.yaml'}:4:7)")


def test_a_recipe_that_extends_changes_a_parameter_or_a_block(tmp_path: Path) -> None:
    model = FIRE.replace("[squeeze, {expand: 8}]", "{squeeze: 3, expand: 8, start: {HeNormal: {seed: 1}}}").replace(
        "units: $squeeze}", "units: $squeeze, kernel_initializer: $start}"
    )
    (tmp_path / "base.yaml").write_text(text_of(model + layers("fire: {name: s}")))
    child = (
        "extends: base.yaml\nmodel:\n  blocks:\n    fire:\n      parameters: {expand: 9, start: {LecunNormal: {}}}\n"
    )
    (tmp_path / "child.yaml").write_text(child)
    loaded = load_recipe(tmp_path / "child.yaml")
    assert spec(loaded, "s_left")["units"] == 9
    assert spec(loaded, "s_squeezed")["units"] == 3
    made = next(layer for layer in loaded.recipe.model.held() if layer.name == "s_squeezed").spec()["Dense"]
    assert list(made["kernel_initializer"]) == ["LecunNormal"]


def test_what_is_written_out_is_the_same_model_without_blocks() -> None:
    loaded = recipe(FIRE + layers("fire: {name: s, squeeze: 4, times: 2}"))
    written = dump(resolved(loaded.recipe))
    assert "$" not in written
    again = recipe_of(Document.parse(written), "again", Path())
    assert again.recipe.model == loaded.recipe.model
    assert resolved(again.recipe)["model"]["blocks"] is None


def test_a_document_without_blocks_is_left_as_it_is() -> None:
    document = Document.parse(text_of(layers("Flatten")), "recipe.yaml")
    assert document.expanded() == document
    expanded = Document.parse(text_of(FIRE + layers("fire: {squeeze: 4}")), "recipe.yaml").expanded()
    assert expanded.expanded() == expanded


def test_explained_as_a_key_of_a_recipe() -> None:
    (found,) = explain("model.blocks")
    assert [option.name for option in found.options] == ["parameters", "inputs", "layers"]
    assert all(option.text for option in found.options)
    assert "use them as if they were layers" in found.text


ACCEPTED = {
    "fire": FIRE + layers("fire: {name: s, squeeze: 4, times: 3}", "fire: {each: [{squeeze: 3}]}"),
    "residual": RESIDUAL + layers("residual", "residual: {inputs: residual}"),
    "beside": BESIDE + layers("beside: {inputs: [left, right]}", "beside: {inputs: {main: left, memory: right}}"),
    "inside a model": RESIDUAL + layers("Model: {layers: [residual, {residual: {times: 2}}]}"),
    "parameters as a mapping": FIRE.replace("[squeeze, {expand: 8}]", "{squeeze: 3, expand: 8}") + layers("fire"),
    "a layer as a parameter": "  blocks: {a: {parameters: [b], layers: [$b]}}\n"
    + layers("a: {b: {Dense: {units: 3}}}"),
}
REFUSED = {
    "a block without layers": "  blocks: {a: {parameters: [b]}}\n" + layers("a"),
    "an unknown key of a block": "  blocks: {a: {layers: [ReLU], layer: 3}}\n" + layers("a"),
    "blocks as a list": "  blocks: [a]\n" + layers("a"),
    "a line of two keys": "  blocks: {a: {layers: [{ReLU: {}, Dense: {}}]}}\n" + layers("a"),
}


def schema_says(model: str) -> list[str]:
    value = json.loads(json.dumps(Document.parse(text_of(model)).value))
    return [error.message for error in VALIDATOR.iter_errors(value)]


@pytest.mark.parametrize("case", ACCEPTED)
def test_editors_accept_blocks_and_uses(case: str) -> None:
    assert schema_says(ACCEPTED[case]) == []
    assert Document.parse(text_of(ACCEPTED[case], TWO if case == "beside" else ONE)).expanded()


@pytest.mark.parametrize("case", REFUSED)
def test_editors_refuse_what_the_checker_refuses(case: str) -> None:
    assert schema_says(REFUSED[case])
    assert problems(text_of(REFUSED[case]))


def test_every_block_that_is_shipped_is_used_and_sound() -> None:
    used = 0
    for path in sorted(RECIPES.glob("*.yaml")):
        blocks = (Document.read(path).value.get("model") or {}).get("blocks")
        if blocks:
            used += 1
            assert all(layer.name for layer in load_recipe(path).recipe.model.held() if "_" in str(layer.name))
    assert used >= 3
