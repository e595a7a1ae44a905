"""Our patch embedding and block against timm's, parameter by parameter and bit by bit."""

from functools import partial

import pytest
import torch
from timm.layers import PatchEmbed as TimmPatchEmbed
from timm.models.vision_transformer import Block as TimmBlock
from torch import nn

from models.geolink.vit_block import Block, PatchEmbed


def copy_into(ours, theirs):
    """Both with timm's random parameters; loading is strict, so that names and shapes must be equal."""
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict(), strict=True)


@pytest.mark.parametrize(("width", "heads", "ratio", "eps"), [(24, 3, 4.0, 1e-6), (32, 8, 2.5, 1e-5)])
def test_block_is_timms_to_the_last_bit(width, heads, ratio, eps):
    torch.manual_seed(4)
    theirs = TimmBlock(width, heads, ratio, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=eps)).eval()
    ours = Block(width, heads, ratio, eps=eps).eval()
    copy_into(ours, theirs)
    x = torch.randn(3, 17, width)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))


def test_gradients_are_timms():
    torch.manual_seed(5)
    theirs = TimmBlock(16, 2, qkv_bias=True)
    ours = Block(16, 2, 4.0, eps=theirs.norm1.eps)
    copy_into(ours, theirs)
    x = torch.randn(2, 5, 16)
    theirs(x).square().sum().backward()
    ours(x).square().sum().backward()
    of_theirs = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter.grad, of_theirs[name].grad)


def test_new_blocks_of_one_seed_are_timms():
    torch.manual_seed(6)
    theirs = TimmBlock(16, 2, qkv_bias=True)
    torch.manual_seed(6)
    ours = Block(16, 2, 4.0, eps=theirs.norm1.eps)
    for name, parameter in ours.state_dict().items():
        assert torch.equal(parameter, theirs.state_dict()[name])


@pytest.mark.parametrize("size", [(32, 32), (16, 48)])
def test_patch_embedding_is_timms_to_the_last_bit(size):
    torch.manual_seed(7)
    theirs, ours = TimmPatchEmbed(32, 8, 3, 20, strict_img_size=False).eval(), PatchEmbed(8, 3, 20).eval()
    copy_into(ours, theirs)
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))
