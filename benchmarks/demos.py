"""How long each demo takes and how much memory, slowest first.

`python -m benchmarks.demos [DEMO ...]` runs each demo at its defaults and at the ends of every knob's range, each in a
process of its own on one core, and prints seconds to the first frame, the longest wait between two frames, seconds in
all, seconds at the slowest end with the knob that does it, and how far memory peaked above that of the loaded demo.
"""

import itertools
import json
import os
import resource
import subprocess
import sys
import time

from demos import kit


def measure(slug: str) -> dict[str, object]:
    """One demo, in this process."""
    demo = kit.load(slug)
    before = _peak()
    defaults = demo.params()
    at_frames = [time.perf_counter()]
    for frame in demo.frames(defaults):
        last = frame
        at_frames.append(time.perf_counter())
    first, *gaps = (after - before for before, after in itertools.pairwise(at_frames))
    start = time.perf_counter()
    demo.figures(defaults, last)
    figures = time.perf_counter() - start
    slowest, at = 0.0, ""
    for name, knob in kit.knobs(demo.params).items():
        for value in [] if knob.view else knob.edges():
            start = time.perf_counter()
            demo.result(defaults.but(**{name: value}))
            seconds = time.perf_counter() - start
            if seconds > slowest:
                slowest, at = seconds, f"{name} = {knob.write(value)}"
    return {
        "demo": slug,
        "pace": demo.entry.pace,
        "first": first,
        "gap": max(gaps, default=0.0),
        "total": at_frames[-1] - at_frames[0],
        "figures": figures,
        "slowest": slowest,
        "at": at,
        "memory": _peak() - before,
    }


def _peak() -> float:
    """The most memory this process ever held, MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**2


def main() -> None:
    rows = []
    for slug in sys.argv[1:] or kit.catalog():
        code = f"import json\nfrom benchmarks.demos import measure\nprint(json.dumps(measure({slug!r})))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        if done.returncode:
            print(f"{slug} failed: {done.stderr.strip().splitlines()[-1]}")
        else:
            rows.append(json.loads(done.stdout))
    print(f"{'demo':<32}{'pace':<10}{'first s':>9}{'gap s':>8}{'all s':>8}{'figures':>9}{'slowest':>9}{'MiB':>7}  at")
    for row in sorted(rows, key=lambda row: -float(row["total"])):
        print(
            f"{row['demo']:<32}{row['pace']:<10}{row['first']:>9.3f}{row['gap']:>8.3f}{row['total']:>8.2f}"
            f"{row['figures']:>9.3f}{row['slowest']:>9.2f}{row['memory']:>7.0f}  {row['at'][:40]}"
        )


if __name__ == "__main__":
    main()
