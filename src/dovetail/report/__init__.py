"""Renders results for people and programs; decides nothing.

| module | renders |
|---|---|
| :mod:`~dovetail.report.terminal` | results, certificates, explanations and checks on a terminal |
| :mod:`~dovetail.report.progress` | work in progress |
| :mod:`~dovetail.report.html` | ``report.html``, one self-contained file |
| :mod:`~dovetail.report.json` | JSON with a stable schema |
| :mod:`~dovetail.report.notebook` | a compact table for notebooks |

``phrases`` words single values, ``view`` arranges a result for all of them, ``plots`` draws SVG, ``figures`` draws a result.
"""
