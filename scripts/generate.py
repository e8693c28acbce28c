"""Write what is made from the code: `docs/narration.md`, `docs/inferenceworker.md`, `crds/`, `deploy/role.yaml`, and
of the chart: its values, their schema and table, the CRD, the operator's rules and the dashboard; the list of
`docs/hardware/`, and the table of `docs/clients.md`.

Run by `make generate`; `.ci/run` fails when the result differs from what is committed.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from rhapsode_contract.catalogue import CATALOGUE, Entry
from rhapsode_contract.schemas import custom_resource_definition
from rhapsode_operator.permissions import LEAD, WORK, role_yaml, rules_yaml

sys.path.insert(0, str(Path(__file__).parent.parent))
from bench.hardware.storing import FOLDER, README, with_list

from scripts.chart_pages import readme, values_schema, values_yaml
from scripts.clients_page import with_clients
from scripts.dashboard import dashboard_json
from scripts.resource_page import resource_page

ROOT = Path(__file__).parent.parent
CHART = ROOT / "charts/rhapsode"
MADE = "<!-- Made by `make generate`; edit the code that it names, not this page. -->\n"

NARRATION_HEAD = f"""{MADE}
# What Rhapsode says

Every action that Rhapsode narrates by itself, from the one table in
[catalogue.py](../contract/rhapsode_contract/catalogue.py). Programs act on `action` and `fields`; people read
`human`, `cute` or `story`, which say the same fact in three voices. An action's name never changes once released.

In the words, `{{name}}` is a field, `{{name:unit}}` a field shown in that unit, and a part in `[…]` is left out
when its field is unknown: a number is measured or absent. How to narrate yourself: [stream.md](stream.md).
"""
LIFECYCLE_HEAD = """
## Lifecycle

To standard output, to the worker's stream, and into a request only while that request waits for the worker.
"""
REQUEST_HEAD = """
## Requests

To standard output and to that request's readers.
"""
CRD_HEAD = "# Made by `make generate` from contract/rhapsode_contract/resources.py; edit that.\n"


def narration_page() -> str:
    """Return the catalogue as a page."""
    parts = [NARRATION_HEAD]
    for audience, head in (("lifecycle", LIFECYCLE_HEAD), ("request", REQUEST_HEAD)):
        entries = [entry for entry in CATALOGUE.values() if entry.audience == audience]
        parts += [head, *map(_entry_section, entries)]
    return "".join(parts)


def _entry_section(entry: Entry) -> str:
    fields = ", ".join(f"`{name}`" for name in sorted(entry.fields))
    voices = [("human", entry.human), ("cute", entry.cute), ("story", entry.story)]
    words = "".join(f"- {voice}: {text}\n" for voice, text in voices if text)
    return f"\n### `{entry.action}`\n{entry.actor}, {entry.level}. Fields: {fields}.\n\n{words}"


def _yaml(head: str, *documents: dict[str, Any]) -> str:
    return head + yaml.safe_dump_all(documents, sort_keys=False, width=110, allow_unicode=True)


def main() -> None:
    """Write the pages."""
    (ROOT / "docs/narration.md").write_text(narration_page())
    (ROOT / "docs/inferenceworker.md").write_text(MADE + resource_page())
    crd = _yaml(CRD_HEAD, custom_resource_definition())
    (ROOT / "crds/inferenceworkers.rhapsode.dev.yaml").write_text(crd)
    (ROOT / "deploy/role.yaml").write_text(role_yaml())
    _write_chart(crd)
    README.write_text(with_list(README.read_text(), FOLDER))
    clients = ROOT / "docs/clients.md"
    clients.write_text(with_clients(clients.read_text()))


def _write_chart(crd: str) -> None:
    (CHART / "values.yaml").write_text(values_yaml())
    (CHART / "values.schema.json").write_text(values_schema())
    (CHART / "README.md").write_text(readme((CHART / "README.md").read_text()))
    (CHART / "files/inferenceworkers.rhapsode.dev.yaml").write_text(crd)
    (CHART / "files/rules.work.yaml").write_text(rules_yaml(WORK))
    (CHART / "files/rules.lead.yaml").write_text(rules_yaml(LEAD))
    (CHART / "files/dashboard.json").write_text(dashboard_json())


if __name__ == "__main__":
    main()
