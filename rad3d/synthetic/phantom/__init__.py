"""Seeded synthetic chest CTs with known truth and a matching report."""
