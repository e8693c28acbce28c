"""Play three turns of `worker.yaml`: python play_turns.py --relay URL --journal URL. `demo.py` starts all three.

What the model tells goes to standard output as it comes, then what was normalized and written; narration goes to
standard error. At the end the journal is asked what it kept.
"""

import argparse
import hashlib
import json
import secrets
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
from httpx_sse import SSEError, connect_sse

EXAMPLES = """examples:
  python play_turns.py --relay http://127.0.0.1:8080 --journal http://127.0.0.1:8765
  python play_turns.py --session mira --narration cute     again with the same session: nothing is written twice
"""
TIMEOUT = httpx.Timeout(10, read=90)
"""A relay that has nothing to say says so every minute; longer silence is a dead connection."""


class Turn(NamedTuple):
    """What the hero does, what may come of it, and whether places of the journal are woven in."""

    place: str
    event: str
    policy: dict[str, bool]
    sparks: int


TURNS = [
    Turn("the village of Ashford", "the innkeeper asks her to find a lost bell", {"quest": True, "poi": True}, 0),
    Turn("the old mill", "two wolves attack her", {"combat": True, "poi": True}, 0),
    Turn("the cellar under the old mill", "she finds a hidden door", {"quest": True, "poi": True}, 2),
]


class Failed(Exception):
    """The turns cannot go on; the message says why and what to do."""


def main() -> int:
    """Play the turns and show what was kept; return the process's exit status."""
    wish = _parser().parse_args()
    try:
        with httpx.Client(timeout=TIMEOUT) as client:
            told = [_play(client, wish, number, turn) for number, turn in enumerate(TURNS, 1)]
            _show_kept(client, wish, told)
    except (Failed, httpx.HTTPError, SSEError) as exc:
        again = f"play_turns: {str(exc) or type(exc).__name__}\nTo go on, play again with --session {wish.session}\n"
        sys.stderr.write(again)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "play_turns", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--relay", default="http://127.0.0.1:8080", metavar="URL", help="default %(default)s")
    parser.add_argument("--journal", default="http://127.0.0.1:8765", metavar="URL", help="default %(default)s")
    parser.add_argument("--session", default=f"game-{secrets.token_hex(4)}", help="default: a new one")
    parser.add_argument("--seed", type=int, default=0, help="another one tells other stories; default 0")
    parser.add_argument("--narration", choices=["human", "cute", "story", "off"], default="human")
    return parser


def _play(client: httpx.Client, wish: argparse.Namespace, number: int, turn: Turn) -> str:
    """Play one turn and return what was told."""
    _say(f"\nTurn {number}: {turn.place}, {turn.event}\n\n")
    told, end = "", None
    for event in _events(client, wish, number, turn):
        match event["type"]:
            case "token":
                told += event["t"]
                _say(event["t"])
            case "narration" if wish.narration != "off":
                sys.stderr.write(f"· {_plain(event.get(wish.narration) or event['human'])}\n")
            case "snapshot":
                told = event["text"]
                _say(told)
            case "end":
                end = event
            case "error":
                raise Failed(f"turn {number}: {event['error']['code']}: {event['error']['message']}")
    if end is None:
        raise Failed(f"turn {number}: the stream broke off")
    if hashlib.sha256(told.encode()).hexdigest() != end["text_sha256"]:
        raise Failed(f"turn {number}: what came is not what was told")
    _show_end(end)
    return told


def _events(client: httpx.Client, wish: argparse.Namespace, number: int, turn: Turn) -> Iterator[dict[str, Any]]:
    body = {
        "contract": "dungeon-master",
        "inputs": {"session": wish.session, "hero": "Mira the ranger", "place": turn.place, "event": turn.event},
        "policy": turn.policy,
        "context": {"sparks": {"count": turn.sparks}} if turn.sparks else {},
        "temperature": 0.4,
        "seed": wish.seed + number,
        "narration": {} if wish.narration == "off" else {"style": wish.narration},
    }
    headers = {"Idempotency-Key": f"{wish.session}-{number}"}
    with connect_sse(client, "POST", f"{wish.relay}/v1/turns", json=body, headers=headers) as source:
        if not source.response.is_success:
            source.response.read()
            raise Failed(f"the relay answers {source.response.status_code}: {source.response.text}")
        for event in source.iter_sse():
            yield {"type": event.event, **json.loads(event.data or "{}")}


def _show_end(end: dict[str, Any]) -> None:
    _say("\n\n")
    for change in end["normalized"] or []:
        source = f", taken from {change['source']}" if "source" in change else ""
        _say(f"  normalized {change['path']}: {change['what']}{source}\n")
    for write in end["writes"] or []:
        _say(f"  {write['status']:10} {write['sink']}")
        _say(f": {write['reason']}\n" if write.get("reason") else f" in {write['ms']:.0f} ms\n")


def _show_kept(client: httpx.Client, wish: argparse.Namespace, told: list[str]) -> None:
    """Show what the journal has of this session; Failed if a narrative is not what was told."""
    _say(f"\nThe journal of {wish.session}:\n")
    for kind, name in (("quests", "title"), ("combats", "enemies"), ("pois", "name"), ("narratives", "narrative")):
        answer = client.get(f"{wish.journal}/{kind}", params={"session": wish.session}).raise_for_status()
        entries = answer.json()
        for entry in entries:
            value = entry[name] if isinstance(entry[name], str) else ", ".join(entry[name]) or "nobody named"
            shown = f"{len(value)} characters, as they were streamed" if kind == "narratives" else value
            _say(f"  {kind:10} {entry['id']}: {shown}\n")
    if [entry["narrative"] for entry in entries] != told:
        raise Failed("the journal's narratives are not what was streamed")


def _say(text: str) -> None:
    sys.stdout.write(_plain(text))
    sys.stdout.flush()


def _plain(text: str) -> str:
    """Return a text without what would steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


if __name__ == "__main__":
    sys.exit(main())
