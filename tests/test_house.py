"""What holds for the checkout as a whole: packages, names, and nothing of the machine it was made on."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("thunderserve", "baselines", "harness", "eval")


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_are_those_of_this_checkout(name: str) -> None:
    """Short names like ``eval`` could be anybody's: an installed namesake would shadow ours."""
    file = importlib.import_module(name).__file__
    assert file is not None
    assert Path(file).resolve().parent == ROOT / name


def test_pyproject_lists_the_four_packages() -> None:
    listed = re.search(r"packages = (\[\"thunderserve\".*?\])", (ROOT / "pyproject.toml").read_text())
    assert listed is not None
    assert tuple(re.findall(r'"(\w+)"', listed[1])) == PACKAGES


def tracked() -> list[Path]:
    try:
        names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: there is no list of files to look through")
    return [ROOT / name for name in names.splitlines() if (ROOT / name).is_file()]


def test_no_file_names_a_path_of_some_machine() -> None:
    """Absolute paths below a home, a temporary or a working folder work on one machine only."""
    found = []
    for path in tracked():
        if path.suffix in {".png", ".pdf", ".parquet", ".gz"} or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"(?<![\w.:/-])/(?:work|tmp|root|home/\w+)/", line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


def test_every_module_says_what_it_is() -> None:
    """The first line of a module is its purpose."""
    sources = [path for path in tracked() if path.relative_to(ROOT).parts[0] in PACKAGES]
    silent = [
        str(path.relative_to(ROOT))
        for path in sources
        if path.suffix == ".py" and path.stat().st_size and not path.read_text().lstrip().startswith(('"""', "# Copy"))
    ]
    assert not silent
