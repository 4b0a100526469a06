"""Put what people read into one folder of web pages, for GitHub Pages or any server of files.

python tools/pages.py     into build/site

README becomes index.html, each notebook a page as it was executed, the model card a page;
report.pdf and the figures lie beside them. A link to a file without a page leads to the repository.
"""

from __future__ import annotations

import re
import shutil
import sys
from html import escape
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from notebooks import ROOT, address, notebooks

SITE = ROOT / "build" / "site"
CARD = "carlib/data/cars196.md"
PAGES = {"README.md": "index.html", CARD: "model_card.html"}  # Markdown and its page
COPIED = ("report.pdf", "figures")
UNTOLD = re.compile(r'alt="(No description has been provided for this image)"')
LINK = re.compile(r'(href|src)="([^"#:]+)(#[^"]*)?"')  # to a file of the repository

CODE = re.compile(r"(```.*?```|`[^`]*`)", re.DOTALL)
FORMULA = re.compile(r"\$\$(?P<shown>.+?)\$\$|(?<!\\)\$(?P<inline>[^$\n]+?)\$", re.DOTALL)
SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)  # none is needed: formulas are MathML
# What nbconvert's pages lack: code that scrolls where it is wider than a phone, one font for code,
# and JupyterLab's dark colors for those who have asked for such.
STYLE = """<style>
:root {{ color-scheme: light dark; }}
.jp-RenderedHTML .highlight pre {{ font-family: var(--jp-code-font-family); }}
details pre {{ overflow-x: auto; }}
nav {{ padding: 8px; font-family: var(--jp-content-font-family); }}
.formula {{ display: block; overflow-x: auto; overflow-y: hidden; padding: 2px 0; }}
@media (max-width: 900px) {{
  .jp-InputArea, .jp-MarkdownOutput, .jp-Cell-inputWrapper {{ display: block; min-width: 0; }}
  .jp-InputArea-editor {{ display: block; overflow-x: auto; }}
}}
@media (max-width: 600px) {{
  .jp-RenderedImage {{ overflow-x: auto; }}
  .jp-RenderedImage img {{ max-width: none; width: 640px; }}
}}
@media (prefers-color-scheme: dark) {{
{dark}
}}
</style>
</head>"""
NAV = '<nav><a href="../index.html">Telling cars apart</a>{others}</nav>'

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 17px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem; }}
img {{ max-width: 100%; height: auto; }}
pre, table {{ display: block; overflow-x: auto; font-size: .85em; }}
pre {{ background: #8881; padding: .7em; border-radius: 4px; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .25em .6em; border-bottom: 1px solid #8886; text-align: left; }}
code {{ overflow-wrap: anywhere; }}
pre code {{ overflow-wrap: normal; }}
.anchor-link {{ display: none; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def build(folder: Path) -> list[Path]:
    """Write the site into a new folder; gives the pages."""
    (folder / "notebooks").mkdir(parents=True)
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    written = []
    for source, target in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        body = markdown2html_mistune(text)
        title = text.partition("\n")[0].lstrip("# ")
        page = PAGE.format(title=title, body=with_pages(body, Path(source).parent))
        written.append(save(folder / target, page))
    for path in notebooks():
        target = folder / "notebooks" / f"{path.stem}.html"
        written.append(save(target, with_pages(notebook_page(path), Path("notebooks"))))
    return written


def notebook_page(path: Path) -> str:
    """A notebook as it was executed, readable without a network, on a phone and in the dark."""
    notebook = with_formulas(nbformat.read(path, as_version=4))
    title = notebook.cells[0].source.partition("\n")[0].lstrip("# ")
    exporter = HTMLExporter()
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    page = SCRIPT.sub("", with_words(page, notebook))
    themes = (Path(folder) / "static" / "theme-dark.css" for folder in exporter.template_paths)
    dark = next(theme for theme in themes if theme.exists())
    style = STYLE.format(dark=dark.read_text(encoding="utf-8"))
    others = "".join(f' · <a href="{one.stem}.html">{one.stem[:2]}</a>' for one in notebooks())
    page = page.replace("</head>", style, 1)
    return re.sub(r"<body[^>]*>", lambda body: body[0] + NAV.format(others=others), page, count=1)


def with_formulas(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook whose formulas are MathML, which browsers show without any script."""

    def shown(found: re.Match[str]) -> str:
        if found["shown"]:
            formula = convert(found["shown"], display="block")
            return f'<span class="formula">{formula}</span>'.replace("\n", " ")
        return convert(found["inline"]).replace("\n", " ")

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts = CODE.split(cell.source)  # code stands at the odd places
            parts[::2] = [FORMULA.sub(shown, part) for part in parts[::2]]
            cell.source = "".join(parts)
    return notebook


def with_words(html: str, notebook: nbformat.NotebookNode) -> str:
    """A notebook's page with what its pictures show in words, which its template leaves out."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    told = (output.metadata.get("image/png", {}).get("alt", "")
            for output in outputs if "image/png" in output.get("data", {}))  # fmt: skip
    return UNTOLD.sub(lambda found: f'alt="{escape(next(told, "") or found[1])}"', html)


def with_pages(html: str, folder: Path) -> str:
    """The links of a page leading to other pages; what has none is shown in the repository.

    `folder` is where the page's source lies in the repository.
    """

    def led(found: re.Match[str]) -> str:
        kind, target, part = found[1], found[2], found[3] or ""
        path = (ROOT / folder / target).resolve()
        if not path.exists():
            return found[0]
        return f'{kind}="{page_of(path.relative_to(ROOT), folder)}{part}"'

    return LINK.sub(led, html)


def page_of(path: Path, folder: Path) -> str:
    """Where a page that was made in `folder` finds what a file of the repository became."""
    up = "../" if folder == Path("notebooks") else ""
    if path.as_posix() in PAGES:
        return up + PAGES[path.as_posix()]
    if path.suffix == ".ipynb":
        return f"{up}notebooks/{path.stem}.html"
    if path.parts[0] in COPIED:
        return up + path.as_posix()
    where = address()
    return f"{where['repository']}/blob/{where['branch']}/{path.as_posix()}"


def save(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    shutil.rmtree(SITE, ignore_errors=True)
    print(f"{len(build(SITE))} pages in {SITE}")
