"""Compares runs: reads them, and says, draws and tabulates how the variants differ."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d3gan.comparison.curves import AXES, band_of
from d3gan.comparison.formatting import seeds_text
from d3gan.comparison.grouping import (
    Figures,
    Setting,
    check_against,
    figures_by_dataset,
    images_a_step,
    last_step,
    pairs_of,
    settings_of,
)
from d3gan.comparison.paired import PairedComparison, contest_of
from d3gan.comparison.plots_outcomes import (
    behaviour_drawings,
    contest_drawings,
    scaling_drawings,
    throughput_drawings,
)
from d3gan.comparison.plots_quality import quality_drawings
from d3gan.comparison.results import Comparison, Table
from d3gan.comparison.runs import Run, read_runs
from d3gan.comparison.tables import tables_of
from d3gan.comparison.variants import LASTING_KEYS, VARIANT_KEYS
from d3gan.comparison.verdict import verdict_of
from d3gan.config.train_config import TrainConfig
from d3gan.evaluation.metric_names import metric_label, metrics_of, reasons_of
from d3gan.files import disk_errors, write_text
from d3gan.plotting import save


def compare_runs(
    paths: Sequence[Path], *, against: str = "", scaling: str = "", base: TrainConfig | None = None
) -> Comparison:
    """Compares runs of any number of variants, data sets, batch sizes and seeds.

    Args:
        paths: run directories.
        against: the variant that all others are compared with. Empty: ``pairs_of`` of the settings decides.
        scaling: folder that ``d3gan scale`` wrote, whose figures go along; empty: none.
        base: what the variants share, see ``read_runs``; None: what most runs have.

    Returns:
        What is known of them; figures are drawn when they are wanted.

    Raises:
        ConfigError: a path holds no run, ``against`` is none of the variants, or ``scaling`` holds no scaling.json.
        ExternalError: a run cannot be read.
    """
    runs = read_runs(paths, base)
    settings = settings_of(runs)
    against = check_against(settings, against)
    figures = figures_by_dataset(runs)
    contests = [
        contest
        for setting in settings
        for pair in pairs_of(setting, against)
        if (fid := figures[setting.dataset].fid) and (contest := contest_of(setting, *pair, fid)) is not None
    ]
    drawings = [
        *quality_drawings(settings, figures),
        *contest_drawings(contests),
        *behaviour_drawings(settings, figures),
        *throughput_drawings(settings),
        *(scaling_drawings(scaling) if scaling else ()),
    ]
    tables, verdict = tables_of(settings, contests, figures), verdict_of(contests)
    remarks = [remark for setting in settings for remark in _remarks(setting, figures[setting.dataset].fid)]
    remarks += _left_out(runs, settings)
    document = _document(settings, contests, tables, verdict, remarks, figures)
    return Comparison(runs, verdict, drawings, tables, document, remarks)


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes comparison.json, and every figure as .png and .svg into the folder figures.

    Args:
        comparison: as ``compare_runs`` makes it.
        folder: made where it is missing.

    Returns:
        The files written.

    Raises:
        ExternalError: a file cannot be written.
    """
    figures = folder / "figures"
    with disk_errors(figures, "choose another folder with --out"):
        figures.mkdir(parents=True, exist_ok=True)
    paths = [folder / "comparison.json"]
    write_text(paths[0], json.dumps(comparison.document, indent=1) + "\n")
    for drawing in comparison.drawings:
        figure = drawing.draw()
        if not figure.texts:  # those of `d3gan scale` have a title
            figure.suptitle(drawing.title, fontsize=11, parse_math=False)
        for ending in (".svg", ".png"):
            paths.append(figures / f"{drawing.name}{ending}")
            save(figure, paths[-1])
    return paths


def _remarks(setting: Setting, fid: str) -> list[str]:
    """What a reader must know before trusting a comparison."""
    found = []
    runs = [run for seeds in setting.variants.values() for run in seeds.values()]
    if lacking := [run.name for run in runs if fid and not any(fid in line for line in run.evaluations)]:
        found.append(f"without {metric_label(fid)}, so not compared: {', '.join(lacking)}")
    found += [text for run in runs for text in _not_computed(run)]
    ends = {name: sorted({last_step(run) for run in own.values()}) for name, own in setting.variants.items()}
    if len({step for steps in ends.values() for step in steps}) > 1:
        parts = (f"{name} {' and '.join(f'{step:,}' for step in steps)}" for name, steps in ends.items())
        found.append(f"runs are of different length in iterations: {', '.join(parts)}")
    fewest = min(len(own) for own in setting.variants.values())
    if fewest < 3:
        found.append(f"a variant has {seeds_text(fewest)} only; intervals need several")
    differing = {what: values for what, values in _conditions(runs).items() if len(values) > 1}
    found += [f"runs differ in {what}: {', '.join(sorted(values))}" for what, values in differing.items()]
    if others := sorted(set().union(*map(_distances, runs)) - {fid}):
        labels = ", ".join(map(metric_label, others))
        found.append(f"not compared, since most runs have {metric_label(fid)}: {labels}")
    return [f"{setting.name}: {text}." for text in found]


def _not_computed(run: Run) -> list[str]:
    """Which metrics some evaluations of a run could not compute: how many, the first one's step and reason."""
    failed: dict[str, list[tuple[int, str]]] = {}
    for line in run.evaluations:
        for metric, reason in reasons_of(line).items():
            failed.setdefault(metric, []).append((int(line["step"]), reason))
    return [
        f"{run.name}: {metric} not computed at {len(steps)} of {len(run.evaluations)} evaluations, first at step "
        f"{steps[0][0]:,}: {steps[0][1]}"
        for metric, steps in failed.items()
    ]


def _left_out(runs: Sequence[Run], settings: Sequence[Setting]) -> list[str]:
    """Which runs are not compared, since another one has their variant and seed, and what makes them a variant."""
    counted = [run for setting in settings for own in setting.variants.values() for run in own.values()]
    left = [run for run in runs if not any(run is other for other in counted)]
    if not left:
        return []
    said = f"Left out, since another run has the same variant and seed: {', '.join(run.name for run in left)}."
    passing = [key for key in VARIANT_KEYS if key not in LASTING_KEYS]
    alike = [(run, other) for run in left for other in counted if _stand_in(run, other)]
    if keys := [key for key in passing if any(getattr(a.config, key) != getattr(b.config, key) for a, b in alike)]:
        said += f" They differ in {', '.join(keys)}; to compare them, put +{keys[0]}=VALUE into the folder's name."
    return [said]


def _stand_in(run: Run, other: Run) -> bool:
    return (run.dataset, run.variant, run.config.seed) == (other.dataset, other.variant, other.config.seed)


def _distances(run: Run) -> set[str]:
    names = {name for line in run.evaluations for name in metrics_of(line)}
    return {name for name in names if name.startswith("fid_") and not name.startswith("fid_64_features")}


def _conditions(runs: Sequence[Run]) -> dict[str, set[str]]:
    """What should be alike between runs that are compared: how they were evaluated, and on what they ran."""
    lines = [line for run in runs for line in run.evaluations]
    last = [run.sessions[-1] for run in runs if run.sessions]
    return {
        "the number of images evaluated": {str(line["num_samples"]) for line in lines if "num_samples" in line},
        "the weights evaluated": {str(line["generator"]) for line in lines if "generator" in line},
        "the device, so seconds are not comparable": {
            str(session.get("device_name") or session.get("device")) for session in last
        },
        "the number of threads, so seconds are not comparable": {str(s["threads"]) for s in last if "threads" in s},
        "the number of processes": {str(session["world_size"]) for session in last if "world_size" in session},
        "compile, so seconds are not comparable": {str(s["compile"]) for s in last if "compile" in s},
        "cuda_graph, so seconds are not comparable": {str(s["cuda_graph"]) for s in last if "cuda_graph" in s},
        "the images of a step, so equal iterations are not equal images": {str(images_a_step(run)) for run in runs},
    }


def _document(
    settings: Sequence[Setting],
    contests: Sequence[PairedComparison],
    tables: Sequence[Table],
    verdict: str,
    remarks: Sequence[str],
    figures: Mapping[str, Figures],
) -> dict[str, Any]:
    """comparison.json: everything as numbers."""
    return {
        "verdict": verdict,
        "remarks": list(remarks),
        "figures": {dataset: own._asdict() for dataset, own in figures.items()},
        "settings": [_setting(setting, [name for name in figures[setting.dataset] if name]) for setting in settings],
        "contests": [_contest(contest) for contest in contests],
        "tables": {table.name: _rows(table) for table in tables},
    }


def _setting(setting: Setting, figures: Sequence[str]) -> dict[str, Any]:
    variants = {}
    for name, runs in setting.variants.items():
        bands = {figure: {axis.name: band_of(runs.values(), figure, axis) for axis in AXES} for figure in figures}
        variants[name] = {
            "runs": {str(seed): str(run.path) for seed, run in runs.items()},
            "bands": {
                figure: {
                    axis: [{"step": p.step, "place": p.place, **p.value._asdict()} for p in band]
                    for axis, band in by_axis.items()
                }
                for figure, by_axis in bands.items()
            },
        }
    return {"dataset": setting.dataset, "batch_size": setting.batch_size, "variants": variants}


def _contest(contest: PairedComparison) -> dict[str, Any]:
    own = {field.name: getattr(contest, field.name) for field in dataclasses.fields(contest)}
    own |= {"setting": contest.setting.name, "equal": {axis: _ratio(r) for axis, r in contest.equal.items()}}
    own["targets"] = [
        {
            "value": target.value,
            "places": {a: {n: i._asdict() for n, i in by.items()} for a, by in target.places.items()},
            "ratios": {axis: _ratio(ratio) for axis, ratio in target.ratios.items()},
        }
        for target in contest.targets
    ]
    return own


def _ratio(ratio: Any) -> dict[str, Any]:
    return {**ratio._asdict(), "interval": ratio.interval._asdict()}


def _rows(table: Table) -> list[dict[str, Any]]:
    return [
        {
            name: cell.text if cell.value is None else {"text": cell.text, "value": cell.value}
            for name, cell in zip(table.columns, row, strict=True)
        }
        for row in table.rows
    ]
