"""Settings of every test run: laws are tried without a clock, so that a busy machine fails no test."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("calm", deadline=None, database=None, max_examples=60)
settings.load_profile("calm")

pytest_plugins = ["tests.served"]
