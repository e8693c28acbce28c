"""The page in a real browser: a question, what the worker does for it, and what it says."""

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from rhapsode_contract import frames, names
from support.fake_worker import FakeWorker
from support.plays import speechless
from support.processes import Relay, manifest, playing, running_relay, wait_until
from support.screens import Screen

OpenScreen = Callable[..., Screen]
LOADS_SLOWLY = {"load": [{"stage": "importing", "seconds": 0.2}, {"stage": "loading weights", "seconds": 6}]}


def test_what_it_does_stands_beside_what_it_says(open_screen: OpenScreen) -> None:
    with playing(manifest(engine={"options": {"tokensPerSecond": 200}})) as play:
        play.wait_ready()
        screen = open_screen(play.url)
        expect(screen.phase).to_have_text("Ready")
        screen.ask("Why is the sky blue?", most=40)
        screen.await_state("Complete")
        expect(screen.told.first).to_contain_text("Accepted: 20 characters, up to 40 tokens")
        expect(screen.told.last).to_contain_text("Done: 40 tokens")
        assert "Accepted" not in (screen.answer.text_content() or "")
        expect(screen.page.locator("#proof")).to_contain_text("Nothing was lost")
        expect(screen.page.locator("#figures")).to_contain_text("Tokens40")
        expect(screen.gauge("VRAM")).to_contain_text("no GPU")
        expect(screen.gauge("Load")).to_contain_text("0 of 8 requests")


def test_a_question_is_held_while_the_model_loads_and_hears_the_loading(open_screen: OpenScreen) -> None:
    with playing(manifest(engine={"options": LOADS_SLOWLY | {"tokensPerSecond": 500}})) as play:
        wait_until(lambda: play.worker().get("load"), "the worker loads")
        with speechless(play):
            screen = open_screen(play.url)
            expect(screen.phase).to_have_text("Loading")
            screen.ask("Why?", most=5)
            expect(screen.state).to_contain_text("Waiting")
            expect(screen.told.filter(has_text="Waiting: number 1 in line")).to_be_visible()
        expect(screen.told.filter(has_text="Loading: loading weights")).to_be_visible()
        with speechless(play):
            measured = screen.gauge("Loading").get_by_role("progressbar")
            expect(measured).to_have_attribute("aria-valuetext", re.compile(r"^loading weights, \d+ %$"))
        screen.await_state("Complete")
        expect(screen.told.filter(has_text="Ready after")).to_be_visible()
        expect(screen.gauge("Loading")).to_have_count(0)


def test_cancelling_keeps_what_came(relay: Relay, worker: FakeWorker, open_screen: OpenScreen) -> None:
    screen = open_screen(relay.url)
    screen.ask("Sing")
    job = worker.begin()
    worker.speak(job, "Of arms", " and")
    screen.await_answer("Of arms and")
    screen.button("Cancel").click()
    assert worker.receive(frames.Cancel).job_id == job.job_id
    screen.await_state("Cancelled")
    screen.await_answer("Of arms and")
    expect(screen.prompt).to_be_focused()
    expect(screen.button("Cancel")).to_be_disabled()


def test_one_story_is_told_in_three_voices_and_the_choice_is_remembered(
    relay: Relay, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    screen = open_screen(relay.url)
    screen.ask("Sing")
    job = worker.begin()
    worker.send(frames.Narration(job_id=job.job_id, human="Plain words", cute="Sweet words", story="Old words"))
    worker.send(frames.Narration(job_id=job.job_id, human="Only plain"))
    for voice, words in (
        ("Cute", "Sweet words"),
        ("Story", "Old words"),
        ("Human", "Plain words"),
        ("Cute", "Sweet words"),
    ):
        screen.choose(voice)
        expect(screen.told.filter(has_text=words)).to_have_count(1)
        expect(screen.told.filter(has_text="Only plain")).to_have_count(1)
    screen.page.reload()
    expect(screen.page.get_by_role("radio", name="Cute")).to_be_checked()
    expect(screen.told.filter(has_text="Sweet words")).to_have_count(1)


def test_the_questions_of_a_session_can_be_looked_at_again(
    relay: Relay, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    screen = open_screen(relay.url)
    for question, said in (("First?", "one"), ("Second?", "two")):
        screen.ask(question)
        worker.serve(said)
        screen.await_state("Complete")
        screen.await_answer(said)
    past = screen.page.locator("#history button")
    expect(past).to_have_text(["Second?Complete · 1 token", "First?Complete · 1 token"])
    past.nth(1).click()
    screen.await_answer("one")
    expect(past.nth(1)).to_have_attribute("aria-current", "true")
    screen.page.reload()
    screen.await_answer("one")
    screen.button("Clear").click()
    expect(past).to_have_count(0)
    assert not [name for name in screen.kept("sessionStorage") if "job." in name]


def test_two_answers_at_once_do_not_mix(relay: Relay, worker: FakeWorker, open_screen: OpenScreen) -> None:
    screen = open_screen(relay.url)
    screen.ask("First?")
    first = worker.begin()
    screen.ask("Second?")
    second = worker.begin()
    for at, word in enumerate(("a", "b", "c")):
        worker.speak(first, word, start=at)
        worker.speak(second, word.upper(), start=at)
    screen.await_answer("ABC")
    screen.page.locator("#history button").nth(1).click()
    screen.await_answer("abc")


def test_a_worker_that_failed_says_what_to_do(open_screen: OpenScreen) -> None:
    with running_relay() as relay, FakeWorker(relay.socket, ready=False) as worker:
        worker.send(
            frames.State(phase="failed", reason="ModelNotFound", message="No such model. Correct spec.model.source.")
        )
        screen = open_screen(relay.url)
        expect(screen.phase).to_have_text("Failed")
        expect(screen.page.get_by_role("region", name="The worker")).to_contain_text("Correct spec.model.source.")
        screen.ask("Why?")
        screen.await_state("Failed")
        expect(screen.page.locator("#trouble")).not_to_be_empty()


def test_the_memory_of_each_gpu_is_shown(relay: Relay, worker: FakeWorker, open_screen: OpenScreen) -> None:
    gib = 1 << 30
    well = frames.Gpu(
        uuid="a", name="H200", total_bytes=140 * gib, used_bytes=35 * gib, utilization=0.5, temperature_c=61
    )
    sick = frames.Gpu(
        uuid="b", name="H200", total_bytes=140 * gib, used_bytes=gib, healthy=False, trouble="it fell off the bus"
    )
    screen = open_screen(relay.url)
    worker.send(frames.Vram(source="nvml", gpus=[well, sick]))
    expect(screen.gauge("VRAM, GPU 0")).to_contain_text("35.0 of 140.0 GiB")
    expect(screen.gauge("VRAM, GPU 0")).to_contain_text("50 % busy · 61 °C")
    expect(screen.gauge("VRAM, GPU 0").get_by_role("meter")).to_have_attribute("aria-valuenow", "25")
    expect(screen.gauge("VRAM, GPU 1")).to_contain_text("it fell off the bus")
    worker.send(frames.Vram(source="unsupported"))
    expect(screen.gauge("VRAM")).to_contain_text("not measured")


def test_after_an_answer_about_the_worker_that_broke_off_the_page_looks_again(
    relay: Relay, worker: FakeWorker, open_screen: OpenScreen
) -> None:
    screen = open_screen(relay.url)
    expect(screen.gauge("Load")).to_contain_text("0 of 8 requests")
    screen.page.route("**/v1/worker", lambda route: route.fulfill(body='{"phase": '))
    with screen.page.expect_response("**/v1/worker"):
        pass
    screen.page.unroute("**/v1/worker")
    screen.ask("Sing")
    worker.begin()
    expect(screen.gauge("Load")).to_contain_text("1 of 8 requests")


def test_a_key_is_asked_for_and_stays_in_the_tab(tmp_path: Path, open_screen: OpenScreen) -> None:
    (tmp_path / "alice").write_text("open-sesame")
    with running_relay(environ={names.ENV_KEYS: str(tmp_path)}) as relay, FakeWorker(relay.socket) as worker:
        screen = open_screen(relay.url)
        dialog = screen.page.get_by_role("dialog", name="This relay wants a key")
        screen.page.get_by_label("API key").fill("wrong")
        screen.button("Use this key").click()
        expect(dialog.get_by_role("alert")).to_contain_text("does not open")
        screen.button("Not now").click()
        screen.button("Enter the key").click()
        screen.page.get_by_label("API key").fill("open-sesame")
        screen.page.get_by_label("API key").press("Enter")
        expect(screen.phase).to_have_text("Ready")
        screen.ask("Why?")
        worker.serve("Because")
        screen.await_answer("Because")
        assert "open-sesame" in str(screen.kept("sessionStorage"))
        assert "open-sesame" not in str(screen.kept("localStorage")) + screen.page.url
        screen.button("Forget the key").click()
        expect(dialog).to_be_visible()


def test_a_relay_that_refuses_a_stream_says_why(tmp_path: Path, open_screen: OpenScreen) -> None:
    (tmp_path / "alice").write_text("open-sesame")
    resource = manifest()
    resource["spec"]["auth"] = {"secretRef": {"name": "keys"}, "limits": {"streams": 1}}
    with running_relay(resource, {names.ENV_KEYS: str(tmp_path)}) as relay, FakeWorker(relay.socket) as worker:
        screen = open_screen(relay.url)
        screen.page.get_by_label("API key").fill("open-sesame")
        screen.button("Use this key").click()
        expect(screen.phase).to_have_text("Ready")
        screen.ask("Why?")
        worker.serve("Because")
        expect(screen.page.locator("#link-why")).to_contain_text("The relay says: ")
