"""A real browser, in which every page must come up without an error and without a request."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium is installed: reports are not tested in a browser")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page, and afterwards sees to it that there was no error in the console and nothing was loaded."""
    contexts, errors, requests = [], [], []

    def complain(message: Any) -> None:
        if message.type in ("error", "warning"):
            errors.append(message.text)

    def open_page(path: Path, *, scheme: str = "light", phone: bool = False, javascript: bool = True) -> Any:
        context = browser.new_context(
            viewport={"width": 390, "height": 844} if phone else {"width": 1280, "height": 900},
            color_scheme=scheme,
            has_touch=phone,
            is_mobile=phone,
            java_script_enabled=javascript,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", complain)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        if javascript:
            page.wait_for_function(
                "() => [...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))"
            )
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [
        url for url in requests if url.startswith("file:") and url.endswith(".html")
    ]
    assert len([url for url in requests if url.startswith("file:")]) == len(contexts)
