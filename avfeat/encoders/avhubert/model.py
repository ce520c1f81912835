"""The AV-HuBERT encoder in plain PyTorch, for frozen features: evaluation only, no masking, no dropout."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avfeat.encoders.avhubert.published import Architecture
from avfeat.encoders.blocks import LipResNet, PositionalConvolution, SelfAttention


class AudioFrontEnd(nn.Module):
    """One linear map of each stacked log-mel vector: all context in time comes later."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.proj = nn.Linear(architecture.audio_width, architecture.width)

    def forward(self, audio: Tensor) -> Tensor:
        """Return [clip, T, width] for ``audio`` [clip, T, 104]."""
        out: Tensor = self.proj(audio)
        return out


class VideoFrontEnd(nn.Module):
    """The lips' ResNet and one linear map."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.resnet = LipResNet(architecture.resnet_width, nn.PReLU)
        self.proj = nn.Linear(8 * architecture.resnet_width, architecture.width)

    def forward(self, video: Tensor) -> Tensor:
        """Return [clip, T, width] for ``video`` [clip, T, 88, 88]."""
        out: Tensor = self.proj(self.resnet(video))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each with a residual; the norms come before (``norm_first``) or after the sum."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        width = architecture.width
        self.norm_first = architecture.norm_first
        self.self_attn = SelfAttention(width, architecture.heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, architecture.ffn)
        self.fc2 = nn.Linear(architecture.ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, steps: Tensor, mask: Tensor | None) -> Tensor:
        """Return the block's output, [clip, T, width] as ``steps``."""
        if self.norm_first:
            steps = steps + self.self_attn(self.self_attn_layer_norm(steps), mask)
            return steps + self._feed_forward(self.final_layer_norm(steps))
        steps = self.self_attn_layer_norm(steps + self.self_attn(steps, mask))
        out: Tensor = self.final_layer_norm(steps + self._feed_forward(steps))
        return out

    def _feed_forward(self, steps: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(steps)))
        return out


class Transformer(nn.Module):
    """Positions by convolution, then the blocks."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.norm_first = architecture.norm_first
        self.pos_conv = PositionalConvolution(architecture.width, architecture.conv_kernel, architecture.conv_groups)
        self.layers = nn.ModuleList(Block(architecture) for _ in range(architecture.layers))
        self.layer_norm = nn.LayerNorm(architecture.width)

    def forward(
        self, steps: Tensor, layers: Collection[int | None], padding: Tensor | None = None
    ) -> dict[int | None, Tensor]:
        """Return the outputs asked for: k is block k's own (from 1), None the last one's after the final norm.

        Blocks after the last one asked for do not run.
        """
        mask = None
        if padding is not None:
            steps = steps.masked_fill(padding[..., None], 0.0)
            mask = ~padding[:, None, None, :]
        steps = steps + self.pos_conv(steps)
        if not self.norm_first:
            steps = self.layer_norm(steps)
        found: dict[int | None, Tensor] = {}
        last = len(self.layers) if None in layers else max(layer for layer in layers if layer is not None)
        for number, block in enumerate(self.layers[:last], 1):
            steps = block(steps, mask)
            if number in layers:
                found[number] = steps
        if None in layers:
            found[None] = self.layer_norm(steps) if self.norm_first else steps
        return found


class AvHubert(nn.Module):
    """Lips and sound at 25 Hz in, one vector for each frame out.

    A missing stream's half is zero after its front-end, which is not the same as silence or black pictures.
    Attribute names are those of the official pre-trained files, but for the folded norms.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        self.feature_extractor_audio = AudioFrontEnd(architecture)
        self.feature_extractor_video = VideoFrontEnd(architecture)
        self.layer_norm = nn.LayerNorm(2 * architecture.width)
        self.post_extract_proj = nn.Linear(2 * architecture.width, architecture.width)
        self.encoder = Transformer(architecture)

    def forward(
        self,
        audio: Tensor | None,
        video: Tensor | None,
        layers: Collection[int | None] = (None,),
        padding: Tensor | None = None,
    ) -> dict[int | None, Tensor]:
        """Return for each of ``layers`` (see ``Transformer``) float [clip, T, width].

        Args:
            audio: [clip, T, 104] or None.
            video: [clip, T, 88, 88] or None, with the same T.
            layers: which outputs.
            padding: bool [clip, T], True where a shorter clip of the batch has ended; there the inputs are 0.
        """
        heard = None if audio is None else self.feature_extractor_audio(audio)
        seen = None if video is None else self.feature_extractor_video(video)
        return self.transform(heard, seen, layers, padding)

    def transform(
        self,
        heard: Tensor | None,
        seen: Tensor | None,
        layers: Collection[int | None] = (None,),
        padding: Tensor | None = None,
    ) -> dict[int | None, Tensor]:
        """Return what ``forward`` does, from the front-ends' outputs [clip, T, width], so that streams share them."""
        present = heard if heard is not None else seen
        assert present is not None, "at least one stream"
        absent = torch.zeros_like(present)
        joined = torch.cat([absent if heard is None else heard, absent if seen is None else seen], dim=2)
        return self.encoder(self.post_extract_proj(self.layer_norm(joined)), layers, padding)  # type: ignore[no-any-return]
