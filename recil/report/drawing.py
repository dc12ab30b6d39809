"""How the pictures of a report are drawn: one colour for a method in all of them, bands for seeds, the same letters."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recil.experiment.evidence import Evidence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 9.6
# Told apart by those who see few colours (Okabe and Ito), without the yellow that is lost on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8a6d00", "#555555")
_STROKES = ("-", "--", ":", "-.")
GREY = "#8a949c"


def panels(down: int, across: int, height: float) -> tuple[Figure, Any]:
    """A figure of the page's width and its axes [down, across]. height: of a row, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for each in axes.ravel():
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=8.5)
    return figure, axes


def name(axes: Any, title: str, across: str = "", up: str = "") -> None:
    """Title and axis labels, in the report's sizes."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel(up, fontsize=9)


def strokes(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Method -> how its lines are drawn."""
    return {method.name: stroke(place) for place, method in enumerate(evidence.setting.experiment.methods)}


def stroke(place: int) -> dict[str, Any]:
    """How the line of this number is drawn: colours first, then other strokes."""
    again, colour = divmod(place, len(_COLOURS))
    return {"color": _COLOURS[colour], "linestyle": _STROKES[again % len(_STROKES)]}


def band(axes: Any, x: Sequence[float], low: Any, high: Any, colour: str, among: int = 1) -> None:
    """among: how many bands lie over each other; they are fainter where they are many."""
    axes.fill_between(x, low, high, color=colour, alpha=max(0.06, 0.2 / (1 + 0.25 * among)), linewidth=0)


def legend_below(figure: Figure, axes: Sequence[Any]) -> None:
    """One legend for all panels, under them."""
    handles: dict[str, Any] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=max(1, min(len(handles), int(figure.get_figwidth() / (0.55 + 0.085 * max(map(len, handles)))))),
            frameon=False,
            fontsize=9,
        )


def png(figure: Figure, colours: int | None = None) -> bytes:
    """The image; the same figure gives the same bytes. colours: at most so many, for a quarter of the bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight", pad_inches=0.05, metadata={"Software": None})
    if colours is None:
        return file.getvalue()
    from PIL import Image

    small = io.BytesIO()
    Image.open(file).convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()
