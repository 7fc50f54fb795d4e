#!/bin/bash
# papermill hands a tuple to a notebook as text, without a word: ("frontal",) arrives as "('frontal',)", and a notebook
# that goes through it meets the characters (, ', f, ... A list arrives as a list.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv venv
venv/bin/pip --quiet install papermill==2.7.0 ipykernel==7.4.0 nbformat==5.10.4
venv/bin/python - 2> log <<'P' || { cat log; exit 1; }
import nbformat
import papermill

nb = nbformat.v4.new_notebook(metadata={"language_info": {"name": "python"}})
nb.cells = [
    nbformat.v4.new_code_cell("columns = []", metadata={"tags": ["parameters"]}),
    nbformat.v4.new_code_cell("print([*columns][:3])"),
]
nbformat.write(nb, "asked.ipynb")
print("papermill", papermill.__version__)
shown = {}
for columns in (("frontal",), ["frontal"]):
    ran = papermill.execute_notebook(
        "asked.ipynb", "ran.ipynb", {"columns": columns}, kernel_name="python3", progress_bar=False
    )
    shown[type(columns).__name__] = ran.cells[-1].outputs[0].text.strip()
    print(columns, "arrives as", shown[type(columns).__name__])
expected = {"tuple": """['(', "'", 'f']""", "list": "['frontal']"}
raise SystemExit(0 if shown == expected else "this has changed")
P
