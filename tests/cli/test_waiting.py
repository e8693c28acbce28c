"""What `kubectl rhapsode ask` tells of a worker that nobody can ask yet."""

from typing import Any

import pytest

from rhapsode.errors import CommandError
from rhapsode.kubectl.waiting import tell

JSON = dict[str, Any]


def worker(*, stalled: bool, spec: JSON | None = None) -> JSON:
    ready = {"type": "Ready", "status": "False", "reason": "ImagePull", "message": "no such image. Check its name."}
    status = {"phase": "Failed", "conditions": [ready, {"type": "Stalled", "status": str(stalled)}]}
    return {"metadata": {"name": "choir"}, "spec": spec or {}, "status": status}


def test_when_only_a_person_can_help_it_says_so_and_what_to_look_at() -> None:
    assert list(tell(worker(stalled=True), " -n music")) == [
        ("error", "choir is Failed: ImagePull: no such image. Check its name."),
        (
            "error",
            (
                "choir is stalled: nothing will change until a person acts (kubectl rhapsode explain choir -n music);"
                " waiting, Ctrl-C ends it"
            ),
        ),
    ]


def test_what_may_get_well_by_itself_is_not_called_stalled() -> None:
    assert [line for _, line in tell(worker(stalled=False))] == [
        "choir is Failed: ImagePull: no such image. Check its name."
    ]


@pytest.mark.parametrize("spec", [{"suspend": True}, {"replicas": 0}])
def test_nobody_waits_for_pods_that_nobody_wants(spec: JSON) -> None:
    with pytest.raises(CommandError, match=r"kubectl (patch|scale) iw choir"):
        list(tell(worker(stalled=False, spec=spec)))
