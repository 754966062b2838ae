"""After the statistics of pytest-benchmark: what the times mean, beside what this machine allows."""

import pytest

from minunet.bench import limits, report

TIMED = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[TIMED] = []


@pytest.fixture
def timed(request):
    """List of (name, seconds, cost), to which every benchmark adds its own."""
    return request.config.stash[TIMED]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    if config.stash[TIMED]:
        table = report.rate_table("Times beside what this machine allows", config.stash[TIMED], limits.measure())
        terminalreporter.write_line(report.markdown(table))
        terminalreporter.write_line(f"\nlimits of {limits.measure()}")
