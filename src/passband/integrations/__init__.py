"""Bridges to other projects: the only place that knows them. Importing it imports none of them."""

from passband.integrations.diffusers import process_from_scheduler

__all__ = ["process_from_scheduler"]
