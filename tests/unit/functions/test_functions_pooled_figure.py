import os
from datetime import date, timedelta

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from aero.types import AeroOutput
from functions.pooled_figure import pooled_figure
from functions.reproduction_number import reproduction_number

HEADER = "date,incidence,mean,sd,lower,upper\n"
CHOLERA = [13, 19, 28, 24, 23, 39, 25, 35, 26, 23, 22, 26, 21, 17, 17, 23, 14, 9]
DIARRHOEA = [29, 17, 36, 21, 34, 23, 25, 36, 41, 25, 25, 21, 24, 21, 20, 34, 22, 31]


@pytest.fixture
def table(write):
    def estimated(incidence, name, start=0, **options):
        first = date(1849, 1, 1) + timedelta(days=start)
        days = [first + timedelta(days=n) for n in range(len(incidence))]
        lines = (f"{day},{n}\n" for day, n in zip(days, incidence, strict=True))
        path = write("date,count\n" + "".join(lines))
        return str(reproduction_number(path, **options).path.rename(f"{name}.csv"))

    return estimated


@pytest.fixture
def drawn(monkeypatch):
    """Record what the lower panel is given: days, mean, lower, upper."""
    seen = {}

    def plot(axes, x, mean, **options):
        seen.update(x=x, mean=mean)
        return original["plot"](axes, x, mean, **options)

    def fill_between(axes, x, lower, upper, **options):
        seen.update(lower=lower, upper=upper)
        return original["fill_between"](axes, x, lower, upper, **options)

    original = {"plot": Axes.plot, "fill_between": Axes.fill_between}
    monkeypatch.setattr(Axes, "plot", plot)
    monkeypatch.setattr(Axes, "fill_between", fill_between)
    return seen


@pytest.mark.parametrize("prior", [{}, {"prior_mean": 2.0, "prior_sd": 1.0}])
def test_pooling_is_estimating_from_the_sum_of_both(prior, table, drawn, rows_of):
    both = [a + b for a, b in zip(CHOLERA, DIARRHOEA, strict=True)]
    summed = rows_of(AeroOutput("rt", table(both, "both", **prior)))

    pooled_figure(
        table(CHOLERA, "cholera", **prior),
        table(DIARRHOEA, "diarrhoea", **prior),
        **prior,
    )

    for name in ("mean", "lower", "upper"):
        expected = [float(row[name]) for row in summed]
        np.testing.assert_allclose(drawn[name], expected, rtol=2e-5)


def test_only_the_days_that_both_tables_have_are_pooled(table, drawn):
    pooled_figure(
        table(CHOLERA, "cholera", start=3), table(DIARRHOEA[:14], "diarrhoea")
    )

    days = np.asarray(drawn["x"]).astype("datetime64[D]").astype(str)
    assert list(days) == ["1849-01-11", "1849-01-12", "1849-01-13", "1849-01-14"]


@pytest.mark.parametrize("days", [8, 9, 18, 18 * 5])
def test_short_and_long_series_are_drawn(days, table):
    output = pooled_figure(
        table((CHOLERA * 5)[:days], "cholera"),
        table((DIARRHOEA * 5)[:days], "diarrhoea"),
    )

    assert output == AeroOutput("figure", "pooled_figure.png")
    pixels = imread(output.path)
    assert pixels.shape[:2] == (1050, 1500)
    assert pixels[..., :3].std() > 0.05


def test_tables_without_rows_and_tables_apart_are_drawn_too(table, write):
    empty = write(HEADER, "empty.csv")
    cholera, later = table(CHOLERA, "cholera"), table(DIARRHOEA, "later", start=40)

    pictures = {
        pooled_figure(*tables).path.read_bytes()
        for tables in [(empty, empty), (cholera, empty), (cholera, later)]
    }

    assert len(pictures) == 3


def test_zero_incidence_is_drawn(table, drawn):
    pooled_figure(table([0] * 12, "cholera"), table([0] * 12, "diarrhoea"))

    np.testing.assert_allclose(drawn["mean"], 5, rtol=1e-5)


def test_the_same_tables_give_the_same_bytes_whatever_the_users_style(table):
    tables = table(CHOLERA, "cholera"), table(DIARRHOEA, "diarrhoea")
    first = pooled_figure(*tables).path.read_bytes()
    os.utime(tables[0], (0, 0))

    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        second = pooled_figure(*tables).path.read_bytes()
        assert mpl.rcParams["font.size"] == 30

    assert first == second
    assert b"Software" not in first
    assert b"tIME" not in first


def test_another_prior_than_the_tables_is_refused(table):
    tables = table([0] * 9, "cholera"), table([0] * 9, "diarrhoea")

    with pytest.raises(ValueError, match="made with another prior"):
        pooled_figure(*tables, prior_mean=50, prior_sd=1)
