"""Scans and reports made from seeds: phantoms, their truth, the grammar and the corpus."""
