"""The names of an official GeoLink checkpoint and ours: the mapping itself, with why some keys are left out."""

from __future__ import annotations

from models.geolink.graph import EDGE_TYPES, NODE_TYPES

UNUSED = {
    "img_encoder.cls_token": "timm's own class token; GeoLink uses cls_token",
    "img_encoder.pos_embed": "timm's own positions; GeoLink uses img_pos_embed",
    "img_encoder.norm.weight": "timm's own last norm; GeoLink uses img_norm",
    "img_encoder.norm.bias": "idem",
}
"""Keys that official files hold and the published network never reads."""

_RENAMED = (
    ("encoder.image.cls_token", "cls_token"),
    ("encoder.image.img_pos_embed", "img_pos_embed"),
    ("encoder.image.stem.embed.proj.", "patch_embed.proj."),
    ("encoder.image.blocks.", "img_encoder.blocks."),
    ("encoder.image.norm.", "img_norm."),
    ("encoder.fusion_img_pos_embed", "fusion_img_pos_embed"),
    ("encoder.fusion.image.", "img_fusion_mlp."),
    ("encoder.fusion.blocks.", "osm_cross_modal_encoder."),
    ("decoder.rec_img_pos_embed", "rec_img_pos_embed"),
    ("decoder.mask_token", "img_mask_token"),
    ("decoder.project.", "img_decoder_mlp."),
    ("decoder.blocks.", "img_cross_modal_decoder."),
    ("decoder.norm.", "img_decoder_norm."),
    ("decoder.predict.", "img_decoder_pred."),
    ("readout.type_attention.", "type_attention."),
    ("readout.project.", "osm_graph_consistency_prj."),
    ("image_projection.", "img_consistency_prj."),
    ("node_prediction.", "osm_node_pred."),
)
"""Ours and theirs, one to one; a name that ends in a dot stands for all below it."""

_PER_NODE_TYPE = {
    "encoder.osm.norms.0.weight": "osm_norm.{}.weight",
    "encoder.osm.norms.0.bias": "osm_norm.{}.bias",
    "encoder.fusion.nodes.weight": "osm_node_fusion_mlp.{}.weight",
    "encoder.fusion.nodes.bias": "osm_node_fusion_mlp.{}.bias",
    "readout.weight_ih": "osm_read_out.{}.lstm.weight_ih_l0",
    "readout.weight_hh": "osm_read_out.{}.lstm.weight_hh_l0",
    "readout.bias_ih": "osm_read_out.{}.lstm.bias_ih_l0",
    "readout.bias_hh": "osm_read_out.{}.lstm.bias_hh_l0",
    "readout.aggregate.weight": "osm_aggr_mlp.{}.weight",
    "readout.aggregate.bias": "osm_aggr_mlp.{}.bias",
    "osm_mask_token": "osm_mask_token.{}",
}
"""Ours is the stack of theirs over `NODE_TYPES`."""

_PER_EDGE_TYPE = {
    "encoder.osm.layers.0.weight": "lin.weight",
    "encoder.osm.layers.0.att_src": "att_src",
    "encoder.osm.layers.0.att_dst": "att_dst",
    "encoder.osm.layers.0.bias": "bias",
}
"""Ours is the stack of theirs over `EDGE_TYPES`."""

CONV = "osm_encoder.convs.0.convs.<{}___to___{}>."
PRETRAINING_ONLY = ("decoder.", "readout.", "image_projection.", "osm_mask_token", "node_prediction.")


def official_names(ours: str) -> tuple[str, ...]:
    """The keys of an official file that one parameter of `GeoLinkPretraining` is made of, in order."""
    if ours in _PER_NODE_TYPE:
        return tuple(_PER_NODE_TYPE[ours].format(t) for t in NODE_TYPES)
    if ours in _PER_EDGE_TYPE:
        return tuple(CONV.format(*pair) + _PER_EDGE_TYPE[ours] for pair in EDGE_TYPES)
    for prefix, theirs in _RENAMED:
        if ours == prefix or (prefix.endswith(".") and ours.startswith(prefix)):
            return (theirs + ours[len(prefix) :],)
    raise KeyError(ours)
