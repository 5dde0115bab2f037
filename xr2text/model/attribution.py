"""Attribution: the regions that each token of a report was written from.

The decoder's cross-attention says how much a token was written from each region's tokens, and from each finding; a
finding's part is passed on to the regions that the finding was read from.

Shapes: B batch, T report tokens, Q context tokens (G global, K*R of regions, L of the lateral view, F findings),
K regions.
"""

import torch

from xr2text.anatomy import REGIONS
from xr2text.model.generate import GeneratedReports
from xr2text.model.haqt_arr import VisualTokens
from xr2text.model.xr2text import XR2Text


@torch.inference_mode()
def token_attribution(model: XR2Text, generated: GeneratedReports) -> torch.Tensor:
    """[B, T, K + 1], see `attention_by_place`: one pass of the decoder over the finished reports. Raises ValueError
    where the model has no regions (projection "linear")."""
    context = model.decoder_context(generated.visual, generated.finding_logits)
    _, attention = model.decoder.hidden_states_and_attention(context, generated.token_ids)
    return attention_by_place(model, attention, generated.visual)


@torch.inference_mode()
def token_log_probabilities(model: XR2Text, generated: GeneratedReports) -> torch.Tensor:
    """How likely the model has each token after those before it, [B, T] in nats."""
    context = model.decoder_context(generated.visual, generated.finding_logits)
    log_p = model.decoder(context, generated.token_ids).float().log_softmax(-1)
    return log_p.gather(-1, generated.token_ids[..., None])[..., 0]


def attention_by_region(model: XR2Text, attention: torch.Tensor, visual: VisualTokens) -> torch.Tensor:
    """Cross-attention to the whole context [B, T, Q] -> to each region's own tokens [B, T, K]."""
    first, last = model.config.haqt.global_queries, visual.tokens.shape[1]
    return attention[..., first:last].unflatten(-1, (len(REGIONS), -1)).sum(-1)


def attention_by_place(model: XR2Text, attention: torch.Tensor, visual: VisualTokens) -> torch.Tensor:
    """Cross-attention to the whole context [B, T, Q] -> to each region and, last, to the lateral view [B, T, K + 1],
    each row summing to 1.

    Attention to global tokens belongs to no place and is left out. Differentiable.
    """
    if visual.region_maps is None:
        raise ValueError("a model of projection 'linear' has no regions")
    last = visual.tokens.shape[1]
    end = last if visual.lateral is None else last + visual.lateral.tokens.shape[1]
    regions = attention_by_region(model, attention, visual)  # [B, T, K]
    places = torch.cat([regions, attention[..., last:end].sum(-1, keepdim=True)], dim=-1)  # [B, T, K + 1]
    if model.finding_head is not None:
        places = places + attention[..., end:] @ model.finding_head.attribution(visual)
    return places / places.sum(-1, keepdim=True)
