"""Reads findings out of report text by rules: which labels, where, how large.

Quick (a few milliseconds per report) and free of heavy dependencies, so that the app, the
command line and the evaluation share one reader.
"""

from rad3d.reports.labeller.mentions import (
    Mention,
    find_mentions,
    findings_in,
    label_report,
    stated_labels,
)

REVISION = "rules-4"
"""Part of every score's signature; raised whenever a rule changes what is read."""

__all__ = ["REVISION", "Mention", "find_mentions", "findings_in", "label_report", "stated_labels"]
