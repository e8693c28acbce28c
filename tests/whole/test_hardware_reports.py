"""Where reports of `make hardware` go, what must not be in them, and what a kill, a full disk or a mock leaves."""

import re
import resource
import signal
import socket
from pathlib import Path

import msgspec
import psutil
import pytest
from bench.hardware import storing
from bench.hardware.__main__ import deliver
from bench.hardware.records import Check, Gpu, Report
from bench.hardware.storing import FOLDER, README, store, with_list
from bench.hardware.telling import page

from support.documents import links
from support.fake_nvml import GIB, FakeNvml
from support.hardware import CONTEXT, PATIENT, Measured, measure, measuring
from support.processes import DEADLINE_S, wait_until


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A run that passed."""
    folder = tmp_path_factory.mktemp("hardware")
    status, said, measured = measure(FakeNvml(folder), folder / "reports", *PATIENT)
    assert status == 0, said
    return measured


@pytest.fixture
def report(passed: Measured) -> Report:
    return passed.report()


@pytest.fixture
def driver(tmp_path: Path) -> FakeNvml:
    return FakeNvml(tmp_path)


# What is in a report


def test_a_report_names_the_gpu_and_the_day_and_nobody(passed: Measured, report: Report) -> None:
    assert [path.name for path in passed.files] == [
        f"{report.date}-nvidia-h100-80gb{end}" for end in (".json", ".md")
    ]
    for path in passed.files:
        text = path.read_text()
        assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)
        assert not re.search(r"(GPU|MIG)-[0-9a-f]{8}|/home/|/tmp/|/root/", text)
    assert re.fullmatch(r"[0-9a-f]{7,}(-dirty)?|unknown", report.commit)


def test_a_report_of_a_mock_says_that_it_is_none_of_hardware(report: Report) -> None:
    assert not report.facts.drivers_own
    assert "nothing here is about hardware" in page(report)
    real = msgspec.structs.replace(report, facts=msgspec.structs.replace(report.facts, drivers_own=True))
    assert "nothing here is about hardware" not in page(real)


def test_a_drivers_name_breaks_neither_page_nor_path(report: Report, tmp_path: Path) -> None:
    name = "../../x|y\n# [z](/etc) <b> `"
    hostile = msgspec.structs.replace(
        report, gpu=name, facts=msgspec.structs.replace(report.facts, gpus=[Gpu(name, False, None)])
    )
    path = store(hostile, tmp_path / "out")
    assert path == tmp_path / "out" / f"{report.date}-x-y-z-etc-b.md"
    assert path.read_text().count("\n# ") == 0
    assert links(path) == []
    assert store(msgspec.structs.replace(report, gpu="×"), tmp_path / "out").name == f"{report.date}-gpu.md"


# Where it goes


def test_earlier_reports_of_the_day_stay(report: Report, tmp_path: Path) -> None:
    names = [store(report, tmp_path).name for _ in range(3)]
    start = f"{report.date}-nvidia-h100-80gb"
    assert names == [f"{start}.md", f"{start}-2.md", f"{start}-3.md"]


def test_a_full_disk_leaves_no_half_of_a_report(report: Report, tmp_path: Path) -> None:
    """The page fits, the longer JSON does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    fits = len(page(report).encode())
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fits, hard))
        with pytest.raises(OSError, match="File too large"):
            store(report, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_stored_stands_on_standard_output(driver: FakeNvml, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with measuring(driver, tmp_path / "file" / "reports", *PATIENT) as measured:
        status, out, said = measured.done()
    assert status == 2
    assert out.startswith("# NVIDIA H100 80GB, ")
    assert "It stands on standard output." in said


@pytest.mark.parametrize("way", ["docs/hardware", "docs/../docs/hardware/more", "a link"])
def test_what_a_mock_tells_never_stands_among_the_reports(driver: FakeNvml, tmp_path: Path, way: str) -> None:
    before = sorted(FOLDER.rglob("*"))
    (tmp_path / "link").symlink_to(FOLDER)
    folder = tmp_path / "link" if way == "a link" else FOLDER.parents[1] / way
    status, said, _ = measure(driver, folder, *PATIENT)
    assert status == 2
    assert said.startswith("hardware: the NVML library here is not the driver's own")
    assert "use --out FOLDER" in said
    assert sorted(FOLDER.rglob("*")) == before


def test_the_list_of_reports_is_that_of_the_folder() -> None:
    """`make generate` and `make hardware` write it; by hand it is not edited."""
    assert with_list(README.read_text(), FOLDER) == README.read_text()
    reports = {path.name for path in FOLDER.iterdir()} - {README.name}
    pages = {name for name in reports if name.endswith(".md")}
    assert reports == pages | {name.removesuffix(".md") + ".json" for name in pages}
    assert set(links(README)) == pages
    for path in FOLDER.glob("*.json"):
        found = msgspec.json.decode(path.read_bytes(), type=Report)
        assert found.facts.drivers_own, path.name
        assert path.with_suffix(".md").read_text() == page(found), "the page is not what was measured"


def test_the_list_has_each_report_newest_first(report: Report, tmp_path: Path) -> None:
    head, end = "<!-- reports -->\n", "<!-- end of reports -->\n"
    assert with_list(head + end, tmp_path) == f"{head}No report so far: no GPU was at hand.\n{end}"
    for date in ("2026-01-02", "2027-03-04"):
        store(msgspec.structs.replace(report, date=date), tmp_path)
    told = "driver 580.126.09: passed"
    assert with_list(f"{head}old\n{end}", tmp_path).splitlines()[1:-1] == [
        f"- [{date}, NVIDIA H100 80GB]({date}-nvidia-h100-80gb.md), {told}" for date in ("2027-03-04", "2026-01-02")
    ]


def test_a_report_among_the_documents_is_listed_there(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(storing, "FOLDER", tmp_path)
    monkeypatch.setattr(storing, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(README.read_text())
    assert deliver(report, tmp_path) == 0
    assert links(tmp_path / "README.md") == [f"{report.date}-nvidia-h100-80gb.md"]
    worse = msgspec.structs.replace(report, checks=[Check("that", False, "it did not")])
    assert deliver(worse, tmp_path) == 1
    assert (tmp_path / "README.md").read_text().count("1 failed") == 1
    assert "| that | FAILED | it did not |" in capsys.readouterr().out


# What a kill leaves


@pytest.mark.parametrize("hang", [None, "cuMemAlloc_v2:3"], ids=["between calls", "in a call that hangs"])
def test_a_killed_measurement_holds_no_memory_and_writes_nothing(
    driver: FakeNvml, tmp_path: Path, hang: str | None
) -> None:
    faults = {"hang": hang} if hang else {}
    with measuring(driver, tmp_path / "reports", *PATIENT, "--hold", "600", **faults) as measured:
        wait_until(lambda: driver.gpus[0].used > GIB + CONTEXT, "memory is held")
        children = psutil.Process(measured.process.pid).children(recursive=True)
        measured.send(signal.SIGKILL)
        wait_until(lambda: driver.gpus[0].used == GIB, "the memory is back")
        assert psutil.wait_procs(children, timeout=DEADLINE_S)[1] == []
    assert measured.files == []


def test_an_interrupted_measurement_says_so_and_gives_all_back(driver: FakeNvml, tmp_path: Path) -> None:
    with measuring(driver, tmp_path / "reports", *PATIENT, "--hold", "600") as measured:
        wait_until(lambda: driver.gpus[0].used > GIB + CONTEXT, "memory is held")
        measured.send(signal.SIGINT)
        status, out, said = measured.done()
    assert (status, out, measured.files) == (130, "", [])
    assert said.splitlines()[-1] == "hardware: stopped; the memory is given back, nothing is written"
    wait_until(lambda: driver.gpus[0].used == GIB, "the memory is back")
