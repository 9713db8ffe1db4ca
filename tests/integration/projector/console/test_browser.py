"""The operators' page in a real browser: what is seen, clicked and typed."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from pymongo.database import Database

from projector.settings import ProjectorSettings
from shared.mongo import Document, ensure_read_models
from shared.read_models import USERS_READ
from tests.fixtures.consoles import Console, DeadLetters, Operators
from tests.fixtures.relays import Outbox
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import ProjectorProcess

PHONE = {"viewport": {"width": 375, "height": 812}, "is_mobile": True, "has_touch": True}
SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"


@pytest.fixture
def guarded(make_console: Callable[..., Console], operators: Operators) -> Console:
    """A port with tokens."""
    return make_console(tokens=operators.setting)


def sign_in(page: Page, operators: Operators, scope: str = "operate") -> None:
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Token").fill(operators.secrets[scope])
    page.get_by_label("Token").press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_a_dead_letter_is_retried_after_its_cause_was_mended(
    settings: ProjectorSettings,
    start_projector: Callable[..., ProjectorProcess],
    browse: Callable[..., Page],
    operators: Operators,
    outbox: Outbox,
    read_models: Database[Document],
) -> None:
    projector = start_projector(settings.model_copy(update={"tokens": operators.setting, "max_attempts": 2}))
    projector.wait_ready()
    read_models.command("collMod", USERS_READ.name, validator={"name": {"$ne": "Ada"}})
    message_id = outbox.user(1, name="Ada")
    wait_until(lambda: [state for _, state, _ in outbox.failures()] == ["dead"], "its attempts are used up", 60)

    page = browse(str(projector.http.base_url))
    expect(page.locator("#verdict-title")).to_have_text("1 dead letter waits for you")
    sign_in(page, operators)
    page.get_by_role("button", name="Show 1 message").click()
    page.get_by_role("button", name=f"Show message {message_id}").click()
    expect(page.locator("#message-payload")).to_contain_text('"name": "Ada"')
    expect(page.locator("#message-error")).to_contain_text("validation")
    expect(page.locator("#message-facts")).to_contain_text("after 2 attempts")
    page.get_by_role("button", name="Close").click()

    ensure_read_models(read_models)  # the cause
    page.get_by_role("button", name="Retry 1 dead letter").click()
    page.locator("#confirm").get_by_role("button", name="Retry").click()
    expect(page.locator("#toast")).to_have_text("1 message was put back into the outbox.")
    expect(page.locator("#verdict-title")).to_have_text("Everything is settled")
    expect(page.locator("#dead-letters")).to_contain_text("None.")
    assert read_models[USERS_READ.name].find_one({"_id": 1, "name": "Ada"})
    (line,) = projector.events("console.operated")
    assert (line["operator"], line["action"], line["ids"]) == ("otto", "retry", [message_id])


def test_what_is_discarded_is_asked_about_first(
    guarded: Console, browse: Callable[..., Page], operators: Operators, buried: DeadLetters
) -> None:
    buried.bury(1)
    buried.bury(2)
    page = browse(guarded.url)
    sign_in(page, operators)
    discard = page.get_by_role("button", name="Discard 2 dead letters")
    discard.click()
    dialog = page.locator("#confirm")
    expect(dialog).to_contain_text("Discard 2 dead letters?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert buried.states() == {1: "dead", 2: "dead"}
    discard.click()
    dialog.get_by_role("button", name="Discard").click()
    expect(page.locator("#toast")).to_have_text("2 messages were discarded.")
    expect(page.locator("#dead-letters")).to_contain_text("None.")
    assert buried.states() == {1: "discarded", 2: "discarded"}


def test_everything_can_be_done_with_the_keyboard(
    guarded: Console, browse: Callable[..., Page], operators: Operators, buried: DeadLetters
) -> None:
    buried.bury(1)
    page = browse(guarded.url)
    keyboard = page.keyboard

    def go_to(name: str) -> None:
        for _ in range(30):
            keyboard.press("Tab")
            focused = page.evaluate("(document.activeElement.ariaLabel ?? document.activeElement.textContent).trim()")
            if focused == name:
                style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert style != "none", f"one sees that {name} has the focus"
                return
        pytest.fail(f"{name} is not reached")

    go_to("Skip to the content")
    go_to("Sign in")
    keyboard.press("Enter")
    expect(page.get_by_label("Token")).to_be_focused()
    keyboard.press("Escape")
    expect(page.get_by_role("button", name="Sign in")).to_be_focused()
    keyboard.press("Enter")
    keyboard.type(operators.secrets["operate"])
    keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_focused()
    expect(page.get_by_role("button", name="Show 1 message")).to_be_visible()
    go_to("Show 1 message")
    keyboard.press("Enter")
    expect(page.get_by_role("button", name="Hide messages")).to_be_focused()
    go_to("Show message 1")
    keyboard.press("Enter")
    expect(page.get_by_role("button", name="Close")).to_be_focused()
    keyboard.press("Escape")
    expect(page.get_by_role("button", name="Show message 1")).to_be_focused()
    go_to("Discard message 1, user.created of user 1")
    keyboard.press("Enter")
    # What cannot be undone is not one key away.
    expect(page.locator("#confirm").get_by_role("button", name="Cancel")).to_be_focused()
    keyboard.press("Tab")
    keyboard.press("Enter")
    expect(page.locator("#dead-letters")).to_contain_text("None.")
    expect(page.locator("#dead-letters-title")).to_be_focused()
    assert buried.states() == {1: "discarded"}


def test_what_changes_is_shown_without_a_reload(
    guarded: Console, browse: Callable[..., Page], outbox: Outbox, buried: DeadLetters
) -> None:
    page, other = browse(guarded.url), browse(guarded.url)
    outbox.bulk(1234)
    for shown in (page, other):
        expect(shown.locator("#backlog")).to_have_text("1,234")
        expect(shown.locator("#verdict-title")).to_have_text("No projector is at work")
        expect(shown.locator("#lag-chart path.stroke")).to_be_attached()
    buried.bury(10**6)
    expect(page.locator("#dead")).to_have_text("1")


def test_a_payload_is_text_and_never_part_of_the_page(
    guarded: Console, browse: Callable[..., Page], operators: Operators, buried: DeadLetters
) -> None:
    buried.bury(1, error=SCRIPT, name=SCRIPT)
    page = browse(guarded.url)
    sign_in(page, operators)
    expect(page.locator(".error-line")).to_have_text(SCRIPT)
    page.get_by_role("button", name="Show 1 message").click()
    page.get_by_role("button", name="Show message 1").click()
    expect(page.locator("#message-error")).to_have_text(SCRIPT)
    expect(page.locator("#message-payload")).to_contain_text("<script>")
    assert page.locator("main script, dialog script, main img, dialog img").count() == 0
    assert "owned" not in page.title()


def test_a_wrong_token_is_said_to_be_wrong_and_not_kept(
    guarded: Console, browse: Callable[..., Page], operators: Operators
) -> None:
    page = browse(guarded.url)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Token").fill("kata_wrong")
    page.get_by_label("Token").press("Enter")
    expect(page.get_by_text("This token is not good here.")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    page.get_by_label("Token").fill(operators.secrets["operate"])
    page.get_by_label("Token").press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_without_tokens_the_page_is_read_only_and_says_so(
    make_console: Callable[..., Console], browse: Callable[..., Page], buried: DeadLetters
) -> None:
    buried.bury(1, error="refused by the validator", name="Ada")
    page = browse(make_console().url)
    expect(page.locator("#dead-letters")).to_contain_text("refused by the validator")
    expect(page.locator("#dead-letters")).to_contain_text("Read only")
    page.get_by_role("button", name="Show 1 message").click()
    expect(page.locator(".messages")).to_contain_text("user 1")
    assert page.get_by_role("button", name="Retry").count() == 0
    assert page.get_by_role("button", name="Discard").count() == 0
    assert page.get_by_role("button", name="Sign in").count() == 0
    assert "Ada" not in page.content()


@pytest.mark.parametrize("how", [PHONE, PHONE | {"color_scheme": "dark"}, {"color_scheme": "dark"}])
def test_it_fits_the_screen_and_the_scheme(
    guarded: Console, browse: Callable[..., Page], operators: Operators, buried: DeadLetters, how: dict[str, object]
) -> None:
    for number in range(1, 4):
        buried.bury(number, error=f"an error with a long word {'x' * 300}")
    page = browse(guarded.url, **how)
    sign_in(page, operators)
    page.get_by_role("button", name="Show 3 messages").click()
    expect(page.locator(".messages li")).to_have_count(3)
    wide = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= wide
    if how is not PHONE:
        ground, ink = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        assert brightness(ground) + 100 < brightness(ink)


def test_a_projector_that_is_gone_is_said_to_be_gone(
    settings: ProjectorSettings, start_projector: Callable[..., ProjectorProcess], browse: Callable[..., Page]
) -> None:
    projector = start_projector()
    projector.wait_ready()
    page = browse(str(projector.http.base_url))
    expect(page.locator("#verdict-title")).to_have_text("Everything is settled")
    expect(page.locator("#projectors")).to_contain_text("at work")
    assert projector.end() == 0
    expect(page.locator("#verdict-title")).to_have_text("This projector does not answer")
    expect(page.locator("#connection")).to_have_text("Reconnecting")


def brightness(colour: str) -> float:
    numbers = colour.removeprefix("rgb(").removesuffix(")").split(",")
    return sum(map(float, numbers)) / 3
