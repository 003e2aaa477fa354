"""The generators by name, as the files of trained ones name them."""

from collections.abc import Mapping
from typing import Any

from d3gan.models import dcgan, mlp
from d3gan.models.base import GeneratorNetwork

_GENERATORS: dict[str, type[GeneratorNetwork]] = {"dcgan": dcgan.Generator, "mlp": mlp.Generator}


def make_generator(architecture: Mapping[str, Any]) -> GeneratorNetwork:
    """A generator with the layers that ``architecture`` describes, such as another generator's ``architecture``.

    Raises:
        KeyError, TypeError: it describes none.
    """
    arguments = dict(architecture)
    return _GENERATORS[arguments.pop("network", "dcgan")](**arguments)
