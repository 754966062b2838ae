"""What a user installs is what the repository holds: wheel, sdist, dependencies, README's lines."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE_FOLDERS = {"minunet": "minunet", "kernels": "minunet/kernels"}  # in the tree, in the wheel
LEFT_BY_RUNS = {".pyc", ".pyo", ".nbc", ".nbi"}


class Built(NamedTuple):
    wheel: zipfile.ZipFile
    sdist_names: set[str]


def copy_sources(to: Path) -> Path:
    """Copy what a build reads, so that it neither finds nor leaves anything in the checkout."""
    to.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, to)
    for folder in SOURCE_FOLDERS:
        shutil.copytree(ROOT / folder, to / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return to


def build(source: Path, out: Path, *options: str) -> None:
    """Build with the installed setuptools: no isolated environment, so no download."""
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", out, source]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel made from that sdist."""
    folder = tmp_path_factory.mktemp("packaging")
    build(copy_sources(folder / "source"), folder / "dist")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    with tarfile.open(sdist) as archive:
        sdist_names = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        yield Built(archive, sdist_names)


def files_to_ship(tree: Path) -> dict[str, str]:
    """{name in the tree: name in the wheel} of every file under minunet/ and kernels/."""
    names = {}
    for folder, installed in SOURCE_FOLDERS.items():
        for path in (tree / folder).rglob("*"):
            if path.is_file() and path.suffix not in LEFT_BY_RUNS:
                inside = path.relative_to(tree / folder).as_posix()
                names[f"{folder}/{inside}"] = f"{installed}/{inside}"
    return names


def wheel_contents(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if not name.split("/")[0].endswith(".dist-info")}


def metadata(wheel: zipfile.ZipFile):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return BytesParser().parsebytes(wheel.read(name))


def test_the_wheel_holds_the_tree_and_nothing_else(built):
    expected = set(files_to_ship(ROOT).values())
    assert {"minunet/py.typed", "minunet/kernels/__init__.py"} <= expected
    # Also says that no top-level `kernels` is installed, where another package has that name.
    assert wheel_contents(built.wheel) == expected


def test_the_sdist_holds_the_tree(built):
    expected = {"pyproject.toml", "README.md", "LICENSE", *files_to_ship(ROOT)}
    assert expected <= built.sdist_names


def test_an_unlisted_package_would_be_noticed(tmp_path):
    """The comparison above can fail: a package that pyproject.toml does not list is not built."""
    source = copy_sources(tmp_path / "source")
    (source / "kernels" / "unlisted").mkdir()
    (source / "kernels" / "unlisted" / "__init__.py").touch()
    (source / "minunet" / "models").mkdir(exist_ok=True)
    for suffix in (".safetensors", ".json", ".md"):  # a model in the box is data: it is built
        (source / "minunet" / "models" / f"new{suffix}").touch()
    build(source, tmp_path / "dist", "--wheel")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        missing = set(files_to_ship(source).values()) - wheel_contents(archive)
    assert missing == {"minunet/kernels/unlisted/__init__.py"}


def python(code: str, cwd: Path, path: Path | None = None) -> str:
    """What a fresh interpreter, started away from the repository, prints."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


FIND_KERNELS = """
from importlib.util import find_spec
import minunet.kernels
print(minunet.kernels.__file__, find_spec("kernels"))
"""


def test_the_wheel_finds_its_kernels(built, tmp_path):
    installed = tmp_path / "installed"
    built.wheel.extractall(installed)
    kernels = installed / "minunet" / "kernels" / "__init__.py"
    assert python(FIND_KERNELS, tmp_path, installed) == f"{kernels} None"


def is_editable() -> bool:
    """Did pip install this environment's minunet with -e? (It notes so in direct_url.json.)"""
    notes = [found.read_text("direct_url.json") for found in distributions(name="minunet")]
    return any(json.loads(note).get("dir_info", {}).get("editable") for note in notes if note)


@pytest.mark.skipif(not is_editable(), reason="minunet is not installed with pip install -e")
def test_the_editable_install_finds_the_kernels_of_the_tree(tmp_path):
    assert python(FIND_KERNELS, tmp_path) == f"{ROOT / 'kernels' / '__init__.py'} None"


def test_the_base_install_needs_numpy_alone(built):
    required = metadata(built.wheel).get_all("Requires-Dist")
    base = [line for line in required if "extra ==" not in line]
    assert [re.match(r"[\w.-]+", line).group() for line in base] == ["numpy"]


def test_metadata(built):
    info = metadata(built.wheel)
    assert info["Requires-Python"] == ">=3.11"
    assert info["License-Expression"] == "MIT"
    extras = {"cpu", "train", "cuda12", "cuda13", "onnx", "wasm", "zarr", "bench", "test", "docs"}
    assert set(info.get_all("Provides-Extra")) == extras
    (name,) = (name for name in built.wheel.namelist() if name.endswith("entry_points.txt"))
    assert "minunet = minunet.cli:main" in built.wheel.read(name).decode()


def test_the_version_is_the_same_everywhere(built, tmp_path):
    """It stands in minunet/__init__.py; the wheel and the changelog's first entry follow."""
    version = python("import minunet; print(minunet.__version__)", tmp_path)
    assert metadata(built.wheel)["Version"] == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE).group(1) == version


def modules_after(statement: str, cwd: Path) -> set[str]:
    """Names of all modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    return set(json.loads(python(code, cwd)))


def test_importing_minunet_costs_little_more_than_numpy(tmp_path):
    """Modules are counted, since times on a shared machine are not a fact about the code."""
    added = modules_after("import minunet", tmp_path) - modules_after("import numpy", tmp_path)
    foreign = {name for name in added if name.partition(".")[0] != "minunet"}
    packages = {name.partition(".")[0] for name in foreign}
    optional = {"numba", "llvmlite", "scipy", "PIL", "tifffile", "rich", "matplotlib", "cupy"}
    assert not packages & (optional | {"argparse", "safetensors", "onnx", "torch"})
    assert len(foreign) <= 10, sorted(foreign)


def fenced_blocks(markdown: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)


def test_readme_begins_with_the_two_lines():
    """The demo, then the tests: one line each, from the repository's root, in an environment."""
    demo, tests = fenced_blocks((ROOT / "README.md").read_text(encoding="utf-8"))[:2]
    for block in (demo, tests):
        assert block.count("\n") == 1
        assert block.startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert " -e '.[" in block
    assert demo.endswith(" && .venv/bin/minunet demo\n")
    assert tests.endswith(" && .venv/bin/python -m pytest -n 2 --dist loadfile\n")
