"""The base of all sections: unknown keys are errors that name the nearest known one."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from passband._checks import nearest


class Settings(BaseModel):
    """The base of all settings: unknown keys are errors that name the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _known_keys(cls, values: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(values)
        except ValidationError as error:
            faults = [cls._named(dict(fault)) for fault in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(error.title, faults) from None

    @classmethod
    def _named(cls, fault: dict[str, Any]) -> InitErrorDetails:
        """The fault as it was found, an unknown key of these settings with the nearest known one."""
        where: tuple[int | str, ...] = fault["loc"]
        message, kind = str(fault["msg"]), fault["type"]
        if kind == "extra_forbidden" and len(where) == 1:
            key, known = str(where[0]), ", ".join(cls.model_fields)
            message = f"unknown key {key!r}{nearest(key, cls.model_fields)}; known keys: {known}"
            where, kind = (), "unknown_key"
        # As a value, since braces in a message would be taken for a template.
        plain = PydanticCustomError(kind, "{message}", {**fault.get("ctx", {}), "message": message})
        return InitErrorDetails(type=plain, loc=where, input=fault["input"])
