"""Feeds damaged files to every reader, and accepts nothing but success or one of our errors that names the file.

    python -m tests.soak.readers [--count 1000000] [--seed 0] [--only NAME ...] [--keep FOLDER]

Each input is a sound file with some of its bytes, numbers or members changed, drawn from (seed, reader, number); the
same numbers make the same input, of which a finding prints the three. A reader may take 64 MiB and ten times the file
in memory, and 20 seconds. The exit code is 1 if there is a finding.
"""

import argparse
import dataclasses
import functools
import gc
import io
import json
import logging
import re
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from d3gan.comparison.plots_training import scaling_drawings
from d3gan.config.ini import config_text, load_config
from d3gan.config.train_config import TrainConfig
from d3gan.data import prepared_cache
from d3gan.data.folders import decoded_images, open_collection
from d3gan.data.labels import collection_classes
from d3gan.data.published.contents import FileCopy, open_content
from d3gan.data.published.readers import read_images, read_labels
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.digits import _new_network, _read, _write
from d3gan.evaluation.reference import read_reference
from d3gan.image_files import MAX_PIXELS
from d3gan.models.networks import make_generator
from d3gan.report.embedded_images import embedded, read_animations
from d3gan.runs.checkpoint import load_checkpoint
from d3gan.runs.directory import RunDirectory
from d3gan.runs.environment import read_environment
from d3gan.runs.generator_file import load_generator, read_facts, save_generator
from d3gan.runs.jsonl import keep_lines_up_to, last_line, read_lines
from tests.data.published.formats import publish
from tests.scaling.documents import document

Rng = np.random.Generator
MEMORY, TIMES, SECONDS = 64 << 20, 10, 20
"""Bytes, and files, that a reader may take; seconds of processor time."""
PIXELS = 16 * MAX_PIXELS
"""Bytes for an image of as many pixels as are allowed, whatever the file's size: four copies of four channels."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader, and the sound files that it starts from."""

    file_name: str
    samples: list[bytes]
    read: Callable[[Path], object]
    mutate: Callable[[bytes, Rng], bytes] | None = None
    """Changes inside a container, which keep its checksums right; None: only bytes are changed."""
    memory: int = MEMORY
    """Bytes that it may take beside ``TIMES`` files."""


class _Extractor:
    """What a reference is compared with."""

    name, identity, feature_size = "four", "four 1", 4


class _TooSlowError(BaseException):
    """No ``except Exception`` catches it."""


_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]
_ZEROS = [zlib.compress(bytes(size)) for size in (100, 1 << 16, 1 << 21, 1 << 24)]
_WORDS = [
    b"null",
    b"[]",
    b"{}",
    b"-1",
    b"1e999",
    b"NaN",
    b"9" * 30,
    b'"x"',
    b"true",
    b"0",
    b"[" * 5000,
    b"\x00",
    b"\xff",
]


def changed(data: bytes, rng: Rng) -> bytes:
    """The bytes with one to four changes: flipped, overwritten, cut, doubled, replaced by numbers and words."""
    content = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(content) + 1))
        if rng.random() < 0.5:  # headers are where the meaning is
            at = min(at, int(rng.integers(200)))
        length = int(rng.integers(1, 20))
        match int(rng.integers(8)):
            case 0 if content:
                content[at % len(content)] ^= 1 << int(rng.integers(8))
            case 1:
                content[at : at + length] = rng.bytes(length)
            case 2:
                del content[at : at + length]
            case 3:
                content[at:at] = content[at : at + int(rng.integers(1, 500))]
            case 4:
                del content[at:]
            case 5:
                number, order = _NUMBERS[int(rng.integers(len(_NUMBERS)))], ("little", "big")[int(rng.integers(2))]
                size = int(rng.choice([1, 2, 4, 8]))
                content[at : at + size] = (number % 256**size).to_bytes(size, order)
            case 6:
                content[at : at + length] = _WORDS[int(rng.integers(len(_WORDS)))]
            case _:
                found = list(re.finditer(rb"\d+|\"[^\"]*\"|\w+", bytes(content[:20_000])))
                if found:
                    where = found[int(rng.integers(len(found)))]
                    content[where.start() : where.end()] = _WORDS[int(rng.integers(len(_WORDS)))]
    return bytes(content)


def in_zip(data: bytes, rng: Rng) -> bytes:
    """A zip with a member's content changed, or packed by another method."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(entry.filename, archive.read(entry), entry.compress_type) for entry in archive.infolist()]
    chosen, out = int(rng.integers(len(members))), io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for i, (name, content, method) in enumerate(members):
            if i == chosen:
                content = changed(content, rng) if rng.random() < 0.9 else bytes(int(rng.integers(1 << 20)))
                method = int(rng.choice([0, 8, 12, 14])) if rng.random() < 0.2 else method
            archive.writestr(name, content, method)
    return out.getvalue()


def in_png(data: bytes, rng: Rng) -> bytes:
    """A PNG with a chunk changed or added, its checksum right."""
    chunks, start = [], 8
    while start + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        chunks.append((kind, data[start + 8 : start + 8 + length]))
        start += 12 + length
    i = int(rng.integers(len(chunks)))
    kinds = [
        b"tRNS",
        b"PLTE",
        b"eXIf",
        b"iCCP",
        b"tEXt",
        b"zTXt",
        b"iTXt",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"gAMA",
        b"IDAT",
    ]
    kind, body = chunks[i]
    zeros = _ZEROS[int(rng.integers(len(_ZEROS)))]
    if kind == b"IDAT" and rng.random() < 0.3:
        chunks[i] = (kind, zlib.compress(changed(zlib.decompress(body), rng)) if rng.random() < 0.9 else zeros)
    elif rng.random() < 0.5:
        chunks[i] = (kind, changed(body, rng))
    else:
        body = b"a\0\0" + zeros if rng.random() < 0.3 else rng.bytes(int(rng.integers(40)))
        chunks.insert(i, (kinds[int(rng.integers(len(kinds)))], body))
    parts = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return data[:8] + b"".join(parts)


def in_safetensors(data: bytes, rng: Rng) -> bytes:
    """A safetensors file with its header changed, its length right, half of the time inside our own part."""
    length = struct.unpack("<Q", data[:8])[0]
    text = data[8 : 8 + length]
    if rng.random() < 0.5:
        header = json.loads(text)
        header["__metadata__"]["d3gan"] = changed(header["__metadata__"]["d3gan"].encode(), rng).decode("latin1")
        text = json.dumps(header).encode()
    else:
        text = changed(text, rng)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _images() -> dict[str, list[bytes]]:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (13, 11, 3), np.uint8))
    info, exif = PngImagePlugin.PngInfo(), Image.Exif()
    info.add_text("a", "b", zip=True)
    info.add_itxt("c", "d")
    exif[0x0112] = 6
    palette, frames = noise.quantize(16), [noise, noise.rotate(90), noise.rotate(180)]
    sixteen = Image.fromarray(rng.integers(0, 65536, (13, 11), np.uint16))
    pngs = [
        _saved(noise, "PNG", pnginfo=info, exif=exif, icc_profile=b"profile"),
        _saved(noise.convert("L"), "PNG", transparency=7),
        _saved(palette, "PNG", transparency=b"\0\x80", bits=4),
        _saved(sixteen, "PNG"),
        _saved(noise.convert("RGBA"), "PNG"),
        _saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
    ]
    jpegs = [
        _saved(noise, "JPEG", exif=exif, comment=b"words", icc_profile=b"profile"),
        _saved(noise, "JPEG", progressive=True),
        _saved(noise.convert("L"), "JPEG"),
        _saved(noise.convert("CMYK"), "JPEG"),
    ]
    webps = [
        _saved(noise, "WEBP", lossless=True, exif=exif),
        _saved(noise.convert("RGBA"), "WEBP"),
        _saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
    ]
    gifs = [_saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), webps[2]]
    return {"png": pngs, "jpeg": jpegs, "webp": webps, "gif": gifs}


def _zips(images: dict[str, list[bytes]]) -> list[bytes]:
    archives = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for kind in ("png", "jpeg", "webp"):
                archive.writestr(f"a/{kind}.{kind}", images[kind][0])
            archive.writestr("b/readme.txt", b"words")
        archives.append(file.getvalue())
    return archives


def _references() -> list[bytes]:
    rng, files = np.random.default_rng(0), []
    about = json.dumps({"format": 1, "description": "d", "extractor": "four 1", "count": 9})
    root = rng.normal(size=(4, 4))
    for save in (np.savez, np.savez_compressed):
        for extra in ({}, {"d3gan": np.array(about), "features": rng.normal(size=(9, 4)).astype(np.float32)}):
            file = io.BytesIO()
            save(file, mu=rng.normal(size=4), sigma=root @ root.T, **extra)  # type: ignore[arg-type]
            files.append(file.getvalue())
    return files


def _written(write: Callable[[Path], object]) -> bytes:
    """What a function writes to the path that it is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step-00000007.pt"
        write(path)
        return path.read_bytes()


def _read_collection(path: Path) -> None:
    with open_collection(path) as collection:
        for _ in decoded_images(collection, 8, 3, workers=1):
            pass


_published = functools.cache(publish)


def _read_published(kind: Any, path: Path) -> None:
    """Reads a content file of the set ``kind``, packed only if it is a .gz; its checksum is not compared."""
    dataset = _published(kind).dataset
    file = dataset.files[0]
    name = dataset.splits[0].images[0].content
    root = path.parents[len(Path(name).parts) - 1]
    copies = {each.name: FileCopy(file, root, packed=False) for file in dataset.files for each in file.contents}
    if path.suffix == ".gz":
        copies[name] = FileCopy(file, path, packed=True)
    opener = functools.partial(open_content, dataset, copies)
    part = dataclasses.replace(
        dataset.splits[0], images=dataset.splits[0].images[:1], labels=dataset.splits[0].labels[:1]
    )
    for _ in read_images(dataset, part, opener):
        pass
    if part.labels[0].content == part.images[0].content:
        read_labels(dataset, part, opener)


_SHAPE = (5, 1, 8, 8)
_PIXELS = np.random.default_rng(0).integers(0, 256, _SHAPE, np.uint8)


def _read_prepared(path: Path) -> None:
    """A damaged cache is told apart from the right one, whatever the damage."""
    summing = prepared_cache._Summing(_SHAPE)
    summing.add(_PIXELS)
    content = summing.sums().astype("<u4").tobytes()
    path.with_name(path.name + ".crc32").write_bytes(content + zlib.crc32(content).to_bytes(4, "little"))
    images = prepared_cache._open(path, _SHAPE)
    assert images is None or np.array_equal(images, _PIXELS)


_LABELS = b'{"labels": [["a.png", 0], ["b.png", 1], ["c/d.png", 2]]}'
_LINES = b'{"step": 5, "loss": 0.5}\n{"step": 10, "loss": 0.25}\n{"step": 15, "lo'


def _read_labels(path: Path) -> None:
    names = ("a.png", "b.png", "c/d.png")
    collection = SimpleNamespace(path=path, names=names, labels_file=lambda: path.read_bytes())
    collection_classes(collection)


def _read_metrics(path: Path) -> None:
    """As a run that goes on at step 10 does: what is kept can be read, and the last line is one of it."""
    last_line(path)
    keep_lines_up_to(path, 10)
    lines = read_lines(path)
    assert all(line["step"] <= 10 for line in lines)
    assert path.read_bytes().endswith(b"\n") or not path.read_bytes()


def readers() -> dict[str, Reader]:
    """Every reader by its name."""
    images = _images()
    grey = make_generator(dict(image_size=16, nz=3, ngf=1, nc=1, activation="relu"))
    points = make_generator(dict(network="mlp", nz=2, width=3, activation="relu"))
    facts = {"seed": 3, "dataset": "ring8", "radius": 1.0}
    generators = [_written(lambda path, n=network: save_generator(n, path, facts)) for network in (grey, points)]  # type: ignore[misc]
    state = {"format": 1, "step": 7, "a": grey.state_dict(), "list": [1, {"x": torch.zeros(3)}], "text": "words"}
    contents = {kind: _published(kind) for kind in ("idx", "cifar", "svhn", "stl")}
    first = {kind: each.contents[each.dataset.splits[0].images[0].content] for kind, each in contents.items()}
    names = {kind: each.dataset.splits[0].images[0].content for kind, each in contents.items()}
    config = config_text(TrainConfig(dataset="mnist")).encode()
    header = prepared_cache._header(_SHAPE)
    return {
        **{
            kind: Reader(f"x.{kind}", images[kind], lambda path: _read_collection(path.parent), mutate, PIXELS)
            for kind, mutate in (("png", in_png), ("jpeg", None), ("webp", None))
        },
        "sample grid": Reader("grid.png", [*images["png"][:3], images["png"][4]], embedded, in_png, PIXELS),
        "animation": Reader("x.gif", images["gif"], lambda path: read_animations([path.parent]), None, PIXELS),
        "zip of images": Reader("x.zip", _zips(images), _read_collection, in_zip, PIXELS),
        **{
            kind: Reader(names[kind], [first[kind]], functools.partial(_read_published, kind))
            for kind in ("idx", "cifar", "svhn", "stl")
        },
        "gzip": Reader(
            "tiny-images.gz", [contents["idx"].files["tiny-images.gz"]], functools.partial(_read_published, "idx")
        ),
        "reference": Reader("x.npz", _references(), lambda path: read_reference(path, _Extractor()), in_zip),  # type: ignore[arg-type]
        "generator": Reader("x.safetensors", generators, load_generator, in_safetensors),
        "facts": Reader("x.safetensors", generators, read_facts, in_safetensors),
        "checkpoint": Reader(
            "step-00000007.pt", [_written(lambda path: torch.save(state, path))], load_checkpoint, in_zip
        ),
        "digit classifier": Reader(
            "x.safetensors",
            [_written(lambda path: _write(path, _new_network(16), 0.99))],
            lambda path: _read(path, 16),
            in_safetensors,
        ),
        "config": Reader("x.ini", [config], load_config),
        "scaling.json": Reader(
            "scaling.json",
            [json.dumps(document((1, 2), (64,))).encode()],
            lambda path: scaling_drawings(str(path.parent)),
            memory=2 * MEMORY,  # it draws, and matplotlib's fonts stay
        ),
        "dataset.json": Reader("dataset.json", [_LABELS], _read_labels),
        "metrics.jsonl": Reader("metrics.jsonl", [_LINES], _read_metrics),
        "environment.json": Reader(
            "environment.json",
            [b'{"sessions": [{"device": "cpu", "torch": "2.13.0", "data": {"name": "mnist"}}]}'],
            lambda path: read_environment(RunDirectory(path.parent)),
        ),
        "prepared images": Reader("x.npy", [header + _PIXELS.tobytes()], _read_prepared),
    }


def mutated(reader: Reader, rng: Rng) -> bytes:
    """One damaged input."""
    sample = reader.samples[int(rng.integers(len(reader.samples)))]
    if reader.mutate is not None and rng.random() < 0.5:
        return reader.mutate(sample, rng)
    return changed(sample, rng) if rng.random() < 0.98 else rng.bytes(int(rng.integers(100)))


def feed(reader: Reader, content: bytes, folder: Path) -> str:
    """Gives a reader one file; ``read``, ``refused``, or what is wrong with its answer."""
    path = folder / reader.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    try:
        reader.read(path)
    except (ConfigError, ExternalError) as error:
        return "refused" if path.name in str(error) else f"an error that does not name the file: {error}"
    except (Exception, _TooSlowError):
        return traceback.format_exc()
    return "read"


def _alarm(_number: int, _frame: FrameType | None) -> None:
    raise _TooSlowError(f"took more than {SECONDS} s")


def _memory(kind: str) -> int:
    """Resident memory of this process now (``VmRSS``) or at most since it was last reset (``VmHWM``), in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{kind}:")).split()[1])


def soak(name: str, reader: Reader, count: int, seed: int, keep: Path | None) -> int:
    """Feeds ``count`` inputs to one reader, prints a line, and returns the number of findings."""
    answers, findings, largest, peak, first = {"read": 0, "refused": 0}, 0, 0, 0, 0
    signal.signal(signal.SIGPROF, _alarm)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for number in range(count):
            content = mutated(reader, np.random.default_rng([seed, zlib.crc32(name.encode()), number]))
            # Imports and caches of the first ones do not count.
            if number == 20 or (number > 20 and number % 50 == 0):
                Path("/proc/self/clear_refs").write_text("5")
                before = _memory("VmRSS")
                first = first or before
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor: others may be working on the machine
            answer = feed(reader, content, Path(folder) / "x")
            signal.setitimer(signal.ITIMER_PROF, 0)
            largest = max(largest, len(content))
            if number >= 20 and number % 50 == 49:
                peak = max(peak, _memory("VmHWM") - before)
            if answer in answers:
                answers[answer] += 1
                continue
            findings += 1
            print(f"{name}, seed {seed}, number {number}: {answer}", file=sys.stderr, flush=True)
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name.replace(' ', '-')}-{seed}-{number}").write_bytes(content)
    gc.collect()
    peak = max(peak, _memory("VmRSS") - first if first else 0)  # what is never given back counts too
    rate = count / (time.monotonic() - begin)
    print(
        f"{name:<17} {count:9,} {answers['read']:9,} read {answers['refused']:9,} refused {findings:4} findings "
        f"{rate:7,.0f} per s  at most {peak / 2**20:5.0f} MiB, files up to {largest / 2**20:.2f} MiB",
        flush=True,
    )
    if peak > reader.memory + TIMES * largest:
        print(f"{name}: {peak:,} bytes are more than {reader.memory:,} + {TIMES} times {largest:,}", file=sys.stderr)
        findings += 1
    return findings


def main() -> None:
    """Prints a line for each reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    logging.getLogger("d3gan").addHandler(logging.NullHandler())
    logging.getLogger("d3gan").propagate = False
    torch.set_num_threads(1)
    chosen = {name: reader for name, reader in readers().items() if not options.only or name in options.only}
    begin, each = time.monotonic(), -(-options.count // len(chosen))
    findings = sum(soak(name, reader, each, options.seed, options.keep) for name, reader in chosen.items())
    seconds = time.monotonic() - begin
    print(f"{each * len(chosen):,} inputs, seed {options.seed}: {findings} findings in {seconds:,.0f} s")
    sys.exit(findings > 0)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
