"""A `Clip` that lets a thread go which is to end: an update on torch ends at its next step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from torch import Tensor

from adapters.clip import Clip
from adapters.halting import Halted


@dataclass(frozen=True, eq=False)
class HaltingClip(Clip):
    """Raises `Halted` instead of looking at pictures once it is asked to.

    Attributes:
        halt: whether to end; asked before each batch of pictures, in the thread that works.
    """

    halt: Callable[[], bool]

    @classmethod
    def of(cls, clip: Clip, halt: Callable[[], bool]) -> HaltingClip:
        """Return the same model."""
        return cls(**{field.name: getattr(clip, field.name) for field in fields(Clip)}, halt=halt)

    def encode_image(self, images: Tensor, norms: Mapping[str, Tensor]) -> Tensor:
        """See `Clip.encode_image`."""
        if self.halt():
            raise Halted
        return super().encode_image(images, norms)
