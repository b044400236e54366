"""Draw the picture of the README out of a finished run: `python docs/pictures.py runs/digits-20260101-120000`.

The picture is made of two figures of the report, drawn again on a page of their own and photographed by Chromium at
twice the usual resolution. Nothing in it is arranged by hand, so after a change to the method one runs
`latentia separate digits` and then this.
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
WIDTH = 1000

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


def photograph(page: Page, picture: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no Chromium to draw with: install one (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        document = Path(folder, "picture.html")
        document.write_text(page.html().replace("</head>", f"<style>{STYLE}</style></head>"), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": WIDTH, "height": 800}, device_scale_factor=2, color_scheme="light")
        view.goto(document.as_uri())
        view.locator(".plot .legend").wait_for()
        view.wait_for_timeout(1000)  # for the second drawing, which has room for the legend
        view.locator("body").screenshot(path=picture)
        browser.close()
    # 256 colours, dithered, look the same, and take two thirds of the bytes.
    with Image.open(picture) as image:
        full = image.convert("RGB")
    full.quantize(palette=full.quantize(256), dither=Image.Dither.FLOYDSTEINBERG).save(picture, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished `latentia separate`")
    parser.add_argument("--out", type=Path, default=PICTURE, help="the PNG file to write")
    arguments = parser.parse_args()
    try:
        run = read_separation_run(arguments.run)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    photograph(compose(run), arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
