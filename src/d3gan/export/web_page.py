"""One HTML file that holds a generator and computes its images, or points, in the browser."""

import base64
import gzip
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from d3gan.data.points import mixture_in
from d3gan.export.discriminators import load_logits
from d3gan.export.onnx_file import generator_onnx, onnx_bytes
from d3gan.export.options import Export
from d3gan.export.web_runtime import BINARY, GLUE, SCRIPT, VERSION, RuntimeFile
from d3gan.models.base import GeneratorNetwork
from d3gan.randomness import draw_latents
from d3gan.runs.directory import home_of
from d3gan.runs.generator_file import read_facts
from d3gan.sampling.generate import GRID_CLASSES, sample
from d3gan.sampling.point_picture import GRID, POINTS, half_side
from d3gan.version import __version__

logger = logging.getLogger("d3gan")

IMAGES = 64
"""Latents of `d3gan sample` that the page of images holds, as many as its image grid shows."""
LARGEST_PAGE = 15_000_000
"""Bytes; a larger page gets a warning."""


def page_of(options: Export, generator: GeneratorNetwork, runtime: Mapping[RuntimeFile, bytes]) -> str:
    """The page's text.

    Everything is in it: the network as ONNX, onnxruntime-web, the first latents that ``d3gan sample`` draws from
    ``options.seed``. It asks nothing of any network, which a content security policy in it enforces, and makes the
    same images as Python up to rounding: the weights are float32, as in every generator's file.

    Args:
        options: the command's flags.
        generator: the one to show, in eval mode, on the CPU.
        runtime: as ``obtain_runtime`` returns it.

    Raises:
        ConfigError: ONNX is not installed.
        ExternalError: the run's checkpoint, which has the discriminators of points, is damaged.
    """
    facts = read_facts(options.run)
    shown: dict[str, Any] = {
        "nz": generator.nz,
        "shape": list(generator.sample_shape),
        "classes": list(generator.class_names[: generator.classes]),
        "rows": GRID_CLASSES,
        "seed": str(options.seed),  # JavaScript's numbers end at 2^53
    }
    networks = {"generator": generator_onnx(generator)}
    if generator.makes_points:
        points, networks_of_points = _about_points(options, generator, facts)
        shown |= points
        networks |= networks_of_points
    latents = {"latents": _latents(generator, options.seed, POINTS if generator.makes_points else IMAGES)}
    if classes := generator.classes:  # so many of each as `d3gan sample` has in a row, of the rows that are shown
        of_each = max(1, IMAGES // classes)
        rows = _latents(generator, options.seed, of_each * classes)
        latents["latents-of-rows"] = rows[: of_each * min(classes, GRID_CLASSES)]
    environment = Environment(
        loader=PackageLoader("d3gan.export"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    text = environment.get_template("play.html.jinja").render(
        title=title_of(facts),
        facts=[fact for fact in _sentences(generator, facts) if fact],
        shown=shown,
        packed={name: _packed(content) for name, content in networks.items()}
        | {name: _packed(drawn.astype("<f4").tobytes()) for name, drawn in latents.items()}
        | {"wasm": _packed(runtime[BINARY]), "glue": _packed(runtime[GLUE])},
        script=_inline(runtime[SCRIPT].decode()),
        css=_inline(_template(environment, "play.css")),
        js=_inline(_template(environment, "play.js")),
        points=generator.makes_points,
        sliders=min(generator.nz, 8),
        version=__version__,
        runtime=VERSION,
    )
    if len(text) > LARGEST_PAGE:
        logger.warning(
            f"the page has {len(text) / 1e6:.0f} MB, which mail programs and phones may refuse: it holds all weights"
        )
    return text


def title_of(facts: Mapping[str, Any]) -> str:
    """A generator's name for people: ``d3gan on mnist``."""
    return f"{facts.get('model', 'generator')} on {facts.get('dataset', 'unknown data')}"


def _about_points(
    options: Export, generator: GeneratorNetwork, facts: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What the page of points needs besides: how far to look, the modes, the discriminators as ONNX."""
    mixture = mixture_in(facts)
    centers: npt.NDArray[np.float64] = np.zeros((0, 2)) if mixture is None else mixture.centers
    if mixture is not None:
        half = half_side(mixture.centers)
    else:
        half = float(np.quantile(np.abs(sample(generator, POINTS, options.seed).numpy()), 0.99)) or 1.0
    about = {"half": half, "centers": centers.tolist(), "grid": GRID, "discriminators": 0}
    logits = load_logits(home_of(options.run), int(facts.get("step", -1)))
    if logits is None:
        return about, {}
    about["discriminators"] = len(logits.members)
    return about, {"discriminators": onnx_bytes(logits, {"points": torch.zeros(2, 2)}, ["logits"])}


def _latents(generator: GeneratorNetwork, seed: int, count: int) -> npt.NDArray[np.float32]:
    """Those of ``d3gan sample``, whose last numbers depend on how many are drawn."""
    latents: npt.NDArray[np.float32] = draw_latents(count, generator.nz, seed, "samples", device="cpu").numpy()
    return latents


def _sentences(generator: GeneratorNetwork, facts: Mapping[str, Any]) -> list[str]:
    made = "points" if generator.makes_points else f"images of {' x '.join(map(str, generator.sample_shape))}"
    classes = f"{generator.classes:,} classes" if generator.classes else ""
    step = f"{facts['step']:,} steps of training" if isinstance(facts.get("step"), int) else ""
    weights = {"ema": "averaged weights", "raw": ""}.get(str(facts.get("weights", "raw")), "")
    return [f"{generator.nz:,} latent numbers to {made}", classes, step, weights]


def _packed(content: bytes) -> Markup:
    """Bytes as base64 of gzip, which browsers unpack; the same text each time."""
    return Markup(base64.b64encode(gzip.compress(content, 9, mtime=0)).decode())  # noqa: S704 (letters, digits, + / =)


def _template(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _inline(text: str) -> Markup:
    """Text of our own, or of the verified runtime, as it may stand in a script or style element."""
    inlined = "\n".join(line for line in text.splitlines() if not line.startswith("//# sourceMappingURL"))
    assert "</s" not in inlined.lower(), "it would end the element"
    return Markup(inlined)  # noqa: S704
