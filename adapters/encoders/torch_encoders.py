"""`Encoders` on torch: what ONNX Runtime's are checked against; for CUDA and research."""

from __future__ import annotations

import torch
from torch import Tensor

from adapters.core.adapter import Adapter
from adapters.core.norm_vector import NormVector
from adapters.core.protocol import Floats, ModelInfo, Tokens
from adapters.encoders.protocol import Encoded
from adapters.torch_model.clip import Clip
from adapters.torch_model.differentiable import Precision, encode, named


class TorchEncoders:
    """Differentiates a `Clip`.

    Args:
        clip: the model.
        precision: of the towers; features and gradients are fp32.
    """

    def __init__(self, clip: Clip, precision: Precision = "fp32") -> None:
        self._clip = clip
        self._precision: Precision = precision
        self._norms = NormVector(clip.source)

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._clip.info

    @property
    def source(self) -> Adapter:
        """The LayerNorms as they were trained."""
        return self._clip.source

    def encode(self, vector: Floats, images: Floats, tokens: Tokens) -> Encoded:
        """See `Encoders.encode`."""
        device = self._clip.device
        leaf = torch.tensor(vector, device=device).requires_grad_()
        norms = named(self._norms, leaf)
        moved = torch.from_numpy(images).to(device), torch.from_numpy(tokens).to(device)
        with self._clip.turn:
            of_images, of_texts = encode(self._clip, norms, *moved, self._precision)

        assert of_texts is not None

        def backward(by_images: Floats, by_texts: Floats) -> Floats:
            given = [torch.from_numpy(gradient).to(device) for gradient in (by_images, by_texts)]
            (gradient,) = torch.autograd.grad([of_images, of_texts], leaf, given)
            return _floats(gradient)

        return Encoded(_floats(of_images), _floats(of_texts), backward)


def _floats(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().cpu().numpy()
    return array
