"""What pipelines with prompts share: text encoders that are loaded when needed, and asked as the pipeline asks them."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from passband._numerics import no_autocast
from passband.integrations.pipelines.drawing import Drawing
from passband.integrations.pipelines.latents import LatentPipeline
from passband.integrations.pipelines.parts import load_part

#: Prompts that are embedded at once.
_BATCH = 16


class TextPipeline(LatentPipeline):
    """A pipeline whose images depend on prompts."""

    condition = "text"
    loads_lora = True

    @property
    def _companions(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("vae", *self._encoder_names)

    @property
    def _encoder_names(self) -> tuple[str, ...]:
        return tuple(name for name in self._named if name.startswith("text_encoder"))

    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """What the text encoders say of the prompts, one row each, as the pipeline itself asks them.

        Args:
            prompts: texts; what exceeds the tokenizers' lengths is cut off.

        Raises:
            TypeError: if prompts is one text.
            ValueError: if there are none.

        """
        if isinstance(prompts, str):
            raise TypeError(f"prompts must be a list of texts, got the text {prompts!r}: put it into a list")
        texts = list(prompts)
        if not texts:
            raise ValueError("prompts must hold at least one text")
        self._load_text_encoders()
        with torch.no_grad(), no_autocast(torch.empty(0, device=self.device)):
            rows = [self._embed(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def unconditional(self) -> dict[str, Tensor]:
        """One row: what guidance takes for no text, the empty prompt unless the pipeline has it otherwise."""
        return self.embed([""])

    def drop_text_encoders(self) -> None:
        """Free the memory of the text encoders; `embed` and `draw` load them again."""
        for name in self._encoder_names:
            self.pipeline.register_modules(**{name: None})

    @abstractmethod
    def _embed(self, prompts: list[str]) -> dict[str, Tensor]:
        """The conditioning of a few prompts, by the pipeline's own encode_prompt."""

    def _load_text_encoders(self) -> None:
        for name in self._encoder_names:
            if getattr(self.pipeline, name, None) is None:
                encoder = load_part(self.folder, name, *self._named[name], self.variant)
                self.pipeline.register_modules(**{name: encoder.to(self.device)})

    @contextmanager
    def _with_text_encoders(self) -> Iterator[None]:
        """Text encoders for a while: those that were not there before are dropped again."""
        held = all(getattr(self.pipeline, name, None) is not None for name in self._encoder_names)
        self._load_text_encoders()
        try:
            yield
        finally:
            if not held:
                self.drop_text_encoders()

    def _call(self, drawing: Drawing) -> Any:
        with self._with_text_encoders():
            return self.pipeline(
                prompt=list(drawing.prompts or ()),
                generator=drawing.generators,
                height=drawing.height,
                width=drawing.width,
                output_type="np",
                **drawing.options,
            ).images
