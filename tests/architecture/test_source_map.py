"""ARCHITECTURE.md names every module, so that whoever looks for one finds what it belongs to."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "ARCHITECTURE.md").read_text()
FOLDERS = (
    *("contract/rhapsode_contract", "relay/rhapsode_relay", "worker_image/rhapsode_worker"),
    *("cli/rhapsode", "cli/rhapsode/kubectl", "operator/rhapsode_operator"),
)
ENTRY_POINTS = {"__init__", "__main__"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_module_stands_in_the_source_map(folder: str) -> None:
    modules = {path.stem for path in (ROOT / folder).glob("*.py")} - ENTRY_POINTS
    assert modules
    assert sorted(name for name in modules if not re.search(rf"[{{,/]{name}[}},.]", TABLE)) == []


def test_the_source_map_names_nothing_that_is_gone() -> None:
    named = re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)*)/\{([a-z_,0-9]+)\}\.py`", TABLE)
    paths = [ROOT / folder / f"{name}.py" for folder, names in named for name in names.split(",")]
    assert paths
    assert [str(path.relative_to(ROOT)) for path in paths if not path.exists()] == []
