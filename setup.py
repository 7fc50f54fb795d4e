"Everything the package needs to know about itself is read from settings.ini."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
LICENCES = {"apache2": "Apache-2.0"}
PYTHONS = ["3.11", "3.12", "3.13"]

parser = ConfigParser(delimiters=["="])
parser.read(HERE / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]


def lines(key):
    return [line for line in cfg.get(key, "").splitlines() if line.strip()]


readme = HERE / "README.md"
setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    keywords=cfg["keywords"].split(),
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    license=LICENCES[cfg["license"]],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
        *[f"Programming Language :: Python :: {v}" for v in PYTHONS],
    ],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["xray_explain", "xray_explain.*"]),
    package_data={
        "xray_explain": [
            "py.typed",
            "*.pyi",
            "models/*/*",
            "samples/*",
            "report/notebooks/*.ipynb",
            "view/browser/*.js",
            "view/browser/*.css",
            "view/browser/voila/templates/xray_explain/*",
        ]
    },
    include_package_data=True,
    zip_safe=False,
    install_requires=lines("requirements"),
    extras_require={
        extra: lines(f"{extra}_requirements")
        for extra in ("dev", "compiled", "dicom", "export", "ray", "view", "benchmarks")
    },
    entry_points={
        "console_scripts": lines("console_scripts") or [cfg["console_scripts"]],
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
)
