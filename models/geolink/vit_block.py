"""Patch embedding and transformer block of a plain ViT, with timm's names and arithmetic.

timm's own stand in modules that import its whole zoo, torchvision and torch's compiler: 6 s of processor time for every
process that predicts. These two are all that the encoder needs of it; a test holds them equal to timm's to the last
bit, and their parameters have the same names, so state dicts fit both ways.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class PatchEmbed(nn.Module):
    """One linear map per patch, as a convolution (Dosovitskiy et al. 2021).

    Args:
        patch_px: Side of a patch.
        in_channels: Bands of the image.
        width: Width of a token.
    """

    def __init__(self, patch_px: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch_px, patch_px)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (B, P, width) of images (B, C, H, W), row by row; H and W multiples of the patch."""
        tokens: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return tokens


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, through torch's fused kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Float (B, N, width) to the same shape."""
        b, n, width = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(attended.transpose(1, 2).reshape(b, n, width))
        return out


class Mlp(nn.Module):
    """Two linear maps with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Float (B, N, width) to the same shape."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a perceptron, each beside an identity.

    Args:
        width: Width of a token; a multiple of ``heads``.
        heads: Heads of the attention.
        mlp_ratio: Hidden width of the perceptron over ``width``.
        eps: Added to the variance in both layer norms.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, *, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Float (B, N, width) to the same shape."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out
