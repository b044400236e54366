"""Writes the page of an explanation."""

from collections.abc import Sequence
from pathlib import Path

import latentia
from latentia.dictionaries.explanation import Explanation
from latentia.dictionaries.patching import PatchedLosses
from latentia.report.dictionary.atoms import atom_list
from latentia.report.dictionary.figures import atom_map, growth, training_curve, usage
from latentia.report.dictionary.inputs import Inputs
from latentia.report.dictionary.readings import noun_of, quality_rows
from latentia.report.page import Html, Page, definitions, element, number, table, tiles, versions

__all__ = ["write_explanation_report"]


def write_explanation_report(
    found: Explanation,
    inputs: Inputs,
    path: Path,
    *,
    title: str,
    losses: PatchedLosses | None = None,
    notes: Sequence[str] = (),
    command: str = "",
) -> Path:
    """Write what a space is made of as one self-contained page, in which the atoms can be browsed without JavaScript.

    It lists the 300 atoms that are used most. Pictures stand beside the first 100 of them.

    Args:
        found: what `explain` returned.
        inputs: of the same samples.
        path: the file to write, such as `explain.html`.
        title: the heading of the page.
        losses: of the model with the layer as it is, without it, and as the dictionary explains it.
        notes: what the reader should know of the data, a sentence each.
        command: the command that found it, for those who want to repeat it.

    Returns:
        The path of the page.

    Raises:
        ImportError: if Plotly or Pillow is missing (the extra `report`).
        OSError: if the page cannot be written.
    """
    k, d = found.atoms.shape
    noun = "tokens" if found.tokens else "vectors"
    lead = (
        f"{found.n_built:,} {noun} of {d:,} dimensions gave a dictionary of {k:,} atoms; here it explains "
        f"{found.scores.n:,} others, each by about {found.scores.l0:.3g} atoms."
    )
    remarks = [element("li", note) for note in (*notes, *found.notes)]
    page = Page(
        title,
        eyebrow="Latentia · explanation of a latent space",
        lead=lead,
        intro=[tiles(_headline(found, losses)), element("ul", *remarks, class_="note") if remarks else Html()],
        footer=[
            f"Written by Latentia {latentia.__version__}.",
            "This page is one file. It loads nothing from anywhere, and tells no one that it was read.",
        ],
    )
    page.section("How well it explains", *_quality(found, losses, noun))
    page.section("The atoms", *atom_list(found, inputs, noun))
    page.section("How often atoms are used", usage(found, noun))
    if k > 1:
        page.section("Map of the atoms", atom_map(found, inputs))
    if found.method == "itda":
        page.section("How the dictionary grew", growth(found, noun))
    else:
        page.section("Training", training_curve(found))
    page.section("How far to trust this", definitions(_trust(found, noun)))
    page.section("How to reproduce", *_reproduction(found, command))
    return page.write(Path(path))


def _headline(found: Explanation, losses: PatchedLosses | None) -> list[tuple[str, str, str]]:
    scores = found.scores
    random = found.controls["random rows"].explained_variance
    shown = [
        (
            "variance explained",
            _percent(scores.explained_variance),
            f"of held-out {noun_of(found)} ({_percent(random)} by random atoms)",
        ),
        ("atoms", number(len(scores.usage)), f"of which {scores.dead:,} are never used there"),
        ("atoms per vector", f"{scores.l0:.3g}", f"{found.n_nonzero:,} were allowed"),
    ]
    if found.method == "autoencoder":
        shown[2] = (*shown[2][:2], f"on average; {found.n_nonzero:,} were asked for")
    if losses is not None:
        shown.append(("loss recovered", _percent(losses.recovered), "of what the layer does for the model"))
    elif found.purity is not None and found.purity.mean is not None:
        by_chance = f"of an atom's inputs are of one class ({_percent(found.purity.chance)} by chance)"
        shown.append(("class purity", _percent(found.purity.mean), by_chance))
    else:
        shown.append(("cosine", number(scores.cosine), "of a vector and its explanation, on average"))
    return shown


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}".replace("-", "−")


def _quality(found: Explanation, losses: PatchedLosses | None, noun: str) -> list[Html]:
    scores, random = found.scores, found.controls["random rows"]
    components = found.controls["principal components"]
    text = (
        f"Of the variance of {scores.n:,} {noun} that the dictionary has not seen, it leaves "
        f"{_percent(scores.unexplained)} unexplained. As many atoms drawn at random leave "
        f"{_percent(random.unexplained)}: "
    )
    worth = random.unexplained > scores.unexplained
    text += "the difference is what choosing them is worth. " if worth else "choosing them was worth nothing. "
    text += (
        f"The first {len(components.usage):,} principal components leave {_percent(components.unexplained)}. They are "
        "the same for each vector, so where they do better, the space is flat, and a few directions say more than many "
        "atoms."
    )
    head = ["", "atoms", "per vector", "unexplained", "cosine"]
    pieces = [
        element("p", text),
        table(head, quality_rows(found), caption=f"On held-out {noun}; unexplained is a fraction of variance"),
    ]
    if losses is not None:
        rows: list[list[str | float | None]] = [
            ["as it is", losses.original],
            ["as the dictionary explains it", losses.reconstructed],
            ["zeros in its place", losses.zeroed],
        ]
        recovered = (
            f"Put in the place of the layer's {noun}, their explanations keep {_percent(losses.recovered)} of what the "
            "layer does for the model's loss."
        )
        caption = "The model's loss on the labels of held-out samples"
        pieces += [element("p", recovered), table(["layer", "loss"], rows, caption=caption)]
    return pieces


def _trust(found: Explanation, noun: str) -> dict[str, str]:
    terms = {
        "Held-out samples": f"All numbers are of {len(found.held_out):,} samples that the dictionary was not built of, "
        "and all inputs shown are among them. Where samples repeat, or come in groups such as texts of one author, "
        "they are less new than they seem.",
        "Controls": "An atom that looks like a concept proves little by itself: rows drawn at random have strongest "
        "inputs too, and these resemble each other. So judge a dictionary by what it explains beyond random rows.",
        "Names": "What the inputs of an atom have in common is for the reader to say. The strongest few show an atom "
        "at its clearest; most of its uses are weaker, and may be about something else.",
        "Size of vectors": f"Coefficients are in the units of the space: long {noun} have larger ones, and come first "
        "among the inputs of many atoms.",
        "Another seed": "The split, and with it the dictionary, is that of one seed. Atoms that come again with "
        "another seed, and inputs that stay together, are those to rely on.",
    }
    if found.purity is not None:
        terms["Class purity"] = (
            "The share of the most frequent class among the strongest inputs. It is above that class's share at large "
            "even by chance, the more so the fewer inputs there are: the number beside it is for as many random "
            "samples."
        )
    if found.method == "autoencoder":
        terms["Atoms per vector"] = (
            "The autoencoder has so many on average, and a vector may have more or fewer; random rows have so many at "
            "most. Where the two means differ, so does what can be explained by them."
        )
    return terms


def _reproduction(found: Explanation, command: str) -> list[Html]:
    settings: list[list[str]] = [
        ["method", found.method],
        ["most atoms per vector", number(found.n_nonzero)],
        ["samples built of", number(len(found.build))],
        ["samples held out", number(len(found.held_out))],
        ["seconds to build", f"{found.seconds:.1f}"],
    ]
    if found.method == "itda":
        settings.insert(2, ["threshold", f"{found.dictionary.threshold:g}"])
    tables = [
        table(["setting", "value"], settings, caption="Settings", align="ll"),
        table(["package", "value"], versions(), caption="Versions", align="ll"),
    ]
    typed = element("pre", element("code", command)) if command else Html()
    return [typed, element("div", *tables, class_="beside")]
