"""The benchmark as text: a line per provider of a cell, a line per bar, what is missing.

Promises: pure, no torch; rows in, lines out.
"""

from __future__ import annotations

from record import Row

#: Whether an update may start before the kernel before has ended.
START = {True: "early", False: "waits", None: ""}


def rows(measured: list[Row]) -> None:
    """One line per provider of a cell, as it was measured."""
    eager = {r["provider"]: r["ms"] for r in measured if r["mode"] == "eager"}
    for r in measured:
        if r["mode"] != "graph":
            continue
        cell = f"{r['op']:<23}{r['shape']:<12}{r['length']:>7} x{r['batch']:<3}{r['provider']:<14}"
        cell += f"{START[r.get('early')]:<7}"
        if r["ms"] is None:
            print(f"{cell}{'-':>10}  {r['note']}", flush=True)
            continue
        best = max((n for n in r if n.startswith("share_")), key=lambda n: r[n])
        ratio = "" if r["ratio"] is None else f"{r['ratio']:6.2f}x"
        wall = eager.get(r["provider"])
        print(
            f"{cell}{r['ms']:10.4f} ms {'' if wall is None else f'{wall:8.3f} eager'} {ratio:>8}"
            f"{r['gb_per_s']:8.0f} GB/s{r['tflop_per_s']:8.1f} TFLOP/s"
            f"{r[best]:6.0%} of {best.removeprefix('share_')}"
            f"{'' if r['error'] is None else '  error {:.1e}'.format(r['error'])}",
            flush=True,
        )


def totals(lines: list[Row]) -> None:
    """One line per bar, from `verdicts.judge`."""
    print("\ngeometric mean of peer time / own time (or share of a ceiling), against the bars")
    for t in lines:
        where = ", ".join(f"{k} {v}" for k, v in t["where"].items()) or "all"
        state = "aim met" if t["aim_met"] else "floor met" if t["floor_met"] else "BELOW FLOOR"
        print(
            f"{t['op']:<23}{t['own']:<14}{START[t['early']]:<7}{t['against']:<20}{t['mode']:<6}"
            f"{t['cells']:>4} cells"
            f"{t['reached']:8.2f} (worst {t['worst']:.2f}; floor {t['floor']}, aim {t['aim']})"
            f"  {state}  [{where}]"
        )


def missing(measured: list[Row]) -> None:
    """How to install the peers that were not there."""
    reasons = {r["note"] for r in measured if r["note"] and "pip install" in r["note"]}
    for reason in sorted(reasons):
        print(f"missing peer: {reason}")
