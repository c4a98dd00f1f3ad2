"""Scores of reports and classifiers: plain arrays in, numbers with intervals out."""
