"""The page in a real browser: headless Chromium, driven through ChromeDriver."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nasty import NASTY
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from transformers import PreTrainedTokenizerBase

from lenvm.cli.main import main
from lenvm.models import LengthValueModel
from lenvm.view.page import content, page, write_page
from lenvm.view.pieces import Piece
from lenvm.view.server import EventServer
from lenvm.view.tokens import Reading, read, shifts

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no chromium with chromedriver here (Debian: chromium-driver)"
)
FLAGS = (  # without those about networking, Chromium looks for its maker's servers
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --force-device-scale-factor=1"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER)) as found:
        yield found


@pytest.fixture
def browser(driver: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """A browser whose console must stay without a complaint."""
    resize(driver, 1440, 900)
    driver.get_log("browser")
    yield driver
    assert driver.get_log("browser") == []
    driver.get("about:blank")


@pytest.fixture
def opened(browser: webdriver.Chrome, model_folder: Path, nasty_rollouts: Path, tmp_path: Path) -> webdriver.Chrome:
    output = tmp_path / "page.html"
    options = ["--value_model", model_folder, "--rollouts", nasty_rollouts, "--output", output]
    assert main(["view", *map(str, options)]) == 0
    browser.get(output.as_uri())
    return browser


def resize(browser: webdriver.Chrome, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def find(browser: webdriver.Chrome, css: str) -> list[WebElement]:
    return list(browser.find_elements(By.CSS_SELECTOR, css))


def panel(browser: webdriver.Chrome) -> dict[str, str]:
    return {str(dd.get_attribute("id")): dd.text for dd in find(browser, "#panel dd")}


def press(browser: webdriver.Chrome, *keys: str) -> None:
    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def shot(browser: webdriver.Chrome) -> Image.Image:
    return Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")


def test_a_completion_is_shown_as_it_was_written(opened: webdriver.Chrome) -> None:
    texts = opened.execute_script("return [...document.querySelectorAll('.text')].map(t => t.textContent)")
    assert texts[0].startswith(NASTY)
    assert texts[1] == "cut 你好"
    assert find(opened, ".text b, .text script, .prompt i") == []
    assert find(opened, "#prompt")[0].text == "Say </textarea> & <i>"
    merged = [s.text for s in find(opened, ".text span") if s.text in ("好", "世")]
    assert merged


def test_hovering_a_token_fills_the_panel_and_marks_the_curve(opened: webdriver.Chrome) -> None:
    assert set(panel(opened).values()) == {"–"}
    spans = find(opened, ".text span")
    ActionChains(opened).move_to_element(spans[8]).perform()
    first = panel(opened)
    assert first["p-position"].startswith("9 of ")
    assert first["p-true"].isdigit()
    assert first["p-shift"].split()[-1] in ("longer", "shorter")
    assert find(opened, ".curve .dot[visibility=visible]")
    ActionChains(opened).move_to_element(spans[2]).perform()
    assert panel(opened)["p-position"].startswith("3 of ")
    ActionChains(opened).move_to_element(find(opened, "h1")[0]).perform()
    assert set(panel(opened).values()) == {"–"}


def test_hovering_the_curve_marks_the_token_and_a_click_keeps_it(opened: webdriver.Chrome) -> None:
    curve = find(opened, ".curve")[0]
    ActionChains(opened).move_to_element(curve).perform()
    assert len(find(opened, ".text .here")) == 1
    before = panel(opened)
    ActionChains(opened).click(curve).move_to_element(find(opened, "h1")[0]).perform()
    assert panel(opened) == before


def test_the_keyboard_alone_reaches_every_token(opened: webdriver.Chrome) -> None:
    texts = find(opened, ".text")
    while opened.switch_to.active_element != texts[0]:
        press(opened, Keys.TAB)
    assert panel(opened)["p-position"].startswith("1 of")
    count = len(find(texts[0], "span"))  # type: ignore[arg-type]
    press(opened, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert panel(opened)["p-position"].startswith("3 of")
    press(opened, Keys.ARROW_LEFT)
    assert panel(opened)["p-position"].startswith("2 of")
    press(opened, Keys.ARROW_DOWN)
    below = find(opened, ".text .here")[0]
    assert int(str(below.get_attribute("data-i"))) > 5
    press(opened, Keys.ARROW_UP, Keys.END)
    assert panel(opened)["p-token"].startswith("<|end|>")
    assert panel(opened)["p-true"] == "0"
    assert find(opened, ".text .here")[0].get_attribute("data-i") == str(count - 1)
    press(opened, Keys.HOME)
    assert panel(opened)["p-position"].startswith("1 of")
    press(opened, Keys.TAB)
    assert opened.switch_to.active_element == texts[1]
    assert panel(opened)["p-true"] == "– unknown: it was cut"
    assert opened.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert "token 1 of" in find(opened, "#spoken")[0].get_attribute("textContent")
    assert "Arrow keys" in str(texts[1].get_attribute("aria-label"))


def test_a_piece_of_several_tokens_says_so(opened: webdriver.Chrome) -> None:
    span = next(s for s in find(opened, ".text span") if s.text == "好")
    ActionChains(opened).move_to_element(span).perform()
    shown = panel(opened)
    assert "tokens" in shown["p-token"]
    assert len(shown["p-id"].split()) > 1
    assert "–" in shown["p-position"]


def test_dark_and_light_differ_and_are_remembered(opened: webdriver.Chrome) -> None:
    def brightness() -> int:
        red, green, blue = shot(opened).getpixel((5, 5))  # type: ignore[misc]
        return int(red + green + blue)

    light = brightness()
    assert light > 600
    find(opened, "#theme")[0].click()
    assert brightness() < 150
    opened.refresh()
    assert brightness() < 150
    find(opened, "#theme")[0].click()
    assert brightness() == light


def test_the_systems_choice_counts_at_first(opened: webdriver.Chrome) -> None:
    opened.execute_script("localStorage.clear()")
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [dark]})
    # the emulation reaches the renderer a moment after it is asked for
    waiting = WebDriverWait(opened, 10, poll_frequency=0.05)
    waiting.until(lambda b: b.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches"))
    opened.refresh()
    waiting.until(lambda b: b.execute_script("return document.documentElement.dataset.theme") == "dark")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_completions_stand_side_by_side_or_below_each_other(opened: webdriver.Chrome) -> None:
    one, two = find(opened, ".card")
    assert one.location["y"] == two.location["y"]
    wide = shot(opened)
    assert len(wide.resize((300, 200)).getcolors(60000) or []) > 100
    resize(opened, 400, 860)
    assert one.location["x"] == two.location["x"]
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 400


def test_prompts_can_be_changed(opened: webdriver.Chrome) -> None:
    assert find(opened, "#picker")[0].is_displayed()
    find(opened, "#next")[0].click()
    assert find(opened, "#prompt")[0].text == "Count."
    assert len(find(opened, ".card")) == 1
    assert find(opened, "#next")[0].get_attribute("disabled")


def test_thousands_of_tokens_stay_fluid(browser: webdriver.Chrome, model: LengthValueModel, tmp_path: Path) -> None:
    length = 5000
    horizon = [0.5 + 0.4 * ((t * 7919) % 101 - 50) / 50 for t in range(length)] + [0.0]
    reading = Reading(
        ids=[7] * length, pieces=[Piece(f" w{t}", 1, False) for t in range(length)], finished=True,
        predicted=[100 * u for u in horizon], horizon=horizon, remaining=list(range(length, -1, -1)),
        shift=shifts(horizon, 0.99),
    )  # fmt: skip
    output = tmp_path / "long.html"
    write_page(output, content("long", model, [({"id": "a", "domain": None, "text": "?"}, [reading] * 3)]))
    browser.get(output.as_uri())
    text = find(browser, ".text")[0]
    browser.execute_script("arguments[0].focus()", text)
    assert browser.execute_script("return document.querySelectorAll('.curve *').length") < 150
    spent = browser.execute_script(
        """const start = performance.now();
        for (let i = 0; i < 100; i++) {
          arguments[0].dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
          document.body.offsetHeight;
        }
        return (performance.now() - start) / 100""",
        text,
    )
    assert spent < 50, f"{spent:.1f} ms per token"


def test_the_curve_grows_while_the_model_writes(
    browser: webdriver.Chrome, model: LengthValueModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    prompt, ids = [5, 6, 7], tokenizer("one two 好 three", add_special_tokens=False).input_ids
    ids.append(tokenizer.eos_token_id)
    reading = read(prompt, ids, True, model, tokenizer)
    shown = {"id": None, "domain": None, "text": "Say it."}
    pieces = [list(p) for p in reading.pieces]

    def length(kind: str = "predicted") -> int:
        return int(
            browser.execute_script(f"return document.querySelector('.curve .{kind}').getAttribute('d')?.length ?? 0")
        )

    def news(t: int, written: list[Any]) -> list[dict[str, Any]]:
        return [{"row": 0, "id": ids[t], "predicted": reading.predicted[t + 1], "horizon": reading.horizon[t + 1],
                 "shift": reading.shift[t], "pieces": written}]  # fmt: skip

    with EventServer(page(content("m", model, [(shown, [])], live={"samples": 1})), 0) as server:
        browser.get(server.url)
        waiting = WebDriverWait(browser, 10, poll_frequency=0.05)
        server.publish("begin", {"predicted": reading.predicted[0], "horizon": reading.horizon[0]})
        waiting.until(lambda _: find(browser, ".text.growing"))
        server.publish("tokens", news(0, pieces[:1]))
        waiting.until(lambda _: "1 tokens" in find(browser, ".card header p")[0].text and length() > 5)
        short = length()
        for t in range(1, len(ids) - 1):
            server.publish("tokens", news(t, pieces[t : t + 1] if t < 3 else []))
        waiting.until(lambda _: length() > short)
        server.publish("tokens", news(len(ids) - 1, pieces[3:]))
        server.publish("end", {"row": 0, "finished": True, "pieces": []})
        waiting.until(lambda _: not find(browser, ".text.growing"))
        waiting.until(lambda _: length("true") > 5)
        server.publish("done", content("m", model, [(shown, [reading])]))
        waiting.until(lambda _: find(browser, "#state")[0].text == "complete")
    assert find(browser, ".text")[0].text.startswith("one two 好 three")
    assert find(browser, "#state")[0].text == "complete"
    assert not find(browser, "#picker")[0].is_displayed()
