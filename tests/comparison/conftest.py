"""What the tests of comparisons share."""

from tests.evaluation.conftest import network

__all__ = ["network"]
