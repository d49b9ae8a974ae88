"""A real browser for the pages: Chromium without a window, and without a network.

Where there is none, its tests are skipped, with the reason. ``HYPERVERIFY_BROWSER=1`` says that one
must be there, and makes that a failure.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec, TrunkLayerSpec
from hyperverify.store import Check

ROOT = Path(__file__).resolve().parent.parent.parent
SCREENSHOTS = ROOT / "reports" / "browser"
WIDTHS = {"phone": 390, "tablet": 820, "wide": 1440}
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1440,1000",
)


def missing(reason: str) -> None:
    if os.environ.get("HYPERVERIFY_BROWSER") == "1":
        pytest.fail(f"HYPERVERIFY_BROWSER=1, but {reason}")
    pytest.skip(reason)


def start() -> Any:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing("there is no chromium with its chromedriver on the path")
    try:
        from selenium import webdriver
    except ImportError:
        missing("selenium is not installed (the extra 'browser')")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(driver)
    return webdriver.Chrome(options=options, service=service)


class Visitor:
    """Someone who opens a page, reads, and clicks."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, hash_: str = "") -> None:
        """A page anew, from its file."""
        self.driver.get("about:blank")
        self.driver.get(page.as_uri() + hash_)

    def run(self, script: str, *arguments: object) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: str, *arguments: object) -> Any:
        """Wait until a JavaScript expression holds."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 30).until(
            lambda driver: driver.execute_script(f"return {condition}", *arguments)
        )

    def find(self, selector: str) -> Any:
        """The first element of a CSS selector."""
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        """Bring an element to the middle and click it."""
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def shown(self) -> list[str]:
        """The ids of the checks that the filter leaves."""
        return self.run(
            "return [...document.querySelectorAll('details.check')]"
            ".filter((c) => !c.closest('[hidden]')).map((c) => c.id)"
        )

    def emulate(self, *, width: int = 1440, height: int = 1000, dark: bool = False) -> None:
        """A window of that size, and the colours that its owner prefers."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})

    def asked_for(self) -> list[str]:
        """Every address that was asked for since the last call."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def violations(self) -> list[str]:
        """What axe-core finds fault with, a line each."""
        script = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        self.run(script)
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']}).then((r) => done(r.violations), (e) => done([{id: String(e), nodes: []}]));"
        )
        return [
            f"{rule['id']}: {node['target']} {node['html'][:120]} {node['failureSummary'][:200]}"
            for rule in found
            for node in rule["nodes"] or [{"target": "", "html": "", "failureSummary": ""}]
        ]


SPECS = (
    HypernetSpec(
        layers=(
            LayerSpec(16, 10, relu=True, bias=True),
            LayerSpec(10, 14, bias=True),
        ),
        embedding=EmbeddingSpec(8),
        method="hyperfan-in",
        trunk=(TrunkLayerSpec(12, relu=True),),
        bias_embedding=EmbeddingSpec(6, "normal"),
    ),
    HypernetSpec(
        layers=(LayerSpec(4, 6, kernel=(3, 3), padding=(1, 1)),) + (LayerSpec(6, 6, (3, 3)),) * 5,
        embedding=EmbeddingSpec(8),
        method="hyperfan-out",
        input_size=(16, 16),
    ),
)


def with_networks(checks: list[Check]) -> list[Check]:
    """The made-up checks, of networks that hyperverify can build."""
    networks = itertools.cycle(
        {"spec": spec.to_dict(), "architecture": architecture}
        for spec, architecture in zip(SPECS, ("dense, biases", "convolutional"), strict=True)
    )
    return [check.model_copy(update=next(networks)) for check in checks]
