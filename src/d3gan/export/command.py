"""``d3gan export``: a run's generator as a file or folder for others."""

from pathlib import Path

from d3gan.export.hub import write_hub_folder
from d3gan.export.onnx_file import generator_onnx, require_onnx
from d3gan.export.options import Export
from d3gan.export.web_page import page_of
from d3gan.export.web_runtime import obtain_runtime
from d3gan.files import replace_file, user_path, write_text
from d3gan.runs.directory import home_of
from d3gan.runs.generator_file import load_generator, read_facts, save_generator


def export(options: Export) -> Path:
    """Writes the generator, in eval mode.

    Args:
        options: the command's flags. ``safetensors``: weights, architecture and classes in the header; ``onnx``: see
            ``generator_onnx``; ``html``: see ``page_of``; ``hub``: see ``write_hub_folder``.

    Returns:
        The file or folder written.

    Raises:
        ConfigError: there is no such run, or ONNX is not installed.
        ExternalError: a file of the run is damaged, the browser's runtime is not available, or the disk is full.
    """
    if options.format == "hub":
        return write_hub_folder(options)
    path = user_path(options.out or home_of(options.run) / f"generator-export.{options.format}")
    if options.format == "html":
        generator = load_generator(options.run)
        require_onnx()  # before anything is fetched
        write_text(path, page_of(options, generator, obtain_runtime(options.runtime, options.data_dir or None)))
    elif options.format == "onnx":
        content = generator_onnx(load_generator(options.run))
        with replace_file(path) as file:
            file.write(content)
    else:
        save_generator(load_generator(options.run), path, read_facts(options.run))
    return path
