"Fails when nbdev's clean or export, or ruff, would change anything; works on a copy, so it changes nothing itself."

import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
KEPT = ("nbs", "xray_explain")


def differences(a, b):
    "Files that differ or are missing on one side"
    compared = filecmp.dircmp(a, b, ignore=["__pycache__", ".ipynb_checkpoints"])
    here = [
        *compared.left_only,
        *compared.right_only,
        *filecmp.cmpfiles(a, b, compared.common_files, shallow=False)[1],
    ]
    deeper = [
        f"{name}/{d}"
        for name in compared.common_dirs
        for d in differences(Path(a, name), Path(b, name))
    ]
    return here + deeper


def main():
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in (*KEPT, "settings.ini", "setup.py", "README.md", "_quarto.yml"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(
                    source, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(source, copy / name)
        env = {**os.environ, "PYTHONPATH": str(copy)}
        for command in ("nbdev_clean", "nbdev_export"):
            subprocess.run([Path(sys.executable).parent / command], cwd=copy, env=env, check=True)
        changed = [f"{name}/{d}" for name in KEPT for d in differences(ROOT / name, copy / name)]
    if changed:
        sys.exit(
            "run nbdev_export and nbdev_clean, these files are not as they leave them: "
            + ", ".join(changed)
        )
    for command in (["check", "--quiet"], ["format", "--quiet", "--check"]):
        if subprocess.run([Path(sys.executable).parent / "ruff", *command, ROOT]).returncode:
            sys.exit(
                "run `ruff check --fix` and `ruff format`: these files are not as they leave them"
            )
    print("notebooks are clean and exported, and every line is as ruff writes it")


main()
