"""What the journal keeps, and the bounds of it. Pure; used by `app`, which reads bodies with it."""

from typing import Annotated

import msgspec

MAX_BODY_BYTES = 512 * 1024
"""The longest narrative with each of its characters escaped."""

Session = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Description = Annotated[str, msgspec.Meta(max_length=2000)]
Names = Annotated[list[Name], msgspec.Meta(max_length=20)]


class Quest(msgspec.Struct, frozen=True):
    """What the party has been asked to do."""

    session: Session
    title: Name
    description: Description = ""


class Combat(msgspec.Struct, frozen=True):
    """A fight that has begun."""

    session: Session
    enemies: Names
    description: Description = ""


class Poi(msgspec.Struct, frozen=True):
    """A place that is worth a return."""

    session: Session
    name: Name
    description: Description = ""
    tags: Names = []


class Narrative(msgspec.Struct, frozen=True):
    """What the players read in one turn."""

    session: Session
    narrative: Annotated[str, msgspec.Meta(min_length=1, max_length=65536)]


Entry = Quest | Combat | Poi | Narrative
KINDS: dict[str, type[Entry]] = {"quests": Quest, "combats": Combat, "pois": Poi, "narratives": Narrative}


class Refused(Exception):
    """A request that the journal does not take: its status, a code for programs, what is wrong and where."""

    def __init__(self, status: int, code: str, message: str, where: str) -> None:
        super().__init__(message)
        self.status, self.code, self.where = status, code, where


def decode_entry(kind: str, body: bytes | str) -> Entry:
    """Return the entry that a body holds; fields that the journal does not know are passed over."""
    try:
        return msgspec.json.decode(body, type=KINDS[kind])
    except msgspec.ValidationError as exc:
        what, _, where = str(exc).partition(" - at ")
        raise Refused(400, "invalid_entry", what, where.strip("`") or "$") from exc
    except RecursionError as exc:
        raise Refused(400, "invalid_json", "nested too deeply", "body") from exc
    except ValueError as exc:  # not JSON, or not Unicode: half of a surrogate pair cannot be kept
        raise Refused(400, "invalid_json", str(exc), "body") from exc
