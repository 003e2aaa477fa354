"""The table of benchmarks/step.py, made from its results."""

import statistics
from typing import Any

from spread import spread

Key = tuple[str, int, str, str]


def seconds_by_key(results: dict[str, Any]) -> dict[Key, list[float]]:
    """Seconds in each round by model, batch size, name and precision."""
    return {(r["model"], r["batch_size"], r["name"], r["precision"]): r["seconds"] for r in results["records"]}


def speedup(seconds: dict[Key, list[float]], row_seconds: list[float], key: Key) -> str:
    """How many times as fast as another row, round by round; empty where the other was not measured."""
    other = seconds.get(key)
    return spread([b / a for a, b in zip(row_seconds, other, strict=True)], ".2f") if other else ""


def table(results: dict[str, Any]) -> str:
    """The records as a Markdown table."""
    lines = [
        "| model, batch | what | images/s | x published step | x published program | x ours | of matrix rate "
        "| float64 difference | memory, MB | host waits |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    seconds = seconds_by_key(results)
    for record in results["records"]:
        model, size, name, precision = key = tuple(record[k] for k in ("model", "batch_size", "name", "precision"))
        if not model or name == "data":
            continue
        row_seconds = seconds[key]
        rates = [2 * results["matrix"] ** 3 / s for s in seconds.get(("", 0, "matrix product", precision), [])]
        flops = results["flops_per_image"][model] * size
        shares = (
            [flops / s / rate for s, rate in zip(row_seconds, rates, strict=False)]
            if name != "published loader"
            else []
        )
        memory, difference = record["peak_device_memory"], results["differences"].get(name)
        cells = [f"{model}, {size}", f"{name}, {precision}", spread([size / s for s in row_seconds], ",.0f")]
        cells += [
            speedup(seconds, row_seconds, (model, size, f"published {x}", "float32")) for x in ("step", "program")
        ]
        cells += [speedup(seconds, row_seconds, (model, size, "ours", precision)) if "published" not in name else ""]
        cells += [spread(shares, ".0%") if shares else "", "" if difference is None else f"{difference:.0e}"]
        cells += ["" if memory is None else f"{memory / 1e6:,.0f}"]
        cells += ["" if record["host_waits"] is None else str(record["host_waits"])]
        lines.append(f"| {' | '.join(cells)} |")
    return _without_empty_columns(lines)


def _without_empty_columns(lines: list[str]) -> str:
    rows = [line.strip("|").split("|") for line in lines]
    filled = [i for i in range(len(rows[0])) if any(row[i].strip() for row in rows[2:])]
    return "\n".join("|" + "|".join(row[i] for i in filled) + "|" for row in rows)


def notes(results: dict[str, Any]) -> list[str]:
    """Results without a row: the cost beside DCGAN, the data's share, the device's speed, memory."""
    seconds = seconds_by_key(results)
    lines = [f"- {model}: {flops / 1e9:.2f} GFLOP per image" for model, flops in results["flops_per_image"].items()]
    for (model, size, name, precision), row_seconds in seconds.items():
        if name == "matrix product":
            rates = [2e-12 * results["matrix"] ** 3 / s for s in row_seconds]
            lines.append(f"- matrix product, {precision}: {spread(rates, '.2f')} TFLOP/s")
        if name == "ours" and model != "dcgan":
            if baseline := seconds.get(("dcgan", size, "ours", precision)):
                cost = [a / b for a, b in zip(row_seconds, baseline, strict=True)]
                lines.append(f"- {model} / dcgan, seconds per step, {precision}, batch {size}: {spread(cost, '.2f')}")
            data = [d / (d + s) for d, s in zip(seconds[model, size, "data", precision], row_seconds, strict=True)]
            lines.append(f"- data, share of a {model} step, {precision}, batch {size}: {spread(data, '.2%')}")
    speeds = [2e-9 * results["copied"] / s for s in seconds["", 0, "copy", ""]]
    lines.append(f"- copy of {results['copied'] >> 20} MB: {spread(speeds, '.1f')} GB/s")
    for entry in results["traffic"]:
        model, size, precision = (entry[k] for k in ("model", "batch_size", "precision"))
        product = statistics.median(seconds["", 0, "matrix product", precision])
        floor = results["flops_per_image"][model] * size * product / (2 * results["matrix"] ** 3)
        step_seconds = statistics.median(seconds[model, size, "ours", precision])
        moved = entry["bytes"] / 1e9 / statistics.median(speeds)
        lines.append(
            f"- {model}, {precision}, batch {size}: {1000 * step_seconds:.0f} ms; {1000 * floor:.0f} ms for "
            f"arithmetic at the matrix product's rate, {1000 * moved:.0f} ms for {entry['bytes'] / 1e9:.2f} GB at "
            "the copy's"
        )
    ours, published = (bytes_ / 1e9 for bytes_ in results["peak_memory"])
    lines.append(f"- peak resident memory: {ours:.1f} GB with all our rows, {published:.1f} GB with the others")
    return lines
