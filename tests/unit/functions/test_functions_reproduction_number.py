"""R(t) against values worked out without the code that is tested."""

import math
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from aero.types import AeroOutput
from functions.reproduction_number import reproduction_number


@pytest.fixture
def estimate(write, rows_of):
    def run(incidence, **options):
        days = (date(1849, 1, 1) + timedelta(days=n) for n in range(len(incidence)))
        lines = (f"{day},{n}\n" for day, n in zip(days, incidence, strict=True))
        path = write("date,count\n" + "".join(lines))
        return rows_of(reproduction_number(path, **options))

    return run


@pytest.fixture
def serial_interval(estimate):
    """Return w(1), w(2), ... as the function uses them.

    After `many` cases on the first day and none since, Lambda(t) = many * w(t), and a
    window of one day has the mean shape / (rate + Lambda(t)) of a prior of shape and
    rate 1.
    """

    def weights(mean, sd, length, many=10**6):
        rows = estimate(
            [many] + [0] * length,
            window=1,
            mean_serial_interval=mean,
            sd_serial_interval=sd,
            prior_mean=1,
            prior_sd=1,
        )
        return [(1 / float(row["mean"]) - 1) / many for row in rows]

    return weights


def test_four_days_worked_out_by_hand(estimate):
    """With mean 2 and sd 1 the interval less a day is exponential with mean 1.

    Then w(1) = 1/e, w(2) = (1 - 1/e)^2, w(3) = w(2)/e, and
    Lambda = 0, 2 w(1), 3 w(1) + 2 w(2), 4 w(1) + 3 w(2) + 2 w(3)
           = 0, 0.735759, 1.902791, 2.964239.
    The posterior's shapes, 1 + 3 + 4 and 1 + 4 + 5, are whole, so that its quantiles
    are those of chi-square with 16 and 20 degrees of freedom, found in any table.
    """
    rows = estimate(
        [2, 3, 4, 5], window=2, mean_serial_interval=2, sd_serial_interval=1
    )

    assert [row["date"] for row in rows] == ["1849-01-03", "1849-01-04"]
    assert [row["incidence"] for row in rows] == ["4", "5"]
    worked = [
        (8, 0.2 + 0.735759 + 1.902791, 6.908, 28.845),
        (10, 0.2 + 1.902791 + 2.964239, 9.591, 34.170),
    ]
    for row, (shape, rate, low, high) in zip(rows, worked, strict=True):
        assert float(row["mean"]) == pytest.approx(shape / rate, rel=2e-6)
        assert float(row["sd"]) == pytest.approx(shape**0.5 / rate, rel=2e-6)
        assert float(row["lower"]) == pytest.approx(low / 2 / rate, rel=1e-4)
        assert float(row["upper"]) == pytest.approx(high / 2 / rate, rel=1e-4)


@pytest.mark.parametrize(("mean", "sd"), [(3.7, 2.5), (8.4, 3.8), (2.6, 1.5)])
def test_the_serial_interval_is_the_papers_integral(mean, sd, serial_interval):
    shape, scale = ((mean - 1) / sd) ** 2, sd**2 / (mean - 1)
    density = stats.gamma(shape, loc=1, scale=scale).pdf

    for day, weight in enumerate(serial_interval(mean, sd, 15), start=1):
        halves = [(max(day - 1, 1), day), (day, day + 1)]
        expected = sum(
            integrate.quad(lambda u, d=day: (1 - abs(u - d)) * density(u), *half)[0]
            for half in halves
        )
        assert weight == pytest.approx(expected, abs=3e-6)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mean=st.floats(1.5, 10), ratio=st.floats(0.2, 1))
def test_the_serial_interval_is_a_distribution_with_its_mean(
    mean, ratio, serial_interval
):
    weights = serial_interval(mean, ratio * mean, 300)

    assert min(weights) >= -1e-9
    assert sum(weights) == pytest.approx(1, abs=1e-4)
    first_moment = sum(day * weight for day, weight in enumerate(weights, start=1))
    assert first_moment == pytest.approx(mean, rel=2e-3)


@pytest.mark.parametrize("growth", [-0.05, 0.0, 0.1, 0.3])
def test_exponential_change_has_the_analytical_reproduction_number(
    growth, serial_interval, estimate
):
    weights = serial_interval(3.7, 2.5, 60)
    decay = (w * math.exp(-growth * s) for s, w in enumerate(weights, start=1))
    analytical = 1 / sum(decay)
    incidence = [round(10**9 * math.exp(growth * day)) for day in range(60)]

    last = estimate(incidence)[-1]

    assert float(last["mean"]) == pytest.approx(analytical, rel=1e-4)
    if growth == 0:
        assert analytical == pytest.approx(1, abs=1e-4)


def test_constant_incidence_is_about_one_and_more_cases_narrow_the_band(estimate):
    few, many = (estimate([count] * 80)[-1] for count in (10, 10_000))

    for row in (few, many):
        assert float(row["mean"]) == pytest.approx(1, abs=0.02)
        assert float(row["lower"]) < 1 < float(row["upper"])
    assert float(many["upper"]) - float(many["lower"]) < 0.02
    assert float(few["upper"]) - float(few["lower"]) > 0.3


def test_the_band_has_the_level_that_was_asked_for(estimate):
    incidence = [5, 3, 8, 13, 9, 20, 18, 25, 24, 30]
    wide, narrow = (estimate(incidence, level=level) for level in (0.95, 0.5))

    for row in wide:
        mean, sd = float(row["mean"]), float(row["sd"])
        posterior = stats.gamma((mean / sd) ** 2, scale=sd**2 / mean)
        assert float(row["lower"]) == pytest.approx(posterior.ppf(0.025), rel=1e-4)
        assert float(row["upper"]) == pytest.approx(posterior.ppf(0.975), rel=1e-4)
    for outer, inner in zip(wide, narrow, strict=True):
        assert float(outer["lower"]) < float(inner["lower"])
        assert float(inner["upper"]) < float(outer["upper"])


def test_yesterdays_estimates_stay_when_a_day_is_added(estimate):
    incidence = [5, 3, 8, 13, 9, 20, 18, 25, 24, 30]

    assert estimate(incidence)[:-1] == estimate(incidence[:-1])


def test_where_nobody_died_the_row_is_the_prior(estimate):
    rows = estimate([0] * 9, prior_mean=4, prior_sd=2)

    assert {(row["mean"], row["sd"]) for row in rows} == {("4", "2")}


@pytest.mark.parametrize("days", [0, 1, 6, 7])
def test_too_few_days_give_a_header_alone(days, write):
    lines = "".join(f"1849-01-0{day},3\n" for day in range(1, days + 1))

    output = reproduction_number(write("date,count\n" + lines))

    assert output == AeroOutput("rt", "reproduction_number.csv")
    header = "date,incidence,mean,sd,lower,upper\n"
    assert output.path.read_text(encoding="utf-8") == header


def test_one_day_more_than_the_window_gives_one_row(estimate):
    assert len(estimate([3] * 8)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window=0"),
        ({"window": 2.5}, "window=2.5"),
        ({"mean_serial_interval": 1}, "mean over 1 day"),
        ({"sd_serial_interval": 0}, "standard deviation over 0"),
        ({"prior_mean": 0}, "prior_mean"),
        ({"prior_sd": -1}, "prior_sd"),
        ({"level": 1}, "level between 0 and 1"),
    ],
)
def test_parameters_out_of_range_are_refused(options, message, estimate):
    with pytest.raises(ValueError, match=message):
        estimate([3] * 9, **options)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("1849-01-03,4", "do not follow each other"),
        ("1849-01-01,4", "do not follow each other"),
        ("1849-01-02,", "A count is blank"),
    ],
)
def test_series_with_gaps_are_refused(second, message, write):
    with pytest.raises(ValueError, match=message):
        reproduction_number(write(f"date,count\n1849-01-01,3\n{second}\n"))
