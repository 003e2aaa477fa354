"""The networks by name, as configs and the files of trained generators name them."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

from d3gan.models import dcgan, mlp, r3gan, resnet, sndcgan
from d3gan.models.base import GeneratorNetwork

NETWORKS: dict[str, ModuleType] = {"dcgan": dcgan, "mlp": mlp, "r3gan": r3gan, "resnet": resnet, "sndcgan": sndcgan}
"""Each has a ``Generator``, a ``Discriminator``, and ``initialize``, which draws the first weights of either."""


def make_generator(architecture: Mapping[str, Any]) -> GeneratorNetwork:
    """A generator with the layers that ``architecture`` describes, such as another generator's ``architecture``.

    Raises:
        KeyError, TypeError: it describes none.
    """
    arguments = dict(architecture)
    return cast(GeneratorNetwork, NETWORKS[arguments.pop("network", "dcgan")].Generator(**arguments))
