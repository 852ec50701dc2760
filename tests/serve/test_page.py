"""The page in a real browser: the journey of a visitor, hostile names and texts, accessibility, keys."""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fakes import DenseFake, FakeBackend
from tests.serve.conftest import write_media
from tests.small_decoder import random_decoder
from tests.small_files import one_of_each
from xsearch.collection import Collection
from xsearch.serve.app import create_app
from xsearch.serve.run import listen, uvicorn_server
from xsearch.serve.settings import Settings
from xsearch.types import Modality

playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ("--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
if not CHROMIUM.exists():
    pytest.skip(f"no {CHROMIUM}", allow_module_level=True)

AXE = Path(__file__).parent / "axe" / "axe.min.js"
PATIENCE_MS = 120_000  # on a machine that is busy; nothing waits without need
HOSTILE = '<img src=x onerror="hacked=1"><script>hacked=1<'
ANSI = "\x1b[31mred\x1b[0m \u202eder"
expect = playwright.expect
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The media of the other tests, more pictures, and a file that would run if it could."""
    folder = write_media(tmp_path_factory.mktemp("page") / "media")
    for at in range(40):
        colour = tuple(np.random.default_rng(at).integers(0, 255, 3).tolist())
        Image.new("RGB", (60 + at, 40), colour).save(folder / f"shade {at:02}.png")
        (folder / f"shade {at:02}.json").write_text(f'{{"weight_g": {at / 4}}}')
    shutil.copy(folder / "red.png", folder / "red again.png")
    (folder / "small").mkdir()
    kinds = one_of_each(folder / "small", np.full((40, 60, 3), 90, np.uint8))
    for kind, path in kinds.items():
        if kind not in ("video", "thermal"):
            path.unlink()
    hostile = folder / f"red {HOSTILE}.png"
    Image.new("RGB", (48, 48), (250, 1, 1)).save(hostile)
    hostile.with_name(f"{hostile.stem}.json").write_text(
        '{"camera": "<script>hacked=1</script>", "note": "javascript:hacked=1 \\u001b[31m"}'
    )
    (folder / "note.txt").write_text(f"red {HOSTILE} {ANSI}")
    return folder


@pytest.fixture(scope="module")
def site(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server on these media."""
    folder = tmp_path_factory.mktemp("site")
    collection = Collection.create(folder / "photos", backend=DenseFake())
    report = collection.ingest(media)
    assert not report.skipped
    empty = Collection.create(folder / "empty", backend=FakeBackend())
    decoder = random_decoder(FakeBackend().fingerprint)
    listening, settings = listen(Settings(port=0, cache=folder / "cache"))
    ready = threading.Event()
    server = uvicorn_server(create_app([collection, empty], settings, decoder), settings, ready.set)
    thread = threading.Thread(target=server.run, args=[[listening]])
    thread.start()
    assert ready.wait(60)
    yield f"http://127.0.0.1:{settings.port}"
    server.should_exit = True
    thread.join(60)
    listening.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, site: str) -> Iterator[Any]:
    """A tab that fails the test for an error, a dialog, a refusal of the content policy, or hostile code."""
    context = chromium.new_context(
        base_url=site, viewport={"width": 1280, "height": 900}, reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE_MS)
    tab = context.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    tab.on("console", lambda message: problems.append(message.text) if is_wrong(message) else None)
    yield tab
    assert not problems
    assert tab.evaluate("() => typeof hacked") == "undefined"
    context.close()


def is_wrong(message: Any) -> bool:
    """Whether a line of the console is an error; none: the problem of a page, an upload or a preview."""
    is_page = message.location["url"].split("?")[0].endswith(("/", "/v1/uploads", "/preview"))
    return message.type == "error" and not (is_page and message.text.startswith("Failed to load resource"))


def tiles(page: Any) -> Any:
    return page.locator("#results .tile")


def names(page: Any) -> list[str]:
    return list(page.locator("#results .tile").evaluate_all("each => each.map(tile => tile.dataset.name)"))


def test_the_journey(page: Any, media: Path) -> None:
    page.goto("/")
    expect(page.locator(".grid[data-laid]")).to_be_visible()

    picture = (media / "red.png").read_bytes()
    page.evaluate(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "red.png", { type: "image/png" }));
            document.body.dispatchEvent(new DragEvent("dragenter", { dataTransfer: data, bubbles: true }));
            document.querySelector(".zone").dispatchEvent(
                new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        list(picture),
    )
    chips = page.locator(".term[data-source]")
    expect(chips).to_have_count(1)
    expect(chips.first).to_contain_text("red.png")
    page.locator("#pick").set_input_files(media / "tone.wav")
    expect(chips).to_have_count(2)
    expect(page.locator(".formula")).to_have_text("red.png + tone.wav")

    chips.nth(1).locator("input[type=range]").fill("0.5")
    expect(page).to_have_url(re.compile(r"p=0\.5\*upload|p=0.5%2Aupload"))
    expect(page.locator(".formula")).to_have_text("red.png + 0.5 × tone.wav")

    page.locator(".kinds a.image").click()
    expect(page.locator(".kinds a.image")).to_have_attribute("aria-current", "true")
    expect(page.locator("#results .tile:not(.image)")).to_have_count(0)
    before = names(page)
    assert "shade 00.png" in before

    page.locator("#cut summary").click()
    expected = tiles(page).evaluate_all("each => each.map(tile => Number(tile.dataset.expected))")
    level = np.floor(10 * np.log10(np.median(expected) + 1e-3)) / 10
    page.locator('#cut input[data-kind="all"]').fill(f"{np.clip(level, -3, 2):.1f}")
    expect(page.locator("#results .tile.beyond").first).to_be_attached()
    expect(page.locator("#results .tile:not(.beyond)").first).to_be_attached()
    page.get_by_label("is hidden").check()
    expect(page).to_have_url(re.compile("beyond=hide"))
    expect(page.locator("#results .tile.beyond")).to_have_count(0)
    assert set(names(page)) < set(before)
    page.locator("#cut summary").click()

    cut = page.url
    tiles(page).first.locator(".open").click()
    panel = page.locator("#panel")
    expect(panel.locator("h2").first).to_have_text(names(page)[0])
    expect(panel.locator(".path code")).to_contain_text(str(media))
    expect(panel.locator(".near .tile.audio").first).to_be_visible()

    panel.get_by_role("link", name="Similar").first.click()
    expect(panel).to_be_hidden()
    expect(chips).to_have_count(1)
    assert re.fullmatch(r"/\?p=item%3A\d+", page.url.removeprefix(cut.partition("/?")[0]))

    page.go_back()
    expect(panel).to_be_visible()
    page.go_back()
    expect(panel).to_be_hidden()
    assert page.url == cut
    expect(chips).to_have_count(2)

    shown = names(page)
    page.reload()
    expect(chips).to_have_count(2)
    expect(page.locator(".formula")).to_have_text("red.png + 0.5 × tone.wav")
    assert names(page) == shown


def test_what_is_alike_is_folded_and_several_can_be_chosen(page: Any) -> None:
    page.goto("/?q=red&kind=image")
    folded = tiles(page).filter(has=page.locator(".folded"))
    expect(folded.first.locator(".folded")).to_have_text(re.compile(r"\+\d"))
    folded.first.locator(".folded").click()
    expect(page.locator(".folded")).to_have_count(0)
    assert {"red.png", "red again.png"} <= set(names(page))

    boxes = page.locator("#results .pick")
    boxes.nth(0).check()
    boxes.nth(3).click(modifiers=["Shift"])
    expect(page.locator("#selection .chosen")).to_have_text("4 selected")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert len(rows) == 5
    page.get_by_role("button", name="Add to the query").click()
    expect(page.locator(".term[data-source]")).to_have_count(4)


def test_filters_sort_and_saved_searches(page: Any) -> None:
    page.goto("/?q=green")
    page.get_by_role("button", name="Filters").click()
    page.locator(".facet a").filter(has_text="Box 1").click()
    expect(page.locator(".chosen-filters")).to_contain_text("Box 1")
    expect(tiles(page)).not_to_have_count(0)
    assert {Path(name).stem for name in names(page)} <= {"red", "blue"}

    page.locator("#saved summary").click()
    page.get_by_role("button", name="Save this search").click()
    page.goto("/")
    page.locator("#saved summary").click()
    page.locator("#saved a").filter(has_text="green").click()
    expect(page.locator(".chosen-filters")).to_contain_text("Box 1")
    expect(page.locator("#q")).to_have_value("green")

    page.locator("#where").fill("width > 10")
    page.keyboard.press("Enter")
    expect(page.locator(".chosen-filters")).to_contain_text("width > 10")
    weight = page.locator(".range[data-column=weight_g] input")
    weight.nth(0).fill("1")
    weight.nth(1).fill("2,5")
    page.keyboard.press("Enter")
    expect(page.locator(".chosen-filters")).to_contain_text("1 … 2.5")
    expect(page.locator("#q")).to_have_value("green")
    page.locator(".chosen-filters a").filter(has_text="Box 1").click()
    expect(tiles(page)).not_to_have_count(0)
    assert {*names(page)} <= {f"shade {at:02}.png" for at in range(4, 11)}

    page.goto("/?q=red&where=nonsense")
    expect(page.get_by_role("alert").filter(has_text="nonsense")).to_be_visible()


def test_names_texts_and_metadata_never_run(page: Any) -> None:
    page.goto("/?q=" + "red %3Cscript%3Ehacked%3D1%3C/script%3E")
    expect(tiles(page).filter(has_text=f"red {HOSTILE} ").first).to_be_visible()  # a text
    hostile = page.locator("#results .tile.image").filter(has_text=HOSTILE)
    expect(hostile.first).to_be_visible()
    page.get_by_role("button", name="Filters").click()
    expect(page.locator(".facet").filter(has_text="<script>hacked=1</script>").first).to_be_visible()
    hostile.first.locator(".open").click()
    expect(page.locator("#panel .about")).to_contain_text("javascript:hacked=1")
    page.locator("#panel").get_by_role("button", name="More like this").click()
    expect(page.locator(".term .label").filter(has_text=HOSTILE)).to_be_visible()
    expect(page.locator(".formula")).to_contain_text(HOSTILE)
    assert "\x1b" not in page.content()


VIEWS = {  # name -> address, what is pressed there, and what is shown then
    "home": ("/", "", ".grid[data-laid]"),
    "results": ("/?q=red&p=-0.5*text:green", "", ".grid[data-laid]"),
    "columns": ("/?q=red&view=kinds", "", ".columns .grid[data-laid]"),
    "map": ("/?q=red&view=map", "", "#map canvas"),
    "none": ("/?q=red&where=width<0", "", ".notice"),
    "problem": ("/?q=red&where=nonsense", "", ".notice"),
    "empty": ("/?collection=empty", "", ".notice pre"),
    "cut": ("/?q=red", "#cut summary", "#cut .sheet"),
    "order": ("/?q=red", "#order summary", "#order .sheet"),
    "saved": ("/?q=red", "#saved summary", "#saved .sheet"),
    "collections": ("/", ".brand summary", ".brand .sheet"),
    "filters": ("/?q=red&f=camera:Box+1", "[data-do=filters]", ".facet"),
    "drawing": ("/?q=red", "[data-do=draw]", "#drawing li:nth-child(4) img"),
    "selection": ("/?q=red", "#results .pick", "#selection"),
    "recorder": ("/", "[data-do=microphone]", "#recorder .level"),
    "help": ("/", "[data-do=help]", "#help"),
    "missing": ("/?item=99999", "", "#panel .notice"),
    "range": ("/?q=red&f=weight_g:1..2", "[data-do=filters]", ".facet .range"),
    **{str(kind): (f"/?kind={kind}", f"#results .{kind} .open", "#panel .near .tile") for kind in Modality},
}


def check_accessibility(page: Any) -> None:
    """Fail for what axe-core finds in either theme, but for links that an open menu covers in part."""
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        found = page.evaluate(
            """() => axe.run(document.querySelector(".brand [open]") ? { exclude: [[".kinds"]] } : document, {
                resultTypes: ["violations"],
                runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] })"""
        )
        listed = [
            (each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found["violations"]
        ]
        assert not listed, theme


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_accessible_in_both_themes_and_fits_a_phone(page: Any, view: str) -> None:
    path, pressed, shown = VIEWS[view]
    page.context.add_init_script(path=str(AXE))
    page.goto(path)
    if pressed:
        page.locator(pressed).first.click()
    expect(page.locator(shown).first).to_be_visible()
    check_accessibility(page)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth", timeout=PATIENCE_MS)


def test_what_comes_and_goes_is_accessible(page: Any) -> None:
    """An ingest, a server that is gone, and the zones while something is dragged."""
    page.context.add_init_script(path=str(AXE))
    page.add_init_script(
        """window.EventSource = class extends EventTarget {
            static CONNECTING = 0;
            readyState = 0;
            constructor() { super(); window.events = this; }
            close() {}
        };"""
    )
    page.goto("/?q=red")
    line = page.locator("#ingest")
    state = {"collection": "photos", "generation": 1, "items": 7, "writer": None}
    tell = "data => events.dispatchEvent(new MessageEvent('state', { data }))"
    for now, text in (
        (state | {"writer": {"pid": 1, "host": "a", "since": "b"}}, "Ingesting"),
        (state | {"generation": 2}, "has changed"),
    ):
        page.evaluate(tell, json.dumps(now))
        expect(line).to_contain_text(text)
        check_accessibility(page)
    line.get_by_role("link").click()
    expect(line).to_be_hidden()
    expect(page.locator("body.busy")).to_have_count(0)
    page.evaluate("() => events.dispatchEvent(new Event('error'))")
    expect(line).to_contain_text("does not answer")
    check_accessibility(page)

    page.evaluate("""() => {
        const data = new DataTransfer();
        data.items.add(new File(["x"], "x.png"));
        document.body.dispatchEvent(new DragEvent("dragenter", { dataTransfer: data, bubbles: true }));
    }""")
    expect(page.locator(".zone").first).to_be_visible()
    check_accessibility(page)


def test_a_damaged_file_is_reported_on_the_spot(page: Any, media: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes((media / "red.png").read_bytes()[:60])
    page.context.add_init_script(path=str(AXE))
    page.goto("/")
    page.locator("#pick").set_input_files([media / "red.png", torn])
    refused = page.locator(".term.refused")
    expect(refused).to_contain_text("truncated")
    expect(page.locator(".term[data-source]")).to_have_count(1)
    assert page.url.endswith("/")
    check_accessibility(page)
    refused.get_by_role("button", name="Go on without it").click()
    expect(page).to_have_url(re.compile(r"\?p=upload"))
    expect(page.locator(".term")).to_have_count(1)
    expect(tiles(page).first).to_contain_text("red")


def test_a_recording_a_photo_and_the_clipboard_become_parts(page: Any, media: Path) -> None:
    page.goto("/")
    chips, capture = page.locator(".term[data-source]"), page.locator("#recorder [data-do=capture]")
    page.locator("[data-do=microphone]").click()
    expect(page.locator("#recorder .level")).to_be_visible()
    capture.click()
    expect(chips).to_have_count(1)
    expect(chips.first).to_contain_text("recording.wav")

    page.locator("[data-do=camera]").click()
    expect(page.locator("#recorder .finder")).to_be_visible()
    capture.click()
    expect(chips).to_have_count(2)
    expect(chips.nth(1)).to_contain_text("photo.jpg")

    page.evaluate(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
            document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
        }""",
        list((media / "red.png").read_bytes()),
    )
    expect(chips).to_have_count(3)
    expect(chips.nth(2)).to_contain_text("pasted.png")


def test_a_message_is_above_the_dialog_that_it_is_about(page: Any) -> None:
    page.clock.install()
    page.goto("/?item=1")
    page.clock.pause_at(page.evaluate("() => Date.now() / 1000 + 3600"))  # a message goes with time
    page.locator("#panel [data-do=copy-path]").click()
    expect(page.locator("#toast")).to_be_visible()
    colour = page.evaluate("() => getComputedStyle(document.getElementById('toast')).backgroundColor")
    picture = Image.open(io.BytesIO(page.screenshot(clip=page.locator("#toast").bounding_box())))
    seen = picture.convert("RGB").getpixel((picture.width // 2, 4))
    assert colour == f"rgb({seen[0]}, {seen[1]}, {seen[2]})"


def test_a_file_on_its_way_outlives_the_page_that_it_was_brought_to(page: Any, media: Path) -> None:
    page.goto("/")
    sent: list[Any] = []
    page.route(lambda url: "name=tone.wav" in url, lambda route: sent.append(route))
    with page.expect_request(lambda request: "name=tone.wav" in request.url):
        page.locator("#pick").set_input_files(media / "tone.wav")
    expect(page.locator(".term.busy")).to_have_count(1)
    page.locator("#q").fill("red")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("q=red"))
    expect(page.locator("body.busy")).to_have_count(0)
    expect(page.locator(".term.busy")).to_have_count(1)
    sent[0].continue_()
    expect(page.locator(".term[data-source]")).to_have_count(1)
    expect(page).to_have_url(re.compile("q=red.*p=upload"))
    page.go_back()
    expect(page.locator(".term")).to_have_count(0)


def test_what_is_asked_before_an_answer_goes_on_from_what_was_asked(page: Any) -> None:
    page.goto("/?q=red")
    page.route(lambda url: "p=" in url and "kind=" not in url, lambda route: None)  # no answer
    for at in range(2):
        tiles(page).nth(at).hover()
        tiles(page).nth(at).locator("[data-do=more-like]").click()
    page.locator(".kinds a.image").click()
    expect(page.locator(".kinds a.image")).to_have_attribute("aria-current", "true")
    expect(page.locator(".term[data-source]")).to_have_count(2)

    page.route(lambda url: "0.5*" in url and "kind=text" not in url, lambda route: None)
    page.locator(".term input[type=range]").first.fill("0.5")
    page.locator(".kinds a.text").click()
    expect(page.locator(".kinds a.text")).to_have_attribute("aria-current", "true")
    expect(page.locator(".term .weight").first).to_have_text("0.5")


def test_what_arrives_for_a_page_that_was_left_is_there_on_coming_back(page: Any) -> None:
    page.goto("/?q=red")
    sent: list[Any] = []
    page.route(lambda url: url.endswith("/facets?q=red"), lambda route: sent.append(route))
    with page.expect_request("**/facets?q=red"):
        page.get_by_role("button", name="Filters").click()
    page.locator(".kinds a.image").click()
    expect(page.locator(".facet").first).to_be_visible()
    with page.expect_event("requestfinished", lambda request: request.url.endswith("/facets?q=red")):
        sent[0].continue_()
    page.unroute_all()
    page.go_back()
    expect(page.locator(".kinds a.image")).not_to_have_attribute("aria-current", "true")
    expect(page.locator(".facet").first).to_be_visible()


def test_what_is_pressed_twice_in_an_item(page: Any) -> None:
    page.goto("/")
    page.locator("#q").fill("red")
    page.keyboard.press("Enter")
    expect(page.locator("#results[data-name*=red]")).to_be_visible()
    tiles(page).first.locator(".open").click()
    panel = page.locator("#panel")
    expect(panel).to_be_visible()
    twice = "button => { button.click(); button.click(); }"
    panel.locator("[data-do=next]").evaluate(twice)
    expect(panel.locator("h2").first).to_have_text(names(page)[2])
    panel.locator("header [data-do=close]").evaluate(twice)
    expect(panel).to_be_hidden()
    tiles(page).first.locator(".open").click()
    expect(panel).to_be_visible()
    expect(page).to_have_url(re.compile(r"q=red&item="))


def test_results_can_be_dragged_onto_more_and_less(page: Any) -> None:
    page.goto("/?q=red")
    for at, sign in enumerate(("+", "−")):
        tiles(page).nth(at).locator(".open").hover()
        page.mouse.down()
        page.mouse.move(600, 400, steps=4)
        zone = page.locator(".zone").nth(at)
        expect(zone).to_be_visible()
        zone.hover()
        page.mouse.up()
        expect(page.locator(".term[data-source] .sign")).to_have_count(at + 1)
        expect(page.locator(".term[data-source] .sign").nth(at)).to_have_text(sign)


def test_a_server_that_is_gone_is_reported_and_tried_again(page: Any) -> None:
    page.goto("/?q=red")
    page.route(lambda url: "q=blue" in url, lambda route: route.abort())
    page.locator("#q").fill("blue")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("does not answer")
    expect(tiles(page)).not_to_have_count(0)
    page.unroute_all()
    page.keyboard.press("Enter")
    expect(page.locator("#results[data-name*=blue]")).to_be_visible()


def test_filters_and_a_cut_that_leave_nothing_can_be_cleared(page: Any) -> None:
    page.goto("/?q=red&cut=all:0&beyond=hide&kind=imu&where=width<0")
    page.locator(".notice .button").click()
    expect(tiles(page)).not_to_have_count(0)
    assert page.url.endswith("/?q=red")


def test_the_map_is_replaced_by_a_better_one(page: Any) -> None:
    answers: list[dict[str, Any]] = []
    pending: list[str] = ["umap"]

    def answer(route: Any) -> None:
        answers.append(route.fetch().json() | {"pending": next(iter(pending), None)})
        route.fulfill(json=answers[-1])

    page.route("**/v1/map?*", answer)
    page.clock.install()
    page.goto("/?q=red&view=map")
    note = page.locator("#map .note")
    expect(note).to_contain_text("being computed")
    page.get_by_role("link", name="All in one list").click()
    expect(tiles(page)).not_to_have_count(0)
    pending.clear()
    page.clock.run_for(60_000)
    page.go_back()
    expect(note).to_contain_text("Drag")
    assert (answers[0]["pending"], answers[-1]["pending"]) == ("umap", None)
    box = page.locator("#map canvas").bounding_box()
    side, points = 0.46 * min(box["width"], box["height"]), answers[-1]
    at = points["kind"].index(points["kinds"].index("text"))
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle[0] + points["x"][at] * side, middle[1] - points["y"][at] * side)
    expect(page.locator("#map .hover")).to_be_visible()
    page.get_by_role("button", name="Lasso").click()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    for x, y in ((0.99, 0), (0.99, 0.99), (0, 0.99)):
        page.mouse.move(box["x"] + 2 + x * box["width"], box["y"] + 2 + y * box["height"])
    page.mouse.up()
    expect(page.locator("#selection .chosen")).to_have_text(f"{len(points['id'])} selected")


def test_nothing_moves_when_results_arrive(page: Any) -> None:
    page.add_init_script(
        """window.shifts = [];
        new PerformanceObserver((list) => shifts.push(...list.getEntries().map(({ value }) => value)))
            .observe({ type: "layout-shift", buffered: true });"""
    )
    for path in ("/", "/?q=red", "/?q=red&view=kinds"):
        page.goto(path)
        expect(page.locator(".grid[data-laid]").first).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert sum(page.evaluate("() => shifts")) < 0.01, path


def test_a_preview_that_cannot_be_had_is_said_to_be_missing(page: Any) -> None:
    page.route("**/preview?*", lambda route: route.fulfill(status=409))
    page.goto("/?q=red&kind=image")
    expect(tiles(page).first.locator(".unseen")).to_have_text("No preview")
    page.locator(".kinds a.depth").click()
    expect(page.locator("#results .tile.depth .unseen").first).to_be_visible()


def test_everything_by_keyboard(page: Any) -> None:
    def focused() -> str:
        return str(page.evaluate("() => document.activeElement.closest('.tile')?.dataset.name ?? ''"))

    page.goto("/")
    expect(page.locator(".grid[data-laid]")).to_be_visible()
    page.locator("#q").blur()
    page.keyboard.press("/")
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"q=red"))
    expect(page.locator("#results[data-name*=red]")).to_be_visible()
    page.keyboard.press("Tab")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    first, second = names(page)[:2]
    assert focused() == first
    page.keyboard.press("ArrowRight")
    assert focused() == second
    page.keyboard.press("ArrowDown")
    assert focused() not in ("", first, second)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("x")
    expect(page.locator("#selection")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#selection")).to_be_hidden()

    was = focused()
    page.keyboard.press("Enter")
    heading = page.locator("#panel .about h2")
    expect(heading).to_have_text(was)
    page.keyboard.press("ArrowRight")
    expect(heading).not_to_have_text(was)
    page.keyboard.press("ArrowLeft")
    expect(heading).to_have_text(was)
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    assert focused() == was

    page.keyboard.press("-")
    expect(page.locator(".term.minus")).to_have_count(1)
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("m")
    expect(page.locator("#map canvas")).to_be_visible()
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", re.compile("light|dark"))


def test_the_query_is_drawn(page: Any) -> None:
    page.goto("/")
    expect(page.locator("[data-do=draw]")).to_have_count(0)
    page.goto("/?q=red&p=0.5*text:green")
    drawn, again = page.locator("#drawing li"), page.get_by_role("button", name="Draw others")
    page.get_by_role("button", name="Draw it").click()
    expect(again).to_be_visible()
    expect(drawn).to_have_count(4)
    expect(drawn.first.locator("img")).to_have_attribute("alt", re.compile("Drawn of .*red.*green"))
    assert drawn.locator("img").evaluate_all("all => all.every(each => each.naturalWidth === 16)")
    again.click()
    expect(drawn.locator("a").first).to_have_attribute("download", "drawing 4.png")
    expect(again).to_be_visible()
    with page.expect_download() as download:
        drawn.nth(1).get_by_role("link", name="Download").click()
    with Image.open(download.value.path()) as file:
        assert json.loads(file.info["xsearch"])["seed"] == 5

    drawn.nth(1).get_by_role("button", name="Search with it").click()
    expect(page.locator(".term[data-source]")).to_have_count(1)
    expect(page.locator(".term[data-source]")).to_contain_text("drawing 5.png")
    expect(page.locator("#q")).to_have_value("")
    link = drawn.first.locator("a").get_attribute("href")
    page.locator("#drawing").get_by_role("button", name="Close").click()
    expect(page.locator("#drawing")).to_be_hidden()
    while page.request.get(link).status != 404:  # deleted, too
        page.wait_for_timeout(50)


def test_where_in_a_picture_the_query_is(page: Any) -> None:
    page.goto("/?q=red&kind=image")
    tiles(page).filter(has_text="red again.png").locator(".open").click()
    panel = page.locator("#panel")
    where, warm = (panel.locator(f"[data-do={name}]") for name in ("locate", "heat"))
    expect(warm).to_be_hidden()
    where.click()
    expect(panel.locator(".located")).to_contain_text("place, score")
    expect(panel.locator(".marks .ink")).to_be_visible()
    expect(panel.locator("canvas.marks")).to_be_hidden()
    warm.click()
    expect(panel.locator("canvas.marks")).to_be_visible()
    sides = "each => each.map(one => JSON.stringify(one.getBoundingClientRect()))"
    picture, marks = panel.locator(".zoom img, svg.marks").evaluate_all(sides)
    assert picture == marks
    where.click()
    expect(panel.locator(".marks")).to_have_count(0)
    expect(warm).to_be_hidden()

    page.goto(f"{page.url.replace('q=red', 'p=-1*text:red')}")
    where.click()
    expect(panel.locator(".located")).to_contain_text("Not found in this picture")
    expect(panel.locator(".marks rect")).to_have_count(0)
    page.goto(re.sub("p=[^&]*&", "", page.url))
    expect(panel.locator("h2").first).to_be_visible()
    expect(where).to_have_count(0)  # without a query
