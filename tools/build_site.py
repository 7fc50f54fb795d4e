"""Build the documentation from the notebooks into _docs/: with Quarto where it is installed, otherwise with smalldocs.

    python tools/build_site.py [quarto | smalldocs]

Both read the same _quarto.yml. smalldocs comes from PyPI and leaves mathematics to a network, so it is made MathML here.
"""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path.cwd()
PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "xray_explain/models/bone_phantoms/MODEL_CARD.md",
)
REPOSITORY = "https://github.com/xray-explain/xray_explain"
PUBLISHED = "https://xray-explain.github.io/xray_explain"
FOLDED = "#| code-fold: true\n#| code-summary: code\n"


def as_text(documented: str) -> str:
    "A function's documentation, whose docstring is text and not HTML, and nothing where Python makes one up"
    signature, fence, told = documented.rpartition("```\n")
    told = told.replace("*Call self as a function.*", "")
    return signature + fence + re.sub(r"`[^`]*`|<", lambda m: "&lt;" if m[0] == "<" else m[0], told)


def processed():
    "The notebooks as nbdev shows them, in _proc/: what a module exports as documentation instead of code"
    from nbdev import processors, serve

    class documented(processors.exec_show_docs):
        "Run nothing but the documentation, from the module. nbdev runs each cell with an import, also one that needs cells before it"

        def begin(self):
            super().begin()
            if module := processors._default_exp(self.nb):
                self.k.run_cell(f"from xray_explain.{module} import *")

        def __call__(self, cell):
            if "show_doc(" not in cell.source:
                return
            super().__call__(cell)
            for output in cell.outputs:
                if told := output.get("data", {}).get("text/markdown"):
                    output["data"]["text/markdown"] = as_text("".join(told))

    class Filter(processors.FilterDefaults):
        def base_procs(self):
            return [
                documented if p is processors.exec_show_docs else p for p in super().base_procs()
            ]

    named = processors._def_names
    # nbdev puts each before the one that came before it
    processors._def_names = lambda *a: list(named(*a))[::-1]
    serve.FilterDefaults = Filter
    return serve.proc_nbs(n_workers=0, force=True)


def keep_names(place: Path):
    "Pages are called as their notebooks, and links to a function lead there and not to the published site"
    texts = {path: path.read_text(encoding="utf-8") for path in place.rglob("*.ipynb")}
    name = re.compile(r"output-file: (\S+?)\\n")
    # by folder and name, because `read` and `report` both have a page on annotations
    pages = {
        (path.relative_to(place).parent / m[1]).as_posix(): path.relative_to(place).as_posix()
        for path, text in texts.items()
        if (m := name.search(text))
    }
    for path, text in texts.items():
        text = re.sub(
            rf"{PUBLISHED}/([\w./]+\.html)",
            lambda m: "/" + pages.get(m[1], m[1]),
            name.sub("", text, count=1),
        )
        # nbdev links names in the comments of signatures too, where a link is no link
        text = re.sub(
            "```python.*?```",
            lambda m: re.sub(r"\[(`[\w.()]+`)\]\([^)]*\)", r"\1", m[0]),
            text,
            flags=re.S,
        )
        text = re.sub(
            r"\]\((?:\.\./)+benchmarks/",
            f"]({REPOSITORY}/blob/main/benchmarks/",
            text.replace(".py#LNone", ".py"),
        )
        path.write_text(text, encoding="utf-8")


def gather():
    "The processed notebooks, the executed reports, results and pages of the project, side by side in _proc/"
    place = processed()
    for page in PAGES:
        shutil.copy(ROOT / page, place)
    shutil.copytree(
        ROOT / "results",
        place / "results",
        # the site has reports and a sidebar of its own
        ignore=shutil.ignore_patterns("reports", "run", "*.parquet", "index.html"),
        dirs_exist_ok=True,
    )
    for source in (ROOT / "results" / "reports").glob("*.ipynb"):
        shutil.copy(source, place / "reports")
    for report in (place / "reports").glob("*.ipynb"):
        # the page of all cases is beside a report, and not on the site
        text = report.read_text(encoding="utf-8").replace("](all_cases.html)", "]")
        nb = json.loads(text.replace("[a page of its own]", "a page of its own"))
        nb["cells"] = [
            c
            for c in nb["cells"]
            if not {"live", "injected-parameters"} & {*c["metadata"].get("tags", [])}
        ]
        for cell in nb["cells"]:
            if cell["cell_type"] == "code":
                cell["source"] = FOLDED + "".join(cell["source"])
        report.write_text(json.dumps(nb), encoding="utf-8")
    keep_names(place)
    index = place / "index.ipynb"
    text = (
        index.read_text(encoding="utf-8")
        .replace("](../results)", "](reports/gallery.ipynb)")
        .replace("](../results/", "](results/")
    )
    index.write_text(text, encoding="utf-8")
    return place


def as_mathml(page: str) -> str:
    "A page of smalldocs with its TeX as MathML, and without the scripts that would fetch KaTeX"
    from latex2mathml.converter import convert

    made = lambda m: convert(
        html.unescape(m[2]), display="block" if m[1] == "display" else "inline"
    )
    page = re.sub(
        r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', made, page, flags=re.S
    )
    return re.sub(r"<(link|script)[^>]*cdn\.jsdelivr\.net/npm/katex[^>]*>(</script>)?", "", page)


def render(place: Path, how: str):
    "Make the site in _proc/_docs"
    if how == "quarto":
        return subprocess.run(["quarto", "render", "--no-cache"], cwd=place, check=True)
    from smalldocs.site import build

    site = build(place)
    for page in (place / "_docs").rglob("*.html"):
        page.write_text(as_mathml(page.read_text(encoding="utf-8")), encoding="utf-8")
    for theme in (place / "_docs" / "site_libs").rglob("*.css"):  # what fonts.scss does for Quarto
        theme.write_text(
            re.sub(r"@import url\(https:[^)]*\);", "", theme.read_text(encoding="utf-8")),
            encoding="utf-8",
        )
    if broken := [w for w in site.warnings if "broken link" in w]:
        sys.exit("\n".join(broken))


def main(how=""):
    how = how or ("quarto" if shutil.which("quarto") else "smalldocs")
    if how == "smalldocs":
        print(
            "Built by smalldocs; with Quarto (https://quarto.org/docs/get-started) on the PATH, Quarto builds it"
        )
    place = gather()
    render(place, how)
    # as a script too, which a page that was opened as a file may load
    index = place / "_docs" / "search.json"
    index.with_suffix(".js").write_text(
        f"window.searchIndex = {json.dumps(index.read_text(encoding='utf-8'))}", encoding="utf-8"
    )
    shutil.rmtree(ROOT / "_docs", ignore_errors=True)
    shutil.move(place / "_docs", ROOT / "_docs")
    print(f"open {Path('_docs/index.html')}")


main(*sys.argv[1:])
