"""Attribution: the regions that each token and each sentence of a report was written from.

The decoder's cross-attention says how much a token was written from each region's tokens, and from each finding; a
finding's part is passed on to the regions that the finding was read from. A sentence says what the finding head sees of
the findings that it names, so it was written from where the head looks for these.

Shapes: B batch, T report tokens, V vocabulary, Q context tokens (G global, K*R of regions, L of the lateral view, F
findings), K regions.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from xr2text.anatomy import REGIONS
from xr2text.model.generate import GeneratedReports
from xr2text.model.haqt_arr import VisualTokens
from xr2text.model.xr2text import XR2Text
from xr2text.text.findings.labeler import ABSENT, find_mentions

LocatedSentence = tuple[str, str, list[int]]  # section, text, places of its tokens, see `locate_sentences`


@torch.inference_mode()
def sentence_attribution(
    model: XR2Text, visual: VisualTokens, of_tokens: torch.Tensor, sentences: Iterable[Iterable[LocatedSentence]]
) -> list[list[torch.Tensor]]:
    """Where each sentence of each report was written from, [K + 1]: the regions and, last, the lateral view. For a
    sentence that names findings, this is where the finding head sees those that it asserts, or, if it asserts none,
    those that it denies. For any other sentence it is the mean of its tokens' [B, T, K + 1]."""
    names = model.config.findings
    of_findings = model.finding_head.attribution(visual).cpu() if names else None  # [B, F, K + 1]

    def attribute(row: int, text: str, tokens: list[int]) -> torch.Tensor:
        mentions = [mention for mention in find_mentions(text) if mention.finding in names]
        named = [mention for mention in mentions if mention.status != ABSENT] or mentions
        if named:
            return of_findings[row, [names.index(mention.finding) for mention in named]].mean(0)
        return of_tokens[row, tokens].mean(0)

    return [[attribute(row, text, tokens) for _, text, tokens in report] for row, report in enumerate(sentences)]


@torch.inference_mode()
def read_tokens(model: XR2Text, generated: GeneratedReports) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads the finished reports in one teacher-forced pass: where each token was written from, [B, T, K + 1], see
    `attention_by_place`, and its log-probability after the tokens before it, [B, T] in nats."""
    context = model.decoder_context(generated.visual, generated.finding_logits)
    states, attention = model.decoder.hidden_states_and_attention(context, generated.token_ids)
    log_p = F.linear(states, *model.decoder.output_layer()).float().log_softmax(-1)  # [B, T, V]
    log_p = log_p.gather(-1, generated.token_ids[..., None])[..., 0]
    return attention_by_place(model, attention, generated.visual).cpu(), log_p.cpu()


def attention_by_place(model: XR2Text, attention: torch.Tensor, visual: VisualTokens) -> torch.Tensor:
    """Cross-attention to the whole context [B, T, Q] -> to each region and, last, to the lateral view [B, T, K + 1],
    each row summing to 1.

    Attention to global tokens belongs to no place and is left out.
    """
    first, last = model.config.haqt.global_queries, visual.tokens.shape[1]
    end = last if visual.lateral is None else last + visual.lateral.tokens.shape[1]
    regions = attention[..., first:last].unflatten(-1, (len(REGIONS), -1)).sum(-1)  # [B, T, K]
    places = torch.cat([regions, attention[..., last:end].sum(-1, keepdim=True)], dim=-1)  # [B, T, K + 1]
    if model.finding_head is not None:
        places = places + attention[..., end:] @ model.finding_head.attribution(visual)
    return places / places.sum(-1, keepdim=True)
