"""What our worker brings into NVIDIA's image fits the packages that TensorRT-LLM pins there."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from support.documents import ROOT

PINS = [
    Requirement(line)
    for line in (ROOT / "tests/architecture/tensorrt-llm-1.2.1-pins.txt").read_text().split("\n")
    if line and line[0] != "#"
]
PYTHON = "3.12"


def brought() -> dict[str, str]:
    """Return what the image's worker requirements pin."""
    found = re.findall(r"^([a-z0-9._-]+)==([^\s\\;]+)", (ROOT / "requirements/worker.txt").read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def test_the_worker_brings_little_and_nothing_that_pulls_more_in() -> None:
    """Each of these depends on nothing, so what is checked here is all there is to resolve."""
    assert brought().keys() == {"msgspec", "nvidia-ml-py", "pip"}


def test_what_both_bring_is_of_a_version_that_both_take() -> None:
    shared = [pin for pin in PINS if canonicalize_name(pin.name) in brought()]
    assert [pin.name for pin in shared] == ["nvidia-ml-py"]
    for pin in shared:
        assert pin.specifier.contains(brought()[canonicalize_name(pin.name)]), str(pin)


def test_our_ranges_and_theirs_have_a_version_in_common() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["worker"])]
    for pin in PINS:
        for own in ours:
            if canonicalize_name(own.name) == canonicalize_name(pin.name):
                both = pin.specifier & own.specifier
                assert both.contains(brought()[canonicalize_name(own.name)]), f"{own} and {pin}"
    assert SpecifierSet(project["requires-python"]).contains(PYTHON)


def test_the_signatures_can_be_read_where_they_are_compared() -> None:
    """YAML comes with transformers there, and with the hub's client in the other image."""
    assert "transformers" in {pin.name for pin in PINS}
    assert "pyyaml==" in (ROOT / "requirements/openvino.txt").read_text()
