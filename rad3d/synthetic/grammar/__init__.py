"""The grammar: reports and summaries of findings, by composition of phrases."""

from rad3d.synthetic.grammar.prose import REPORT_ORDER, write_report
from rad3d.synthetic.grammar.summary import write_summary

__all__ = ["REPORT_ORDER", "write_report", "write_summary"]
