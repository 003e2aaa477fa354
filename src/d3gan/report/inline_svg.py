"""matplotlib figures as SVG inside an HTML page, in the colors of the page's light or dark scheme."""

import io
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import matplotlib

from d3gan.plotting import BLUE, SKY, YELLOW

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_COLOR = re.compile(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})")
_REFERENCE = re.compile(r"(?:url\(|^)#([^)]*)")
_NUMBER = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
# What XML cannot hold: control characters, halves of characters. Folder names, and so legends, may have them.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# Verdana has the widths of DejaVu Sans, which matplotlib lays text out with.
_FONT = re.compile(r"(font(?:-family)?: *[^;]*?)'?(?:DejaVu Sans|sans-serif)'?[^;]*")
_DRAWN = {"g", "path", "use", "text", "tspan", "defs", "clipPath", "rect", "image", "linearGradient", "stop"}
_PAPER = "var(--paper, #ffffff)"
# Colors that are faint on the page's light or dark ground, and the page's variables for them.
_FAINT = {BLUE.lower(): "--blue", SKY.lower(): "--sky", YELLOW.lower(): "--yellow"}
SMALLEST_SHARE = 0.81
"""Share of a figure's own width; a narrower window scrolls. A figure of 5 inches then fills a phone's 400 px, and
text of 9 points has 10 of them."""
# What matplotlib's <style> sets for all elements; in the page it would apply to everything.
_INHERITED = {"fill": "currentColor", "stroke-linejoin": "round", "stroke-linecap": "butt"}


def inline_svg(figure: "Figure", prefix: str, title: str, description: str) -> str:
    """A figure as an ``<svg>`` element for the body of an HTML page.

    Text and axes take the page's color (``currentColor``), greys a share of it, white the page's background
    (``--paper``); other colors stay, those that
    would be faint as a variable (``--blue``). The element has no size of its own, only a viewBox.

    Args:
        figure: drawn in black on a transparent background.
        prefix: of each id, so that the ids of several figures differ; letters, digits and hyphens.
        title: of the figure, for screen readers.
        description: what the figure shows, for screen readers.

    Returns:
        Markup: all text in it is escaped.
    """
    svg = ElementTree.fromstring(_NO_XML.sub("\ufffd", _svg_text(figure)))  # noqa: S314 (Matplotlib wrote it, just now)
    values = (value for element in svg.iter() for value in element.attrib.values())
    root = ElementTree.Element("svg", {"viewBox": svg.attrib["viewBox"]} | _INHERITED)
    root.extend(_copies(svg, prefix, {name for value in values for name in _REFERENCE.findall(value)}))
    # On a phone the figure shrinks only as far as its text can be read.
    root.set("style", f"min-width: {SMALLEST_SHARE * float(svg.attrib['viewBox'].split()[2]):.0f}pt")
    root.attrib |= {"role": "img", "aria-labelledby": f"{prefix}title {prefix}desc"}
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{prefix}{tag}"})
        element.text = _NO_XML.sub("\ufffd", text)
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")


def _svg_text(figure: "Figure") -> str:
    """What matplotlib writes, the same bytes each time; letters stay text, which is small and can be searched."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "d3gan"}), warnings.catch_warnings():
        # matplotlib lays out a script that its font lacks as boxes; the browser shows it in a font of its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _copies(parent: ElementTree.Element, prefix: str, ids: set[str]) -> list[ElementTree.Element]:
    """The children that draw something, without name spaces and without ids that nothing refers to."""
    copies = []
    for element in parent:
        tag = _local(element.tag) if isinstance(element.tag, str) else ""
        children = _copies(element, prefix, ids) if tag in _DRAWN else []
        if tag not in _DRAWN or (tag in ("g", "defs") and not children):
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
    """A style with the page's colors in place of black, greys and white."""
    pairs = (part.partition(":") for part in _FONT.sub(r"\1'DejaVu Sans', Verdana, sans-serif", text).split(";"))
    style = {key.strip(): value.strip() for key, _, value in pairs if value}
    for key in ("fill", "stroke"):
        if variable := _FAINT.get(style.get(key, "")):
            style[key] = f"var({variable}, {style[key]})"
        color = _COLOR.fullmatch(style.get(key, ""))
        if color is None or len(set(color.groups())) > 1:
            continue
        lightness = int(color[1], 16) / 255
        if lightness == 1:
            style[key] = _PAPER
            continue
        style[key] = "currentColor"
        if lightness > 0:
            share = (1 - lightness) * float(style.get(f"{key}-opacity", 1))
            style[f"{key}-opacity"] = f"{share:.3f}"
    return "; ".join(f"{key}: {value}" for key, value in style.items())
