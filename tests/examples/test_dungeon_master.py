"""The example's contract with the real journal: what is put right, what is written in which order, and what fails."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from journal.entries import decode_entry
from rhapsode_contract import __version__
from rhapsode_contract.validating import decode_manifest
from rhapsode_relay.turns.composing import compose
from rhapsode_relay.turns.contracts import check_contracts, compile_contracts
from rhapsode_relay.turns.gating import closed
from rhapsode_relay.turns.normalizing import normalize
from support.games import ALLOWED, INPUTS, INTENTS, NARRATIVE, Game, play_turns, playing_game, resource
from support.journals import FOLDER, refusing
from support.streams import text_of

TEXT = "".join(NARRATIVE)
OUTCOMES = decode_manifest(resource("http://journal")).spec.outcomes
CONTRACT = compile_contracts(OUTCOMES)["dungeon-master"]


@pytest.fixture
def game() -> Iterator[Game]:
    with playing_game() as running:
        yield running


def statuses(events: list[Any]) -> dict[str, str]:
    return {one["sink"]: one["status"] for one in events[-2].data["writes"]}


# The contract


def test_the_contract_is_sound_and_writes_in_its_order() -> None:
    assert check_contracts(OUTCOMES) == []
    assert [sink.name for sink in CONTRACT.outcome.sinks] == ["quest", "combat", "poi", "narrative"]


def texts(limit: int, least: int = 0) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=limit)


def worded(kind: str) -> st.SearchStrategy[str]:
    return st.from_regex(OUTCOMES[0].schema["$defs"][kind]["pattern"])


NAME, SENTENCE = worded("name"), worded("sentence")


def noted(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"action": st.sampled_from(["create", "none"]), **required}, optional=optional)


ANY_INTENTS = st.fixed_dictionaries(
    {
        "location": st.fixed_dictionaries({"name": NAME}),
        "quest": noted({"title": NAME}, {"description": SENTENCE}),
        "combat": noted({"enemies": st.lists(NAME, max_size=3)}, {"description": SENTENCE}),
        "poi": noted({"description": SENTENCE}, {"name": NAME, "tags": st.lists(NAME, max_size=3)}),
    }
)


@given(narrative=texts(100, 1), intents=ANY_INTENTS)
def test_whatever_the_model_may_say_the_journal_takes(narrative: str, intents: dict[str, Any]) -> None:
    outcome = {"narrative": narrative, "intents": intents}
    normalize(outcome, CONTRACT.outcome.normalize)
    assert CONTRACT.checker.problems(outcome) == []
    assert outcome["narrative"] == narrative
    for sink in CONTRACT.outcome.sinks:
        if not closed(sink.when, {"policy": ALLOWED, "inputs": INPUTS}, outcome):
            kind = sink.url.rpartition("/")[2]
            decode_entry(kind, json.dumps(compose(sink, outcome, INPUTS)).encode())


@pytest.mark.parametrize(
    ("poi", "location", "name"),
    [
        ({}, "The Mill", "The Mill"),
        ({"name": " "}, "The Mill", "The Mill"),
        ({"name": ""}, " ", "A Notable Location"),
        ({"name": "x" * 201}, "The Mill", "x" * 200),
        ({"name": " Door "}, "The Mill", " Door "),
    ],
)
def test_a_place_gets_a_name(poi: dict[str, str], location: str, name: str) -> None:
    outcome: dict[str, Any] = {"narrative": "x", "intents": {"location": {"name": location}, "poi": poi}}
    normalize(outcome, CONTRACT.outcome.normalize)
    assert outcome["intents"]["poi"] == {"name": name, "tags": []}


def test_what_is_trimmed_still_fits_the_schema() -> None:
    long, longer = "ab " + "x" * 300, "Ab " + "x" * 3000
    intents = json.loads(json.dumps(INTENTS))
    intents["quest"] |= {"title": long, "description": longer}
    intents["combat"]["enemies"] = [long]
    intents["poi"] |= {"name": long, "description": longer, "tags": [long]}
    outcome: dict[str, Any] = {"narrative": TEXT, "intents": intents}
    assert len(normalize(outcome, CONTRACT.outcome.normalize)) == 6
    assert CONTRACT.checker.problems(outcome) == []
    assert outcome["intents"]["combat"]["enemies"] == [long[:200]]


def test_a_description_is_at_most_2000_characters_long() -> None:
    outcome: dict[str, Any] = {
        "narrative": "x" * 3000,
        "intents": {"quest": {"title": "x", "description": "x" * 2001}},
    }
    normalize(outcome, CONTRACT.outcome.normalize)
    assert len(outcome["intents"]["quest"]["description"]) == 2000
    assert len(outcome["narrative"]) == 3000


# Turns


def test_a_turn_is_kept_in_order_and_byte_for_byte(game: Game) -> None:
    told = game.turn()
    assert text_of(told) == TEXT
    assert statuses(told) == dict.fromkeys(("quest", "combat", "poi", "narrative"), "written")
    assert game.between.paths() == ["/quests", "/combats", "/pois", "/narratives"]
    assert game.journal.get("/narratives")[0]["narrative"] == TEXT
    assert game.journal.get("/combats")[0]["enemies"] == ["wolf"]
    assert len({call.headers["Idempotency-Key"] for call in game.between.calls}) == 4


def test_gates_hold_back_what_is_not_allowed_or_not_new(game: Game) -> None:
    told = game.turn({"quest": INTENTS["quest"] | {"action": "none"}}, policy={"quest": True, "poi": True})
    assert statuses(told) == {"quest": "skipped", "combat": "skipped", "poi": "written", "narrative": "written"}
    assert game.kept() == {"quests": 0, "combats": 0, "pois": 1, "narratives": 1}


def test_places_of_earlier_turns_come_back_when_they_are_asked_for(game: Game) -> None:
    game.turn()
    game.between.calls.clear()
    game.turn(context={"sparks": {"count": 2}})
    assert game.between.calls[0].path == "/pois/random?count=2"
    prompts = [
        CONTRACT.prompts.narrative(INPUTS, {"sparks": sparks})[1].text() for sparks in ([{"name": "Door"}], [])
    ]
    assert ["Door" in prompt for prompt in prompts] == [True, False]


def test_nothing_is_kept_of_a_story_whose_notes_are_wrong(game: Game) -> None:
    told = game.turn({"poi": {"action": "destroy", "description": "x"}})
    assert told[-2].data["error"]["code"] == "outcome_invalid"
    assert game.kept() == dict.fromkeys(game.kept(), 0)
    assert game.between.calls == []


@pytest.mark.parametrize("status", [404, 500, 409, 507])
def test_a_sink_that_fails_stops_no_other(game: Game, status: int) -> None:
    game.between.answers["/combats"] = (status, b"no")
    assert statuses(game.turn()) == {
        "quest": "written", "combat": "failed", "poi": "written", "narrative": "written",
    }  # fmt: skip
    assert game.kept() == {"quests": 1, "combats": 0, "pois": 1, "narratives": 1}


def test_a_journal_that_is_away_costs_the_writes_and_not_the_story(game: Game) -> None:
    game.between.go_away()
    told = game.turn(context={"sparks": True})
    assert text_of(told) == TEXT
    assert set(statuses(told).values()) == {"failed"}
    game.between.come_back()
    assert set(statuses(game.turn()).values()) == {"written"}


def test_a_full_journal_refuses_and_the_turn_says_so(game: Game) -> None:
    game.between.answers["/narratives"] = (507, b'{"error":{"code":"full"}}')
    narrative = game.turn()[-2].data["writes"][-1]
    assert (narrative["status"], narrative["http_status"]) == ("failed", 507)


# The client


def test_three_turns_are_shown_and_the_same_session_again_writes_nothing_twice(game: Game) -> None:
    for first in (True, False):
        with play_turns(game.relay.url, game.journal.url, "--session", "mira") as playing:
            for _ in range(3 if first else 0):
                game.answer()
            out, err = playing.communicate(timeout=120)
        assert playing.returncode == 0, err
        assert out.count("You enter — ünder \N{REPLACEMENT CHARACTER}moss.") == 3
        assert "normalized /intents/poi/tags: fallback\n" in out
        assert "skipped    combat: /policy/combat of the request is not true" in out
        assert "written    narrative in " in out
        assert f"{len(TEXT)} characters, as they were streamed" in out
        assert "· Accepted" in err
        assert game.kept() == {"quests": 2, "combats": 1, "pois": 3, "narratives": 3}


def test_what_fails_is_said_with_how_to_go_on(game: Game) -> None:
    with refusing() as away:
        for relay, words in ((away, "Connection refused"), (game.journal.url, "answers 404")):
            check_what_is_said(relay, words, game)


def check_what_is_said(relay: str, words: str, game: Game) -> None:
    with play_turns(relay, game.journal.url, "--session", "mira") as playing:
        _, err = playing.communicate(timeout=120)
    assert playing.returncode == 1
    assert words in err
    assert err.endswith("To go on, play again with --session mira\n")
    assert "Traceback" not in err


# In a cluster


def test_the_cluster_s_journal_has_all_of_its_code_and_its_address() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    files = kustomization["configMapGenerator"][0]["files"]
    assert files == sorted(f"journal/{path.name}" for path in (FOLDER / "journal").glob("*.py"))
    service, deployment = yaml.safe_load_all((FOLDER / "journal.yaml").read_text())
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"rhapsode-relay:{__version__}"
    assert {sink.url.rpartition("/")[0] for sink in CONTRACT.outcome.sinks} == {
        f"http://{service['metadata']['name']}"
    }
    assert service["spec"]["ports"][0]["port"] == 80
