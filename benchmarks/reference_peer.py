"""anomalib's PatchCore with the weights of our backbone, as its own defaults have it.

Two middle layers, 3x3 mean, a coreset of a tenth, nine neighbours; installed from `benchmarks/peers.txt`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapters.backbone.packaged_weights import packaged_weights
from adapters.core.protocol import Floats

CORESET = 0.1
LAYERS = ("blocks.2", "blocks.4")


class PeerPatchCore:
    """anomalib's PatchCore. Owns its memory; `build` makes a new one."""

    def __init__(self) -> None:
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        self.model = PatchcoreModel(layers=LAYERS, backbone="tf_efficientnet_lite0", pre_trained=False)
        network = self.model.feature_extractor.feature_extractor
        self._take(network)
        self.model.eval()

    def embedding(self, picture: Floats) -> torch.Tensor:
        """Return ``(P, D)`` of one ``(1, 3, S, S)`` picture."""
        features = self.model.feature_extractor(torch.from_numpy(picture))
        pooled = {layer: self.model.feature_pooler(feature) for layer, feature in features.items()}
        found: torch.Tensor = self.model.reshape_embedding(self.model.generate_embedding(pooled))
        return found

    def build(self, embeddings: list[torch.Tensor], seed: int) -> None:
        """Make the memory of good pictures' embeddings."""
        torch.manual_seed(seed)
        self.model.embedding_store = list(embeddings)
        self.model.subsample_embedding(CORESET)

    def score(self, embedding: torch.Tensor) -> float:
        """Return the score of one picture's embedding, as `forward` computes it."""
        patches, locations = self.model.nearest_neighbors(embedding=embedding, n_neighbors=1)
        found = self.model.compute_anomaly_score(patches.reshape(1, -1), locations.reshape(1, -1), embedding)
        return float(found)

    def forward(self, picture: Floats) -> Any:
        """Judge one picture, from pixels to score and map."""
        return self.model(torch.from_numpy(picture))

    @property
    def memory_bytes(self) -> int:
        """Of its memory of patches."""
        bank: torch.Tensor = self.model.memory_bank
        return bank.numel() * bank.element_size()

    def _take(self, network: torch.nn.Module) -> None:
        """Load the weights: tensors of the package are in the order of timm's, names differ."""
        import timm

        whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        ours: list[NDArray[Any]] = [a for n, a in packaged_weights().items() if "num_batches" not in n]
        names = [name for name in whole.state_dict() if "num_batches" not in name]
        state = {name: torch.from_numpy(np.array(a)) for name, a in zip(names, ours, strict=True)}
        missing = network.load_state_dict(state, strict=False).missing_keys
        if wrong := [name for name in missing if "num_batches" not in name]:
            raise ValueError(f"the peer's network lacks weights: {wrong[:3]}")
