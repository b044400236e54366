"""Draw the pictures of README and docs out of what commands have written, by Chromium at twice the usual resolution.

    python docs/pictures.py runs/digits-20260101-120000                              # of the README
    python docs/pictures.py align.html --section "Map" --out docs/assets/alignment.png
    python docs/pictures.py explain.html --section "The atoms" --out docs/assets/dictionary.png

That of the README is made of two figures of a report of `latentia separate digits`, drawn again on a page of their own.
The others are sections of a page, as far down as fits. Nothing is arranged by hand, so after a change to a method one
runs the command again, and then this.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from latentia.report import Page
from latentia.report.separation.figures import importance_figure, space_figure
from latentia.report.separation.run import SeparationRun, read_separation_run

PICTURE = Path(__file__).parent / "assets" / "separation.png"

# Pixels of a screen, each of which becomes two by two of the picture. A README is shown at about this width.
WIDTH, HEIGHT, MARGIN = 1000, 800, 16

# A picture cannot be scrolled, hovered or searched: leave out what serves only that, and draw the rest closer together,
# with the names of classes beside their samples instead of over them.
STYLE = """
header, section p, figcaption, nav, footer { display: none; }
section { margin-top: 1.2rem; padding-top: 0; border: 0; }
h2 { font-size: 1.25rem; margin-bottom: 0.6rem; }
figure { margin: 0; }
main { padding-block: 1.4rem; }
main > section:first-child { margin: 0; }
.plot { height: 320px; }
.plot .textpoint text { translate: 24px 0; }
.strip { padding-block: 0.7rem 0.8rem; gap: 0.4rem 1.5rem; }
.scale { margin-top: 0.7rem; }
"""


def compose(run: SeparationRun) -> Page:
    data, settings = run.results["data"], run.results["configuration"]
    trained = f"a {settings['backbone']} trained on {data['name']}"
    page = Page("")
    page.section(
        f"Latent space of {trained}: {len(run.images)} test images, by class",
        space_figure(run, torch.arange(len(run.images))),
    )
    page.section("Importance of each token, over the images", importance_figure(run))
    return page


def photograph(document: str, picture: Path, section: str | None = None) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no Chromium to draw with: install one (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder, "picture.html")
        page.write_text(document.replace("</head>", f"<style>{STYLE}</style></head>"), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=2, color_scheme="light"
        )
        view.goto(page.as_uri())
        if section is None:
            view.locator(".plot .legend").wait_for()
            view.wait_for_timeout(1000)  # for the second drawing, which has room for the legend
            view.locator("body").screenshot(path=picture)
        else:
            chosen = view.locator("section", has=view.get_by_role("heading", name=section, exact=True))
            chosen.scroll_into_view_if_needed()  # figures are drawn when they come into view
            view.wait_for_timeout(1000)
            box = chosen.bounding_box()
            assert box is not None
            top = box["y"] + float(view.evaluate("window.scrollY")) - MARGIN
            clip = {"x": 0.0, "y": top, "width": float(WIDTH), "height": min(box["height"] + 2 * MARGIN, HEIGHT)}
            view.screenshot(path=picture, full_page=True, clip=clip)  # type: ignore[arg-type]
        browser.close()
    # 256 colours, dithered, look the same, and take two thirds of the bytes.
    with Image.open(picture) as image:
        full = image.convert("RGB")
    full.quantize(palette=full.quantize(256), dither=Image.Dither.FLOYDSTEINBERG).save(picture, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of a finished `latentia separate`, or a page")
    parser.add_argument("--section", help="heading of the section of a page")
    parser.add_argument("--out", type=Path, default=PICTURE, help="the PNG file to write")
    arguments = parser.parse_args()
    if arguments.source.is_dir() == (arguments.section is not None):
        parser.error("--section is needed with a page, and with nothing else")
    try:
        if arguments.section is None:
            document = compose(read_separation_run(arguments.source)).html()
        else:
            document = arguments.source.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    photograph(document, arguments.out, arguments.section)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
