"""Imports go one way: cli -> jobs -> pipeline; all may import schemas, which imports nobody."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gan2shape

ROOT = Path(gan2shape.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

ALLOWED = {
    "schemas": {"schemas"},
    "pipeline": {"schemas", "pipeline"},
    "jobs": {"schemas", "pipeline", "jobs"},
    "assets": set(),
    "cli": {"schemas", "jobs", "cli"},
    "__main__": {"cli"},
    "__init__": {"schemas", "pipeline", "jobs", "cli"},
}
"""What each part of the package may import of it; `jobs` may use `assets` as data only."""

FOREIGN_TO_PIPELINE = {"dask", "distributed", "fsspec", "tensorstore", "zarr", "xarray", "pyarrow"}
"""Pure compute knows of no cluster and no storage."""


def imported(path: Path) -> Iterator[str]:
    """Full names of all modules that the file imports, anywhere in it."""
    return names_in(path.read_text(), ["gan2shape", *path.relative_to(ROOT).parent.parts])


def names_in(text: str, package: list[str]) -> Iterator[str]:
    """The same for the text of a module in `package`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *([node.module] if node.module else [])]
            yield ".".join(module)
            yield from (".".join([*module, name.name]) for name in node.names)


def part_of(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "gan2shape" or len(parts) < 2:
        return None
    known = parts[1] in ALLOWED or (ROOT / parts[1]).exists()
    return parts[1] if known else None


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_direction(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert part in ALLOWED, f"{part} is new: say here what it may import"
    wrong = {
        name for name in imported(path) if (found := part_of(name)) and found not in ALLOWED[part]
    }
    assert not wrong


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline").rglob("*.py")), ids=lambda p: p.stem)
def test_pipeline_knows_no_cluster_and_no_storage(path):
    assert not {name.split(".")[0] for name in imported(path)} & FOREIGN_TO_PIPELINE


def test_the_check_reads_every_kind_of_import():
    text = (
        "from gan2shape.jobs import store\nfrom ..jobs.plan import make_plan\nimport dask.array\n"
    )
    names = set(names_in(text, ["gan2shape", "pipeline"]))
    assert {
        "gan2shape.jobs",
        "gan2shape.jobs.run.store",
        "gan2shape.jobs.run.plan",
        "dask.array",
    } <= names
    assert part_of("gan2shape.jobs.run.plan") == "jobs"
    assert part_of("gan2shape") is part_of("torch.nn") is None


HEAVY = {"torch", "numba", "dask", "pyarrow", "scipy", "pandas"}


@pytest.mark.parametrize(
    ("words", "heavy"), [([], HEAVY | {"pydantic", "yaml", "rich"}), (["reconstruct"], HEAVY)]
)
def test_help_loads_nothing_heavy(words, heavy):
    """Options that are made from settings need pydantic, and only in the help of their command."""
    code = (
        f"import sys; from gan2shape.cli import cli; cli({[*words, '--help']}, "
        f"standalone_mode=False); sys.exit(' '.join({heavy} & set(sys.modules)) or None)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "Options:" in ended.stdout
    assert ended.returncode == 0, f"--help imports {ended.stderr}"
