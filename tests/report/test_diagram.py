"""Diagrams: what stands in them, that strangers' names stay text, and that the same data give the same bytes."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from trainer.errors import EnvironmentFault
from trainer.layers.base import Layer
from trainer.layers.graph import Graph, grown
from trainer.layers.lines import Again
from trainer.layers.wiring import wire
from trainer.report import diagram as diagrams
from trainer.report.diagram import LONGEST, Diagram, Edge, Node, draw, shown, size_of, text_width
from trainer.report.drawing import ArrowHead, Curve, Rectangle, Words, parts
from trainer.report.model_graph import of_graph
from trainer.report.png import drawable, png
from trainer.report.svg import svg

EVIL = "<script>alert('\"&')</script>"
SVG = "{http://www.w3.org/2000/svg}"


def model(*lines: Any, inputs: dict[str, Any], outputs: list[str] | None = None) -> Graph:
    read = [line if isinstance(line, Again) else Layer.parse(line) for line in lines]
    return grown(wire(read, list(inputs), outputs), inputs, "house")


def two_and_two() -> Graph:
    return model(
        {"Conv2D": {"name": "conv", "inputs": "picture", "filters": 4, "kernel_size": 3}},
        {"GlobalAveragePooling2D": {"name": "seen"}},
        {"Dense": {"name": "known", "inputs": "facts", "units": 4, "trainable": False}},
        {"Concatenate": {"name": "both", "inputs": ["seen", "known"]}},
        {"Dense": {"name": "kind", "units": 3}},
        {"Dense": {"name": "price", "inputs": "both", "units": 1}},
        inputs={"picture": (None, 8, 8, 1), "facts": (None, 5)},
        outputs=["kind", "price"],
    )


def joined(diagram: Diagram) -> set[tuple[str, str, str]]:
    return {(e.tail, e.head, e.label) for e in diagram.edges}


def drawn(diagram: Diagram) -> ElementTree.Element:
    """The SVG, held to be made of plain shapes only."""
    root = ElementTree.fromstring(svg(draw(diagram, "builtin")))
    for element in root.iter():
        tags = ("svg", "title", "desc", "g", "rect", "path", "text")
        assert element.tag.removeprefix(SVG) in tags
        assert not [k for k in element.attrib if k.startswith("on") or "href" in k or k == "style"]
    return root


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_inputs_layers_and_outputs_are_boxes() -> None:
    diagram = of_graph(two_and_two())
    boxes = {n.id: (n.kind, n.lines, n.tone) for n in diagram.nodes}
    assert boxes == {
        "input:picture": ("Input", ("(None, 8, 8, 1)",), "data"),
        "input:facts": ("Input", ("(None, 5)",), "data"),
        "conv:1": ("Conv2D", ("(None, 6, 6, 4) · 40 params",), "weights"),
        "seen:1": ("GlobalAveragePooling2D", ("(None, 4)",), "plain"),
        "known:1": ("Dense", ("(None, 4) · 24 params · frozen",), "frozen"),
        "both:1": ("Concatenate", ("(None, 8)",), "plain"),
        "kind:1": ("Dense", ("(None, 3) · 27 params",), "weights"),
        "price:1": ("Dense", ("(None, 1) · 9 params",), "weights"),
        "output:kind": ("Output", (), "data"),
        "output:price": ("Output", (), "data"),
    }
    assert joined(diagram) == {
        ("input:picture", "conv:1", ""),
        ("conv:1", "seen:1", ""),
        ("input:facts", "known:1", ""),
        ("seen:1", "both:1", ""),
        ("known:1", "both:1", ""),
        ("both:1", "kind:1", ""),
        ("both:1", "price:1", ""),
        ("kind:1", "output:kind", ""),
        ("price:1", "output:price", ""),
    }
    assert diagram.title == "house"


def test_a_layer_called_again_has_a_box_for_each_call() -> None:
    graph = model(
        {"Dense": {"name": "read", "inputs": "left", "units": 4}},
        Again(layer="read", inputs=["right"], name="other"),
        {"Add": {"name": "both", "inputs": ["read", "other", "read"]}},
        inputs={"left": (None, 3), "right": (None, 3)},
    )
    diagram = of_graph(graph)
    first, second = (n for n in diagram.nodes if n.title == "read")
    assert (first.lines, first.dashed) == (("(None, 4) · 16 params · call 1 of 2",), False)
    assert (second.lines, second.dashed) == (("(None, 4) · same weights · call 2 of 2",), True)
    assert {(first.id, "both:1", "×2"), (second.id, "both:1", "")} < joined(diagram)


def test_a_layer_that_makes_several_says_which_is_read() -> None:
    graph = model(
        {"LSTM": {"name": "first", "units": 4, "return_state": True}},
        {"Add": {"name": "states", "inputs": ["first/1", "first/2"]}},
        {"Bidirectional": {"name": "ways", "inputs": "words", "layer": {"GRU": {"units": 2}}}},
        {"Concatenate": {"name": "all", "inputs": ["first/0", "states", "ways"]}},
        inputs={"words": (None, 7, 3)},
    )
    diagram = of_graph(graph)
    boxes = {n.title: n for n in diagram.nodes if n.kind not in ("Input", "Output")}
    assert boxes["first"].lines == ("(None, 4)", "(None, 4)", "(None, 4) · 128 params")
    assert boxes["ways"].kind == "Bidirectional(GRU)"
    assert {("first:1", "states:1", "output 1, output 2"), ("first:1", "all:1", "output 0")} < joined(diagram)
    root = drawn(diagram)
    assert "output 1, output 2" in texts(root)


def nested() -> Graph:
    inner = {"layers": [{"Dense": {"units": 4}}, {"Sequential": {"name": "deep", "layers": [{"Dense": {"units": 2}}]}}]}
    return model(
        {"Sequential": {"name": "tower", "trainable": False, **inner}},
        {"Dense": {"units": 1}},
        inputs={"x": (None, 3)},
    )


def test_a_model_inside_is_a_box_or_a_frame() -> None:
    closed = of_graph(nested()).nodes[1]
    assert (closed.title, closed.kind, closed.inside) == ("tower", "Sequential", None)
    assert closed.lines == ("(None, 2) · 26 params · frozen",)
    tower = of_graph(nested(), expand=True).nodes[1].inside
    assert tower is not None
    assert [n.title for n in tower.nodes] == ["input", "dense", "deep", "deep"]
    assert tower.nodes[1].tone == "frozen", "what holds it is frozen"
    deep = tower.nodes[2].inside
    assert deep is not None
    assert [n.kind for n in deep.nodes] == ["Input", "Dense", "Output"]


@pytest.mark.parametrize("engine", ["builtin", "auto"])
def test_what_is_in_a_frame_stands_in_it(engine: Any) -> None:
    found: list[tuple[str, Rectangle]] = []
    for part in parts(draw(of_graph(nested(), expand=True), engine)):
        found += [(part.name, shape) for shape in part.shapes if isinstance(shape, Rectangle)]
    frames = [r for name, r in found if name in ("tower", "deep")]
    assert len(frames) == 2
    held = [r for name, r in found if name.startswith("dense Dense (None, 4)")]
    assert len(held) == 1
    for outer, inner in ((frames[0], frames[1]), (frames[0], held[0])):
        assert outer.x < inner.x
        assert inner.x + inner.width < outer.x + outer.width
        assert outer.y + 30 < inner.y, "the frame's own text stands above"
        assert inner.y + inner.height < outer.y + outer.height


def test_svg_tells_what_it_shows() -> None:
    root = drawn(of_graph(two_and_two()))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "house"
    told = root.findtext(f"{SVG}desc") or ""
    assert told.startswith("10 nodes, 9 connections: picture to conv, ")
    words = texts(root)
    assert {"conv", "Conv2D", "(None, 6, 6, 4) · 40 params"} < set(words)
    assert len(words) == 8 * 3 + 2 * 2
    arrows = [g.findtext(f"{SVG}title") for g in root.iter(f"{SVG}g") if g.find(f"{SVG}path") is not None]
    assert len(arrows) == 9
    assert "seen → both" in arrows


def test_many_connections_are_told_in_part() -> None:
    nodes = tuple(Node(str(n), f"n{n}") for n in range(300))
    edges = tuple(Edge(str(n), str(n + 1)) for n in range(299))
    told = drawn(Diagram("long", nodes, edges)).findtext(f"{SVG}desc") or ""
    assert told.endswith("n199 to n200 and 99 more")


@pytest.mark.parametrize(
    "name",
    [
        EVIL,
        "größe",
        "名前",
        "ответ",
        "a" * 500,
        "$\\frac{1}{2}$",
        "\x1b[31m\u202eabc",
        "a\x00b",
        "\ud800",
        "\ufffe",
        " ",
    ],
)
def test_names_of_strangers_stay_text(name: str) -> None:
    nodes = (Node("a", name, name, (name,), "weights"), Node(name + "id", "b"))
    root = drawn(Diagram(name, nodes, (Edge("a", name + "id", name),)))
    assert texts(root)[0] == shown(name)
    assert len(texts(root)) == 5
    assert png(draw(Diagram(name, nodes, (Edge("a", name + "id", name),)), "builtin"))[:4] == b"\x89PNG"


def test_a_script_is_only_letters() -> None:
    text = svg(draw(Diagram(EVIL, (Node(EVIL, EVIL, EVIL, (EVIL,)),)), "builtin"))
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert('\"&amp;')&lt;/script&gt;") >= 4


def test_long_names_lose_their_middle() -> None:
    name = "a_very_long_name_of_a_layer_that_tells_all_that_it_does_in_block_12"
    assert len(shown(name)) == LONGEST
    assert shown(name).startswith("a_very_long_name")
    assert shown(name).endswith("_in_block_12")
    assert shown("\n a \t b ") == "a b"


def test_texts_fit_into_their_boxes() -> None:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    for text in ("conv2d_1", "GlobalAveragePooling2D", "(None, 28, 28, 32) · 18,496 params", "größe_ñandú", "WWW%%@mm"):
        for size, bold in ((13.0, True), (11.0, False)):
            font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
            real = TextPath((0, 0), text, size=size, prop=font).get_extents().width
            assert real < text_width(text, size, bold=bold) + 1.5
            assert text_width(text, size, bold=bold) < 1.35 * real + 6
    widths = {size_of(Node("a", name))[0] for name in ("a", "b", "dense", "conv2d")}
    assert len(widths) == 1, "short names give boxes of one width"


def test_png_shows_the_same_shapes() -> None:
    drawing = draw(of_graph(two_and_two()), "builtin")
    data = png(drawing)
    assert data == png(draw(of_graph(two_and_two()), "builtin"))
    picture = matplotlib.image.imread(io.BytesIO(data))
    assert picture.shape == (2 * drawing.layout.height, 2 * drawing.layout.width, 4)
    box = drawing.layout.boxes[2]
    blue = picture[int(2 * box.top) + 8, int(2 * box.left) + 12, :3]
    assert [round(255 * c) for c in blue.tolist()] == [0xE8, 0xF1, 0xFB]
    assert picture[2, 2, :3].tolist() == [1.0, 1.0, 1.0]
    (x, y) = drawing.layout.routes[0][-1]
    assert picture[int(2 * y) - 8, int(2 * x), :3].max() < 0.6, "the arrow's tip is there"


def test_svg_is_the_same_for_the_same_graph() -> None:
    assert svg(draw(of_graph(nested(), expand=True))) == svg(draw(of_graph(nested(), expand=True)))


def test_a_huge_graph_becomes_a_smaller_png() -> None:
    nodes = tuple(Node(str(n), f"n{n}") for n in range(600))
    edges = tuple(Edge(str(n), str(n + 1)) for n in range(599))
    drawing = draw(Diagram("long", nodes, edges), "builtin")
    picture = matplotlib.image.imread(io.BytesIO(png(drawing)))
    assert drawing.layout.height > 30_000
    assert 29_000 < picture.shape[0] <= 30_001


def test_letters_that_the_font_lacks_are_boxes_in_png() -> None:
    assert drawable("a名ñ", "bold") == "a\u25a1ñ"


def test_every_edge_has_a_line_and_a_head() -> None:
    for engine in ("builtin", "auto"):
        shapes = [s for part in parts(draw(of_graph(two_and_two()), engine)) for s in part.shapes]
        for kind, count in ((Curve, 9), (ArrowHead, 9), (Rectangle, 10), (Words, 28)):
            assert len([s for s in shapes if isinstance(s, kind)]) == count


def test_diagrams_as_data() -> None:
    for graph in (two_and_two(), nested()):
        diagram = of_graph(graph, expand=True)
        assert Diagram.of_data(json.loads(json.dumps(diagram.as_data()))) == diagram


@pytest.mark.parametrize(
    "data",
    [
        None,
        "graph",
        {},
        {"title": "a", "nodes": [1], "edges": []},
        {"title": "a", "nodes": [{"id": "a"}], "edges": []},
        {"title": "a", "nodes": [{**Node("a", "a").__dict__, "tone": "loud"}], "edges": []},
        {"title": "a", "nodes": [{**Node("a", "a").__dict__, "lines": 3}], "edges": []},
        {"title": "a", "nodes": [Node("a", "a").__dict__] * 2, "edges": []},
        {"title": "a", "nodes": [], "edges": [{"tail": "a", "head": "b", "label": ""}]},
    ],
)
def test_data_that_are_no_diagram(data: Any) -> None:
    with pytest.raises(ValueError, match=r"diagram|tone|boxes"):
        Diagram.of_data(data)


def test_graphviz_is_asked_first_and_can_be_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    diagram = of_graph(two_and_two())
    monkeypatch.setenv("PATH", str(tmp_path))
    ours = draw(diagram, "builtin")
    assert draw(diagram, "auto") == ours
    with pytest.raises(EnvironmentFault, match="not on the PATH"):
        draw(diagram, "graphviz")
    asked: list[int] = []

    def fails(sizes: Any, arcs: Any) -> Any:
        asked.append(len(sizes))
        raise EnvironmentFault("it is tired")

    monkeypatch.setattr(diagrams, "installed", lambda: True)
    monkeypatch.setattr(diagrams, "placed_by_dot", fails)
    assert draw(diagram, "auto") == ours
    assert asked == [10]
    with pytest.raises(EnvironmentFault, match="tired"):
        draw(diagram, "graphviz")
