"""matplotlib's figures as SVG inside an HTML page: light or dark with it, and none in the way of another."""

import io
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_COLOUR = re.compile(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})")
_REFERENCE = re.compile(r"(?:url\(|^)#([^)]*)")
_NUMBER = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
# What XML cannot hold: control characters, halves of characters. A folder's name may have them, and so a legend.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# Verdana has the widths of DejaVu Sans, which matplotlib lays text out with.
_FONT = re.compile(r"(font(?:-family)?: *[^;]*?)'?(?:DejaVu Sans|sans-serif)'?[^;]*")
_WANTED = {"g", "path", "use", "text", "tspan", "defs", "clipPath", "rect", "image", "linearGradient", "stop"}
_PAPER = "var(--paper, #ffffff)"
SMALLEST_SHARE = 0.58
"""Of a figure's own width; a smaller window scrolls it in its box. 7 inches of width then fill a phone's 400 px."""
# What matplotlib's <style> says of all elements; that one would hold for the whole page.
_INHERITED = {"fill": "currentColor", "stroke-linejoin": "round", "stroke-linecap": "butt"}


def inline_svg(figure: "Figure", prefix: str, title: str, description: str) -> str:
    """A figure as an ``<svg>`` element for the body of an HTML page.

    Text and axes take the page's colour (``currentColor``), greys a share of it, white the page's ground
    (``--paper``); other colours stay. The element has no size of its own, only a viewBox.

    Args:
        figure: drawn in black on transparent ground.
        prefix: goes before each id, so that the ids of several figures differ; letters, digits and hyphens.
        title: what the figure is called, for those who hear the page.
        description: what it shows, likewise.

    Returns:
        Markup: all text in it is escaped.
    """
    written = ElementTree.fromstring(_NO_XML.sub("\ufffd", _svg_text(figure)))
    values = (value for element in written.iter() for value in element.attrib.values())
    root = ElementTree.Element("svg", {"viewBox": written.attrib["viewBox"]} | _INHERITED)
    root.extend(_copies(written, prefix, {name for value in values for name in _REFERENCE.findall(value)}))
    # On a phone it shrinks no further than its text can be read.
    root.set("style", f"min-width: {SMALLEST_SHARE * float(written.attrib['viewBox'].split()[2]):.0f}pt")
    root.attrib |= {"role": "img", "aria-labelledby": f"{prefix}title {prefix}desc"}
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{prefix}{tag}"})
        element.text = _NO_XML.sub("\ufffd", text)
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")


def _svg_text(figure: "Figure") -> str:
    """What matplotlib writes: letters as text, which is small and can be searched; the same bytes each time."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "d3gan"}), warnings.catch_warnings():
        # A name in a script that the font lacks is laid out as boxes here, and shown by the browser's own font.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _copies(parent: ElementTree.Element, prefix: str, ids: set[str]) -> list[ElementTree.Element]:
    """The children that draw something, without name spaces, and of their ids those that something refers to."""
    copies = []
    for element in parent:
        tag = _local(element.tag) if isinstance(element.tag, str) else ""
        children = _copies(element, prefix, ids) if tag in _WANTED else []
        if tag not in _WANTED or (tag in ("g", "defs") and not children):
            continue
        copy = ElementTree.Element(tag, dict(_attributes(element, prefix, ids)))
        if tag in ("text", "tspan"):
            copy.text = element.text
            copy.tail = element.tail if _local(parent.tag) == "text" else None
        copy.extend(children)
        copies.append(copy)
    return copies


def _attributes(element: ElementTree.Element, prefix: str, ids: set[str]) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        name = _local(key)
        if name == "id":
            if value in ids:
                yield name, prefix + value
        elif name == "href":
            if value.startswith("#"):
                yield name, f"#{prefix}{value[1:]}"
            elif value.startswith("data:image/"):
                yield name, value
        elif name == "style":
            yield name, _style(value)
        elif name == "clip-path":
            yield name, value.replace("url(#", f"url(#{prefix}")
        elif not value.startswith("rotate(-0 "):
            yield name, " ".join(_NUMBER.sub(_rounded, value).split())


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _rounded(number: re.Match[str]) -> str:
    """A hundredth of a point is finer than any screen, and a third of matplotlib's digits."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _style(text: str) -> str:
    """A style with the page's colours in place of black, greys and white."""
    pairs = (part.partition(":") for part in _FONT.sub(r"\1'DejaVu Sans', Verdana, sans-serif", text).split(";"))
    style = {key.strip(): value.strip() for key, _, value in pairs if value}
    for key in ("fill", "stroke"):
        colour = _COLOUR.fullmatch(style.get(key, ""))
        if colour is None or len(set(colour.groups())) > 1:
            continue
        lightness = int(colour[1], 16) / 255
        if lightness == 1:
            style[key] = _PAPER
            continue
        style[key] = "currentColor"
        if lightness > 0:
            share = (1 - lightness) * float(style.get(f"{key}-opacity", 1))
            style[f"{key}-opacity"] = f"{share:.3f}"
    return "; ".join(f"{key}: {value}" for key, value in style.items())
