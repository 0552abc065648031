"""Draws two causes of death and the reproduction number that they share."""

from aero.types import AeroOutput


def pooled_figure(  # noqa: PLR0915 - only one function's source crosses to a worker
    cholera: str,
    diarrhoea: str,
    *,
    prior_mean: float = 5.0,
    prior_sd: float = 5.0,
    level: float = 0.95,
    place: str = "England",
    source: str = "General Register Office, W. Farr (1852)",
) -> AeroOutput:
    """Pool two R(t) tables and draw incidence above and R(t) below, as a PNG.

    Part of what was registered as diarrhoea was probably cholera: both causes are
    taken as signs of one epidemic with one R(t). Given R, both counts are Poisson,
    and each table's posterior of R is a gamma distribution (see
    `reproduction_number`), so the posterior given both is their product divided by the
    prior, which both contain:

        shape = shape of cholera + shape of diarrhoea - shape of the prior
        rate  = rate of cholera + rate of diarrhoea - rate of the prior

    That is exactly the estimate from the sum of both series, and needs neither the
    serial interval nor the window again. Days that only one table has are drawn above
    and have no pooled R(t). The same tables give the same bytes.

    Args:
        cholera: Path of a CSV with the columns `date`, `incidence`, `mean` and `sd`.
        diarrhoea: Path of another, made with the same window and prior.
        prior_mean: Mean of the prior of R that both tables were made with.
        prior_sd: Its standard deviation.
        level: Probability that the band holds, between its quantiles.
        place: Where people died, for the title.
        source: Where the counts are from, for the note.

    Returns:
        The output `figure`: a PNG of 1500 x 1050 pixels; without data it says so.

    Raises:
        ValueError: The prior cannot be the one that the tables were made with.
    """
    import csv
    from pathlib import Path

    import matplotlib as mpl
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure
    from scipy.special import gammaincinv

    ink, muted = "#222222", "#666666"
    look = {
        "axes.axisbelow": True,
        "axes.edgecolor": "#b5b5b5",
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.labelcolor": ink,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.subplot.bottom": 0.145,
        "figure.subplot.hspace": 0.24,
        "figure.subplot.left": 0.1,
        "figure.subplot.right": 0.885,
        "figure.subplot.top": 0.835,
        "font.size": 11,
        "grid.color": "#e6e6e6",
        "legend.borderaxespad": 0.2,
        "legend.borderpad": 0.2,
        "legend.frameon": False,
        "legend.handlelength": 1.6,
        "text.color": ink,
        "xtick.color": muted,
        "ytick.color": muted,
    }
    above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2}
    band = f"{100 * level:g}% credible interval"

    def read(path: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the days, (n,), and their incidence, shape and rate, (3, n)."""
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        days = np.array([row["date"] for row in rows], dtype="datetime64[D]")
        incidence, mean, sd = (
            np.array([row[name] for row in rows], dtype=float)
            for name in ("incidence", "mean", "sd")
        )
        return days, np.stack([incidence, (mean / sd) ** 2, mean / sd**2])

    def draw_incidence(axes: Axes) -> None:
        ends = np.append(days, days[-1:] + np.timedelta64(1, "D"))
        edges = ends.astype(float) - 0.5
        floor = np.zeros(len(days))
        for label, colour, (own_days, table) in (
            ("Cholera", "#D55E00", first),
            ("Diarrhoea", "#56B4E9", second),
        ):
            roof = floor.copy()
            roof[np.searchsorted(days, own_days)] += table[0]
            axes.stairs(
                roof, edges, baseline=floor, fill=True, color=colour, label=label
            )
            floor = roof
        axes.set_ylim(0, max(5, 1.05 * floor.max()))
        axes.set_ylabel("Deaths per day")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.legend(**above)

    def draw_reproduction(axes: Axes) -> None:
        _, mine, yours = np.intersect1d(first[0], second[0], return_indices=True)
        _, shape, rate = first[1][:, mine] + second[1][:, yours]
        shape = shape - (prior_mean / prior_sd) ** 2
        rate = rate - prior_mean / prior_sd**2
        if min([*shape, *rate], default=1) <= 0:
            raise ValueError(
                "The tables were made with another prior than prior_mean="
                f"{prior_mean} and prior_sd={prior_sd}: give theirs."
            )
        lower = gammaincinv(shape, (1 - level) / 2) / rate
        upper = gammaincinv(shape, (1 + level) / 2) / rate
        x = first[0][mine].astype(float)
        axes.axhline(1, color=ink, linewidth=1, linestyle=(0, (5, 3)))
        axes.plot(
            x,
            shape / rate,
            color="#7A2E5D",
            label="R(t), both causes pooled",
            marker="o" if len(x) < 30 else None,
            markersize=4,
        )
        # A band of one day has no width: its outline makes it visible.
        axes.fill_between(
            x, lower, upper, color="#E3B5CD", linewidth=4 * (len(x) == 1), label=band
        )
        axes.set_ylim(0, min(6, max([2, *(1.1 * upper)])))
        axes.set_ylabel("Reproduction number")
        axes.legend(**above)
        for text, y in (("\u2191 growing", 12), ("\u2193 declining", -12)):
            axes.annotate(
                text,
                (1, 1),
                xycoords=axes.get_yaxis_transform(),
                xytext=(6, y),
                textcoords="offset points",
                va="center",
                color=muted,
            )

    def draw(figure: Figure) -> str:
        """Draw the panels and return the period they show."""
        if not len(days):
            figure.text(0.5, 0.45, "No estimate yet", size=16, color=muted, ha="center")
            return "too few days so far"
        top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 2))
        draw_incidence(top)
        draw_reproduction(bottom)
        start, end = days[[0, -1]].astype(float)
        bottom.set_xlim(start - 0.5, max(end, start + 13) + 0.5)
        locator = AutoDateLocator(minticks=3, maxticks=12)
        bottom.xaxis.set_major_locator(locator)
        bottom.xaxis.set_major_formatter(
            ConciseDateFormatter(
                locator,
                formats=["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%S"],
                zero_formats=["", "%Y", "%d %b", "%d %b", "%H:%M", "%H:%M"],
                offset_formats=["", "%Y", "%Y", "%Y", "%Y", "%Y"],
            )
        )
        figure.align_ylabels([top, bottom])
        spans = [f"{day.day} {day:%B} {day.year}" for day in days[[0, -1]].tolist()]
        return " to ".join(dict.fromkeys(spans))

    first, second = read(cholera), read(diarrhoea)
    days = np.union1d(first[0], second[0])
    output = Path("pooled_figure.png")
    # What is in a user's matplotlibrc must not change the bytes.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(look)
        figure = Figure(figsize=(10, 7), dpi=150)
        FigureCanvasAgg(figure)
        period = draw(figure)
        title = f"Cholera and diarrhoea in {place}"
        note = (
            f"Deaths: {source}.\nR(t) after Cori et al. (2013); its first days are too "
            "high, since nothing is known of the deaths before."
        )
        figure.text(0.1, 0.945, title, size=19, weight="bold")
        figure.text(0.1, 0.902, period, size=13, color=muted)
        figure.text(0.1, 0.025, note, size=9, color=muted, linespacing=1.5)
        figure.savefig(output, format="png", metadata={"Software": None})
    return AeroOutput("figure", output)
