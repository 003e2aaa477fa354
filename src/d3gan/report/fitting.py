"""The page within its size: with as many pictures as there is room for."""

from collections.abc import Iterator, Sequence

from d3gan.comparison.results import Comparison
from d3gan.errors import ExternalError
from d3gan.report.embedded_images import COARSE, PLANS, Animation, Grids, Plan, read_grids, size_of
from d3gan.report.page import Contents

LARGEST_PAGE = 10_000_000
"""Bytes. Browsers, mail and code-hosting sites show a page of this size."""


def page_of(comparison: Comparison, animations: Sequence[Animation] = (), largest: int = LARGEST_PAGE) -> str:
    """The page's text, with as many pictures as fit.

    Args:
        comparison: of at least one run.
        animations: to show; where there is no room for all, the largest are left out.
        largest: bytes.

    Raises:
        ExternalError: it is too large even without pictures.
    """
    grids, remarks = read_grids(comparison.runs)
    contents = Contents(comparison, remarks)
    bare = len(contents.page([], PLANS[0], []).encode())
    for page in _ever_smaller(contents, grids, animations, largest - bare):
        if len(page.encode()) <= largest:
            return page
    raise ExternalError(
        f"the page takes {bare / 1e6:.1f} MB without a picture, and {largest / 1e6:g} MB are allowed; give fewer runs"
    )


def _ever_smaller(
    contents: Contents, grids: Sequence[Grids], animations: Sequence[Animation], room: int
) -> Iterator[str]:
    """Pages with ever fewer pictures, the first with all there are; ``room``: bytes that pictures may take.

    Grids are thinned, then compressed and scaled; then the largest animations go; then what is left of the grids.
    """
    by_size = sorted(animations, key=lambda each: each.size)
    tries = [(count, plan) for count in range(len(animations), -1, -1) for plan in PLANS[:-COARSE]]
    for count, plan in [*tries, *((0, plan) for plan in PLANS[-COARSE:])]:
        kept = [animation for animation in animations if animation in by_size[:count]]
        if size_of(grids, plan) + sum(animation.size for animation in kept) <= room:
            yield contents.page(grids, plan, kept, *_given_up(grids, plan, len(animations) - count))
    yield contents.page([], PLANS[-1], [], "Sample grids and animations are left out: the page would be too large.")


def _given_up(grids: Sequence[Grids], plan: Plan, animations: int) -> list[str]:
    """At most one remark: which pictures the page lacks."""
    thinned = any(len(each.run.sample_grids) > plan.frames for each in grids)
    parts = [f"it shows at most {plan.frames} sample grids of each run"] if thinned else []
    parts += ["sample grids are compressed with loss"] if grids and plan.quality else []
    parts += [f"they are scaled to {plan.scale:.0%} of their width"] if grids and plan.scale < 1 else []
    parts += [f"animations are left out ({animations} of them, the largest)"] if animations else []
    return [f"To keep this page small, {', '.join(parts)}."] if parts else []
