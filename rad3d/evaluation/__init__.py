"""Runs of variants and baselines on sample sets: generated, scored, compared, stored, exported."""
