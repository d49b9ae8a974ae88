"""How large the report is, and how soon a browser shows something of it.

    python benchmarks/report_page.py [RUN...]

Without a run: 10,000 made-up checks. Needs Chromium with its driver and the extra ``browser``. The
goals: under 3 MB for the standard suite, 10 MB for 10,000 checks, first content within 1 s.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "browser"))

from browsing import start, with_networks
from synthetic import make_run, synthetic_checks

from hyperverify.report import render
from hyperverify.store import Run, read_run

CHECKS = 10_000
REPEATS = 5
PAINT = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
WHOLE = "return performance.getEntriesByType('navigation')[0].domComplete"


def measure(name: str, run: Run, folder: Path) -> str:
    started = time.perf_counter()
    text = render(run)
    rendered = time.perf_counter() - started
    page = folder / "report.html"
    page.write_text(text, encoding="utf-8")
    paints: list[float] = []
    wholes: list[float] = []
    for _ in range(REPEATS):
        driver = start()  # anew, so that nothing is cached
        try:
            driver.get(page.as_uri())
            while not (whole := driver.execute_script(WHOLE)):
                time.sleep(0.05)
            paints.append(driver.execute_script(PAINT) / 1000)
            wholes.append(whole / 1000)
        finally:
            driver.quit()
    return (
        f"| {name} | {len(run.checks):,} | {page.stat().st_size / 1e6:.2f} MB | {rendered:.1f} s "
        f"| {statistics.median(paints):.2f} s | {statistics.median(wholes):.2f} s |"
    )


def made_up(total: int) -> Run:
    """Checks of all verdicts, the same few over and over under ids of their own."""
    few = with_networks(synthetic_checks())
    checks = [
        few[n % len(few)].model_copy(update={"id": f"{few[n % len(few)].id}/{n}"})
        for n in range(total)
    ]
    return make_run(checks)


def main() -> None:
    runs = {path: read_run(path) for path in sys.argv[1:]}
    runs = runs or {"made up": made_up(CHECKS)}
    print("| run | checks | size | rendered in | first content | whole page |")
    print("|---|---|---|---|---|---|")
    for name, run in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            print(measure(name, run, Path(folder)))


if __name__ == "__main__":
    main()
