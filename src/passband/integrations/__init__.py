"""Bridges to other projects: the only place that knows them. Importing it imports none of them."""

import importlib
from typing import TYPE_CHECKING

from passband.integrations.diffusers import process_from_scheduler

if TYPE_CHECKING:
    from passband.integrations._recorded import Recorded
    from passband.integrations.diffusers_term import DiffusersTerm
    from passband.integrations.vae_decoder import latent_decoder

__all__ = ["DiffusersTerm", "Recorded", "latent_decoder", "process_from_scheduler"]

_LAZY = {
    "DiffusersTerm": "passband.integrations.diffusers_term",
    "Recorded": "passband.integrations._recorded",
    "latent_decoder": "passband.integrations.vae_decoder",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'passband.integrations' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
