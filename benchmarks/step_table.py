"""The table of benchmarks/step.py, from what it measured."""

import statistics
from typing import Any

Key = tuple[str, int, str, str]


def spread(values: list[float], form: str) -> str:
    """Median (smallest to largest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def seconds_by_key(found: dict[str, Any]) -> dict[Key, list[float]]:
    """Seconds in each round by model, batch size, name and precision."""
    return {(r["model"], r["batch_size"], r["name"], r["precision"]): r["seconds"] for r in found["records"]}


def ratio(seconds: dict[Key, list[float]], own: list[float], key: Key) -> str:
    """How many times as fast as another row, round by round; empty where it was not measured."""
    other = seconds.get(key)
    return spread([b / a for a, b in zip(own, other, strict=True)], ".2f") if other else ""


def table(found: dict[str, Any]) -> str:
    """The records as a Markdown table."""
    lines = [
        "| model, batch | what | images/s | x published step | x published program | x ours | of matrix rate "
        "| float64 difference | memory, MB | host waits |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    seconds = seconds_by_key(found)
    for record in found["records"]:
        model, size, name, precision = key = tuple(record[k] for k in ("model", "batch_size", "name", "precision"))
        if not model or name == "data":
            continue
        own = seconds[key]
        rates = [2 * found["matrix"] ** 3 / s for s in seconds.get(("", 0, "matrix product", precision), [])]
        flops = found["flops_an_image"][model] * size
        shares = [flops / s / rate for s, rate in zip(own, rates, strict=False)] if name != "published loader" else []
        memory, difference = record["peak_device_memory"], found["differences"].get(name)
        cells = [f"{model}, {size}", f"{name}, {precision}", spread([size / s for s in own], ",.0f")]
        cells += [ratio(seconds, own, (model, size, f"published {x}", "float32")) for x in ("step", "program")]
        cells += [ratio(seconds, own, (model, size, "ours", precision)) if "published" not in name else ""]
        cells += [spread(shares, ".0%") if shares else "", "" if difference is None else f"{difference:.0e}"]
        cells += ["" if memory is None else f"{memory / 1e6:,.0f}"]
        cells += ["" if record["host_waits"] is None else str(record["host_waits"])]
        lines.append(f"| {' | '.join(cells)} |")
    return _without_empty_columns(lines)


def _without_empty_columns(lines: list[str]) -> str:
    rows = [line.strip("|").split("|") for line in lines]
    kept = [i for i in range(len(rows[0])) if any(row[i].strip() for row in rows[2:])]
    return "\n".join("|" + "|".join(row[i] for i in kept) + "|" for row in rows)


def asides(found: dict[str, Any]) -> list[str]:
    """What is not a row: the second discriminator's price, the data's share, what the device can do, memory."""
    seconds = seconds_by_key(found)
    lines = [f"- {model}: {flops / 1e9:.2f} GFLOP an image" for model, flops in found["flops_an_image"].items()]
    for (model, size, name, precision), own in seconds.items():
        if name == "matrix product":
            rates = [2e-12 * found["matrix"] ** 3 / s for s in own]
            lines.append(f"- matrix product, {precision}: {spread(rates, '.2f')} TFLOP/s")
        if (model, name) == ("d3gan", "ours"):
            price = [a / b for a, b in zip(own, seconds["dcgan", size, "ours", precision], strict=True)]
            data = [d / (d + s) for d, s in zip(seconds[model, size, "data", precision], own, strict=True)]
            lines.append(f"- d3gan / dcgan, seconds of a step, {precision}, batch {size}: {spread(price, '.2f')}")
            lines.append(f"- data, share of a d3gan step, {precision}, batch {size}: {spread(data, '.2%')}")
    speeds = [2e-9 * found["copied"] / s for s in seconds["", 0, "copy", ""]]
    lines.append(f"- copy of {found['copied'] >> 20} MB: {spread(speeds, '.1f')} GB/s")
    for entry in found["traffic"]:
        model, size, precision = (entry[k] for k in ("model", "batch_size", "precision"))
        product = statistics.median(seconds["", 0, "matrix product", precision])
        floor = found["flops_an_image"][model] * size * product / (2 * found["matrix"] ** 3)
        taken = statistics.median(seconds[model, size, "ours", precision])
        moved = entry["bytes"] / 1e9 / statistics.median(speeds)
        lines.append(
            f"- {model}, {precision}, batch {size}: {1000 * taken:.0f} ms; {1000 * floor:.0f} ms for arithmetic at "
            f"the matrix product's rate, {1000 * moved:.0f} ms for {entry['bytes'] / 1e9:.2f} GB at the copy's"
        )
    ours, published = (bytes_ / 1e9 for bytes_ in found["peak_memory"])
    lines.append(f"- peak resident memory: {ours:.1f} GB with all our rows, {published:.1f} GB with the others")
    return lines
