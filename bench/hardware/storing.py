"""Where reports stand, and the list of them. Called by `__main__`, and by `make generate` for the list."""

import os
import re
from pathlib import Path

import msgspec

from bench.hardware.records import Report
from bench.hardware.telling import page, verdict

FOLDER = Path(__file__).parents[2] / "docs/hardware"
README = FOLDER / "README.md"
_NONE = "No report so far: no GPU was at hand."
_LIST = re.compile(r"(?<=<!-- reports -->\n).*?(?=<!-- end of reports -->)", re.DOTALL)


def is_among_documents(folder: Path) -> bool:
    """Return whether a folder is that of the repository's reports, by whatever way it is named."""
    return folder.resolve().is_relative_to(FOLDER.resolve())


def store(report: Report, folder: Path) -> Path:
    """Write a report and its page, whole or not at all; return the page. Earlier ones stay."""
    folder.mkdir(parents=True, exist_ok=True)
    name = _free_name(f"{report.date}-{_slug(report.gpu)}", folder)
    data = msgspec.json.format(msgspec.json.encode(report)) + b"\n"
    parts = {folder / f"{name}.md": page(report).encode(), folder / f"{name}.json": data}
    try:
        for path, content in parts.items():
            _write(_beside(path), content)
        for path in parts:
            _beside(path).replace(path)
    finally:
        for path in parts:
            _beside(path).unlink(missing_ok=True)
    return folder / f"{name}.md"


def with_list(readme: str, folder: Path) -> str:
    """Return the folder's README with the list of the reports that are there."""
    lines = [_line(path) for path in sorted(folder.glob("*.json"), reverse=True)]
    return _LIST.sub(lambda _: ("\n".join(lines) or _NONE) + "\n", readme)


def _line(path: Path) -> str:
    report = msgspec.json.decode(path.read_bytes(), type=Report)
    return f"- [{report.date}, {report.gpu}]({path.stem}.md), driver {report.facts.driver}: {verdict(report)}"


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _free_name(name: str, folder: Path) -> str:
    number, free = 1, name
    while (folder / f"{free}.json").exists() or (folder / f"{free}.md").exists():
        number += 1
        free = f"{name}-{number}"
    return free


def _slug(gpu: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")[:60] or "gpu"
