"""Change a relay's settings before it reads them. Python imports this where `PYTHONPATH` names its folder."""

import dataclasses
import json
import os
from collections.abc import Mapping

from rhapsode_contract.resources import InferenceWorker
from rhapsode_relay.settings import RelaySettings

_load = RelaySettings.load


def _load_changed(resource: InferenceWorker, environ: Mapping[str, str]) -> RelaySettings:
    return dataclasses.replace(_load(resource, environ), **json.loads(os.environ["RHAPSODE_TEST_SETTINGS"]))


RelaySettings.load = _load_changed  # type: ignore[method-assign]
