"""What `make site` does to the pages before mkdocs renders them; a hook of mkdocs.yml.

- README, CONTRIBUTING, CHANGELOG and the pages of figures come in from outside docs.
- The page of a method gets the text of its reproduction page, and what linked there links here.
- A link to source becomes a page with that source, so that the site needs no other address.
- A link to a file that is not there is a warning, and the build is strict.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from class_tables import read  # noqa: E402

log = get_plugin_logger("site_pages")

# Page of the site -> file of the repository, where it is not docs/ and the same name.
OUTSIDE = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md",
           "changelog.md": "CHANGELOG.md"}  # fmt: skip
RESULTS = "benchmarks/results"
REPRODUCTION = "reproduction/index.md"
# Folders that pages may link to, and the page that stands for each.
FOLDERS = {"docs/reproduction": REPRODUCTION, RESULTS: REPRODUCTION}

_LINK = re.compile(r"(\]\()([^)\s]+)(\))|((?:src|href)=\")([^\"]+)(\")")
_FENCE = re.compile(r"^\s*```")


def _stems(folder: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "docs" / folder).glob("*.md"))


METHODS = _stems("methods")
# Checks of something that is not a method keep pages of their own.
ALONE = [stem for stem in _stems("reproduction") if stem not in METHODS]
RESULT_PAGES = sorted(path.stem for path in (ROOT / RESULTS).glob("*.md"))
SOURCE_OF = {
    **OUTSIDE,
    **{f"results/{stem}.md": f"{RESULTS}/{stem}.md" for stem in RESULT_PAGES},
}
PAGE_OF = {source: page for page, source in SOURCE_OF.items()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fills the parts of the navigation that are lists of what is there."""
    parts = {"METHODS": _methods_nav(), "REPRODUCTION": _reproduction_nav()}
    config.nav = [
        {title: parts.get(inside, inside) if isinstance(inside, str) else inside}
        for part in config.nav or []
        for title, inside in part.items()
    ]
    return config


def _methods_nav() -> list[Any]:
    """The page of all methods, and question by question those it lists."""
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    found: list[Any] = ["methods.md", "compatibility.md"]
    for section in text.split("\n## ")[1:]:
        question = re.search(r"\(`(\w+)`\)", section)
        pages = re.findall(r"\]\((methods/\w+\.md)\)", section)
        found.append({question[1].capitalize() if question else section[:40]: pages})
    return found


def _reproduction_nav() -> list[Any]:
    return [REPRODUCTION, {"Not of a method": [f"reproduction/{stem}.md" for stem in ALONE]},
            {"Figures by day": [f"results/{stem}.md" for stem in RESULT_PAGES]}]  # fmt: skip


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what stands elsewhere, and takes out what is joined to the page of a method."""
    for stem in METHODS:
        joined = files.get_file_from_path(f"reproduction/{stem}.md")
        if joined is not None:
            files.remove(joined)
    for page, source in SOURCE_OF.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, REPRODUCTION, content=_reproduction_index()))
    for source in sorted(_linked_sources(files)):
        files.append(_source_page(config, source))
    return files


def _reproduction_index() -> str:
    lines = ["# Reproduction", "",
             "What each paper claims, the setting, our figure and the gap; losing figures too.", "",
             "## Methods", ""]  # fmt: skip
    reproduced = [stem for stem in METHODS if (ROOT / f"docs/reproduction/{stem}.md").exists()]
    lines += [f"- [{stem}](../methods/{stem}.md#reproduction)" for stem in reproduced]
    lines += ["", "## Not of a method", "", *(f"- [{stem}]({stem}.md)" for stem in ALONE)]
    lines += ["", "## Figures by day", ""]
    lines += [f"- [{stem}](../results/{stem}.md)" for stem in RESULT_PAGES]
    return "\n".join(lines) + "\n"


def _source_page(config: MkDocsConfig, source: str) -> File:
    """A page that shows a file of the repository."""
    text = (ROOT / source).read_text(encoding="utf-8")
    kind = {".py": "python", ".toml": "toml"}.get(Path(source).suffix, "text")
    content = (
        f"---\nsearch: {{exclude: true}}\nhide: [toc, navigation]\n---\n\n# {source}\n\n"
        f'``````{kind} linenums="1"\n{text}\n``````\n'
    )
    file = File.generated(config, _source_uri(source), content=content)
    file.inclusion = type(file.inclusion).NOT_IN_NAV
    return file


def _source_uri(source: str) -> str:
    return f"source/{source}.md"


def _linked_sources(files: Files) -> Iterator[str]:
    """Files of the repository that pages link to and that are no pages."""
    found = set()
    for file in files.documentation_pages():
        source = _source(file.src_uri)
        if file.src_uri.startswith("source/") or not (ROOT / source).is_file():
            continue
        texts = [(source, (ROOT / source).read_text(encoding="utf-8"))]
        joined = _joined(file.src_uri)
        if joined is not None:
            texts.append((joined, (ROOT / joined).read_text(encoding="utf-8")))
        for at, text in texts:
            for link in _links(text):
                path = posixpath.normpath(posixpath.join(posixpath.dirname(at), link))
                for each in (path, f"{path}/__init__.py"):
                    if _is_source(each):
                        found.add(each)
    yield from found


def _is_source(path: str) -> bool:
    inside = path.startswith("docs/") and not path.endswith(".py")
    return not path.startswith("..") and not inside and path not in PAGE_OF and (
        (ROOT / path).is_file()
    )  # fmt: skip


def _links(text: str) -> Iterator[str]:
    """Relative targets in a page, code left out."""
    for line in _prose(text.splitlines()):
        for match in _LINK.finditer(line):
            target = (match[2] or match[5]).partition("#")[0]
            if target and not re.match(r"[a-z]+:", target):
                yield target


def _prose(lines: list[str]) -> Iterator[str]:
    fenced = False
    for line in lines:
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield line


def _source(page: str) -> str:
    """The file of the repository that a page is made of."""
    return SOURCE_OF.get(page, f"docs/{page}")


def _joined(page: str) -> str | None:
    """The reproduction that is shown on the page of a method."""
    stem = page.removeprefix("methods/").removesuffix(".md")
    path = f"docs/reproduction/{stem}.md"
    there = page.startswith("methods/") and stem in METHODS and (ROOT / path).is_file()
    return path if there else None


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page as the site has it."""
    uri = page.file.src_uri
    if uri.startswith("source/") or uri == REPRODUCTION:
        return markdown
    text = _rewritten(markdown, _source(uri), uri)
    if uri.startswith("methods/"):
        text = _with_neighbours(text, uri)
    joined = _joined(uri)
    if joined is None:
        return _indented(text)
    body = (ROOT / joined).read_text(encoding="utf-8").partition("\n")[2]
    below = _rewritten(_lowered(body), joined, uri)
    return f"{text.partition('## Reproduction')[0]}## Reproduction\n{below}"


def _with_neighbours(text: str, uri: str) -> str:
    """The page of a method with what it goes with."""
    compatibility = read((ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8"))
    lines = compatibility.goes_with(Path(uri).stem)
    before, mark, after = text.partition("[What goes with what](../compatibility.md).")
    return "\n".join([before, "", *lines, after]) if mark else text


def _lowered(text: str) -> str:
    """Headings one level further down."""
    return re.sub(r"^(#+ )", r"#\1", text, flags=re.M)


def _indented(text: str) -> str:
    """What belongs to an item of a numbered list, by the four spaces that Python-Markdown wants."""
    lines, inside = [], False
    for line in text.splitlines():
        if re.match(r"\d+\. ", line):
            inside = True
        elif line and not line.startswith("   "):
            inside = False
        lines.append(f" {line}" if inside and line.startswith("   ") else line)
    return "\n".join(lines)


def _rewritten(text: str, source: str, page: str) -> str:
    """A text of the file `source` with its links as they are on `page`."""
    fenced, lines = False, []
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        if not fenced and not line.startswith("    "):
            line = _LINK.sub(lambda match: _link(match, source, page), line)
        lines.append(line)
    return "\n".join(lines)


def _link(match: re.Match[str], source: str, page: str) -> str:
    before, target, after = [part for part in match.groups() if part is not None]
    path, mark, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return match[0]
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    found = _target(file)
    if found is None:
        log.warning(f"{source} links to {target}, which is not there")
        return match[0]
    if found.endswith("#reproduction"):
        mark, anchor = ("#", anchor) if anchor else ("", "")
    relative = posixpath.relpath(found, posixpath.dirname(page) or ".")
    if anchor:
        relative = relative.partition("#")[0]
    return f"{before}{relative}{mark}{anchor}{after}"


def _target(file: str) -> str | None:
    """The page, or file of the site, that stands for a file or folder of the repository."""
    if file in PAGE_OF or file in FOLDERS:
        return PAGE_OF.get(file) or FOLDERS[file]
    package = f"{file}/__init__.py"
    if (ROOT / package).is_file():
        return _source_uri(package)
    if not (ROOT / file).is_file():
        return None
    if _is_source(file):
        return _source_uri(file)
    inside = file.removeprefix("docs/")
    stem = inside.removeprefix("reproduction/").removesuffix(".md")
    if inside == f"reproduction/{stem}.md" and stem in METHODS:
        return f"methods/{stem}.md#reproduction"
    return inside
