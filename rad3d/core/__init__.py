"""The words that all parts share: types, labels, findings, errors, settings, tables, models."""
