"""Pages that the site has besides those written in Markdown: notebooks, and the files of the repository they link to.

mkdocs calls the functions whose names begin with ``on_`` while it builds the site.
"""

import base64
import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES_OF_FILES = "files"
"""Folder of the site with the pages of files that lie outside docs/ or are no text to read."""
LINKED_BY_THE_NAVIGATION = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
LANGUAGES = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".ini": "ini", ".toml": "toml", "": "docker"}
PICTURES = {"image/png": "png", "image/gif": "gif", "image/webp": "webp"}
_TARGET = re.compile(r"(?<=\]\()[^)\s]+(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of notebooks, and of the files that a page links to and the site does not have."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        made = notebook_page(Path(file.src_uri), json.loads(file.content_string))
        for uri, content in made.items():
            files.append(File.generated(config, uri, content=content))
    linked = [ROOT / name for name in LINKED_BY_THE_NAVIGATION]
    for file in files.documentation_pages():
        linked += linked_files(file.src_uri, file.content_string)
    while linked:
        path = linked.pop()
        if (uri := page_of(path)) not in files.src_uris:
            text = path.read_text(encoding="utf-8")
            name = path.relative_to(ROOT).as_posix()
            if path.suffix != ".md":
                text = f"# {path.name}\n\n`{name}`\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{text}\n````\n"
            files.append(File.generated(config, uri, content=text))
            linked += linked_files(uri, text)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links to notebooks, and to files of the repository, at their pages."""
    uri = page.file.src_uri

    def target_on_the_site(match: re.Match[str]) -> str:
        path = linked_file(uri, match.group())
        if path is None:
            return match.group()
        _, mark, anchor = match.group().partition("#")
        return os.path.relpath(page_of(path), os.path.dirname(uri)) + mark + anchor  # noqa: PTH120

    return _TARGET.sub(target_on_the_site, markdown)


def linked_files(uri: str, markdown: str) -> list[Path]:
    """The files of the repository that a page links to and that need a page of their own."""
    paths = [linked_file(uri, target) for target in _TARGET.findall(markdown)]
    return [path for path in paths if path and page_of(path).startswith(PAGES_OF_FILES)]


def linked_file(uri: str, target: str) -> Path | None:
    """The file of the repository that a link on a page means; None: a URL, an anchor, or a file that is not there."""
    source = ROOT / uri.removeprefix(f"{PAGES_OF_FILES}/") if uri.startswith(PAGES_OF_FILES) else ROOT / "docs" / uri
    name = unquote(target.partition("#")[0])
    path = (source.parent / name).resolve()
    is_code = uri.startswith(PAGES_OF_FILES) and not source.exists()
    return path if name and not is_code and path.is_file() and path.is_relative_to(ROOT) else None


def page_of(path: Path) -> str:
    """Where on the site a file of the repository is: its page, or of a picture the file itself."""
    docs = ROOT / "docs"
    if path.is_relative_to(docs) and path.suffix in (".md", ".ipynb", ".png", ".webp", ".gif"):
        return path.relative_to(docs).with_suffix(".md" if path.suffix == ".ipynb" else path.suffix).as_posix()
    name = path.relative_to(ROOT).as_posix()
    return f"{PAGES_OF_FILES}/{name}" + ("" if path.suffix == ".md" else ".md")


def notebook_page(path: Path, notebook: dict[str, Any]) -> dict[str, str | bytes]:
    """A notebook as Markdown, and the pictures of its outputs, by their paths on the site."""
    made: dict[str, str | bytes] = {}
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            picture = next((kind for kind in PICTURES if kind in data), None)
            if picture:
                name = f"{path.stem}-{len(made) + 1}.{PICTURES[picture]}"
                made[path.with_name(name).as_posix()] = base64.b64decode("".join(data[picture]))
                parts.append(f"![{what_it_shows(source)}]({name})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                parts.append(f"```text {{ .output }}\n{text}\n```")
    download = f'<a href="{path.name}" download>Download this notebook</a> and run it with Jupyter.'
    title, _, rest = parts[0].partition("\n")
    made[path.with_suffix(".md").as_posix()] = "\n\n".join([title, download, rest, *parts[1:]])
    return made


def what_it_shows(source: str) -> str:
    """The text of a cell's picture: the comment in the cell's first line."""
    first = source.partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else "What the cell above draws."
