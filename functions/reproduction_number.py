"""Estimates the effective reproduction number from daily counts."""

from aero.types import AeroOutput


def reproduction_number(
    deaths: str,
    *,
    window: int = 7,
    mean_serial_interval: float = 3.7,
    sd_serial_interval: float = 2.5,
    prior_mean: float = 5.0,
    prior_sd: float = 5.0,
    level: float = 0.95,
) -> AeroOutput:
    """Estimate R(t) with a credible interval after Cori et al. (2013).

    The counts of a day are Poisson with mean R(t) * Lambda(t), where Lambda(t) is the
    sum over s of w(s) * I(t - s): the earlier counts I weighted with the discretised
    serial interval w. R is taken as constant over the `window` days that end on t, and
    has a gamma prior; its posterior is then gamma with

        shape = shape of the prior + sum of I over the window
        rate  = rate of the prior  + sum of Lambda over the window

    The serial interval is 1 day plus a gamma distribution; w(s) weighs its density f
    with a triangle, the integral of (1 - |u - s|) f(u) du from s - 1 to s + 1, which
    has a closed form in the gamma distribution function. The first day has no earlier
    counts and is in no window: the first estimate is that of day `window` + 1. Where
    Lambda is 0 throughout a window of zeros, the data say nothing and the row is the
    prior.

    Read the result with two things in mind. Who infected the first cases of the table
    is not in it, so the estimates of the first serial intervals are too high. And
    where deaths stand in for infections, R(t) lags by the time from one to the other,
    and holds as long as the share of cases that die changes slowly.

    Args:
        deaths: Path of a tidy daily CSV, `date,count`, without gaps.
        window: Length of the sliding window, in days.
        mean_serial_interval: Mean of the serial interval in days, over 1. The default
            was estimated from transmission chains of cholera in Danish towns in 1853:
            3.7 days (95 % CI 2.9 to 4.7), Phelps et al. (2018).
        sd_serial_interval: Its standard deviation in days. The default is an
            assumption, a spread of two thirds of the mean.
        prior_mean: Mean of the prior of R; high, so that a low R is due to data.
        prior_sd: Standard deviation of the prior of R.
        level: Probability that the credible interval holds, between its quantiles.

    Returns:
        The output `rt`: a CSV with the columns `date`, `incidence` (counts), and of
        the posterior of R `mean`, `sd`, `lower`, `upper`; one row per day that has an
        estimate, so none if there are at most `window` days.

    Raises:
        ValueError: A parameter is out of its range, a count is blank, or the days do
            not follow each other.

    References:
        Cori, Ferguson, Fraser, Cauchemez (2013). A new framework and software to
        estimate time-varying reproduction numbers during epidemics. American Journal
        of Epidemiology 178:1505-1512, with its Web Appendix.

        Phelps, Perner, Pitzer, Andreasen, Jensen, Simonsen (2018). Cholera epidemics
        of the past offer new insights into an old enemy. Journal of Infectious
        Diseases 217:641-649.
    """
    import csv
    from pathlib import Path

    import numpy as np
    from scipy.special import gammainc, gammaincinv

    if not (isinstance(window, int) and window >= 1):
        raise ValueError(f"window={window} is no whole number of days: give 1 or more.")
    if not (mean_serial_interval > 1 and sd_serial_interval > 0):
        raise ValueError(
            "The serial interval has a mean over 1 day and a standard deviation over "
            f"0, not {mean_serial_interval} and {sd_serial_interval}."
        )
    if not (prior_mean > 0 and prior_sd > 0 and 0 < level < 1):
        raise ValueError(
            "prior_mean and prior_sd must be over 0 and level between 0 and 1, not "
            f"{prior_mean}, {prior_sd} and {level}."
        )

    with Path(deaths).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    days = np.array([row["date"] for row in rows], dtype="datetime64[D]")
    if np.any(np.diff(days) != np.timedelta64(1, "D")):
        raise ValueError("The days do not follow each other: clean the series first.")
    if any(not row["count"] for row in rows):
        raise ValueError("A count is blank: fill missing days before estimating R(t).")
    incidence = np.array([row["count"] for row in rows], dtype=float)

    # G(x) = x F(x) - E[X; X <= x], for F the gamma distribution function of the
    # interval less 1 day; w is G's second difference, the Web Appendix's closed form.
    shape = ((mean_serial_interval - 1) / sd_serial_interval) ** 2
    scale = sd_serial_interval**2 / (mean_serial_interval - 1)
    x = np.maximum(np.arange(-2.0, len(days)), 0)
    g = x * gammainc(shape, x / scale) - shape * scale * gammainc(shape + 1, x / scale)
    serial_interval = np.maximum(np.diff(g, 2), 0)

    table = np.empty((0, 5))
    if len(days) > window:
        infectivity = np.convolve(incidence, serial_interval)[: len(days)]
        one_each = np.ones(window)
        shapes = (prior_mean / prior_sd) ** 2
        shapes += np.convolve(incidence[1:], one_each, "valid")
        rates = prior_mean / prior_sd**2
        rates += np.convolve(infectivity[1:], one_each, "valid")
        table = np.column_stack(
            [
                incidence[window:],
                shapes / rates,
                np.sqrt(shapes) / rates,
                gammaincinv(shapes, (1 - level) / 2) / rates,
                gammaincinv(shapes, (1 + level) / 2) / rates,
            ]
        )

    output = Path("reproduction_number.csv")
    with output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["date", "incidence", "mean", "sd", "lower", "upper"])
        for day, values in zip(days[window:], table.tolist(), strict=True):
            writer.writerow([day, *(f"{value:.6g}" for value in values)])
    return AeroOutput("rt", output)
