"""What a training minimises: the model with its loss terms, each named, weighted and logged on its own.

Letters: B batch, T tokens, M tokens of the batch that are not padding, D width, V vocabulary, P passes of the decoder
(2 under R-Drop, else 1), K regions, H x W patch grid, F findings, S drawn reports of a study, U their tokens.

Under several processes each term is the one over all their batches: sums are divided by the counts of all, so that two
processes and one with the same studies take the same step.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed
import torch.nn.functional as F
from torch import nn
from torch.distributed.nn.functional import all_gather, all_reduce
from torch.utils.checkpoint import checkpoint

from xr2text.anatomy import REGIONS
from xr2text.config import ConfigError, LossConfig
from xr2text.model.decoder import TextDecoder
from xr2text.model.haqt_arr import VisualTokens
from xr2text.model.xr2text import XR2Text
from xr2text.text.findings.table import CHEXPERT_14, FINDING_NAMES
from xr2text.text.tokenizer import FINDINGS_TOKEN, IGNORED, PAD, decode_report
from xr2text.training.reward import report_rewards

TERMS = (
    "tokens", "focal", "regions", "consistency", "anatomy", "overlap", "grounding", "findings", "hidden", "alignment",
    "rdrop", "reward",
)  # fmt: skip


CUT_SLOPE = 12.0  # of the soft cut of a map, per share of its maximum
COVERED, TOUCHED = 0.7, 0.3  # shares of a region's place in black from which it is not, or not wholly, seen


@dataclass
class ObjectiveOutput:
    """One batch.

    Attributes:
        loss: the sum of `losses`, each times its weight.
        losses: the terms whose weight is above 0, each a scalar.
        region_weights: [B, K] the router's; None without regions.
    """

    loss: torch.Tensor
    losses: dict[str, torch.Tensor]
    region_weights: torch.Tensor | None


class Objective(nn.Module):
    """The model and its loss in one module: what wraps it for several processes then sees every parameter in use.

    Args:
        model: what is trained.
        config: weights; a term of weight 0 is not computed.

    Raises:
        ConfigError: a term is asked for that this model cannot have, or that would change nothing.
    """

    def __init__(self, model: XR2Text, config: LossConfig):
        super().__init__()
        _check(model, config)
        self.model, self.config = model, config
        self.image_embedding = self.text_embedding = None
        if config.alignment:
            width = model.config.haqt.width
            self.image_embedding, self.text_embedding = (nn.Linear(width, width, bias=False) for _ in range(2))
        if config.grounding:
            model.decoder.bart.set_attn_implementation("eager")  # the only one that hands out its weights
        self.first_decoder = None  # as the run started; kept with its states, and no part of a checkpoint
        if config.reward and config.reward_distance:
            self.first_decoder = copy.deepcopy(model.decoder).requires_grad_(False)

    def own_parameters(self) -> list[nn.Parameter]:
        """Those that are not the model's, and no part of a checkpoint."""
        own = [layer for layer in (self.image_embedding, self.text_embedding) if layer is not None]
        return [parameter for layer in own for parameter in layer.parameters()]

    def forward(self, batch: dict[str, torch.Tensor], progress: float) -> ObjectiveOutput:
        """The loss of a batch as `data.dataset.collate` gives it; `progress` is the share of all updates done."""
        config, labels = self.config, batch["labels"]
        visual = self.model.look(batch["pixel_values"], batch["box"])
        finding_logits = None if self.model.finding_head is None else self.model.finding_head(visual.tokens)
        losses: dict[str, torch.Tensor] = {}
        if config.tokens or config.focal or config.rdrop:
            tokens = self.model.tokens_to_write_from(visual.tokens, finding_logits, batch["finding_labels"])
            losses |= self._text_terms(tokens, batch, visual, progress)
        if config.reward:
            losses["reward"] = self._reward_term(self.model.tokens_to_write_from(visual.tokens, finding_logits), labels)
        if config.regions:
            losses["regions"] = region_term(visual.region_weights)
        if config.consistency:
            losses["consistency"] = consistency_term(visual.region_maps, visual.region_priors)
        if config.anatomy:
            losses["anatomy"] = anatomy_term(visual.region_maps, batch["region_targets"])
        if config.overlap:
            losses["overlap"] = overlap_term(visual.region_maps, batch["region_targets"])
        if config.findings:
            losses["findings"] = finding_term(finding_logits, batch["finding_targets"])
        if config.hidden:
            losses["hidden"] = self._hidden_term(batch, visual)
        if config.alignment:
            losses["alignment"] = self._alignment_term(visual, labels)
        loss = sum(getattr(config, name) * term for name, term in losses.items())
        return ObjectiveOutput(loss, losses, visual.region_weights)

    def _text_terms(
        self, tokens: torch.Tensor, batch: dict[str, torch.Tensor], visual: VisualTokens, progress: float
    ) -> dict[str, torch.Tensor]:
        """Those of the reference report, from one pass of the decoder over it, or two."""
        config, decoder, labels = self.config, self.model.decoder, batch["labels"]
        grounding = {}
        if config.grounding:
            first, attention = decoder.hidden_states_and_attention(tokens, labels)
            grounding["grounding"] = grounding_term(self.model.region_shares(attention, visual), batch["token_regions"])
        else:
            first = decoder.hidden_states(tokens, labels)
        passes = [first, decoder.hidden_states(tokens, labels)] if config.rdrop else [first]
        gamma = config.focal_gamma * (min(1.0, progress / config.focal_warmup) if config.focal_warmup else 1.0)
        weight, bias = decoder.output_layer()
        sums = vocabulary_sums(
            torch.stack(passes), weight, bias, labels, config.label_smoothing, gamma, config.vocabulary_chunk
        )
        means = sums / _mean_over_processes((labels != IGNORED).sum()).clamp_min(1)
        named = zip(("tokens", "focal", "rdrop"), means, strict=True)
        return grounding | {name: mean for name, mean in named if getattr(config, name)}

    def _hidden_term(self, batch: dict[str, torch.Tensor], visual: VisualTokens) -> torch.Tensor:
        """Some of the batch's images once more, each with the place of a region of its own in black."""
        images = batch["pixel_values"]
        size = images.shape[-1]
        count = max(1, round(self.config.hidden_share * len(images)))
        rows = torch.randperm(len(images), device=images.device)[:count]
        chosen = torch.randint(len(REGIONS), (count,), device=images.device)
        maps = visual.region_maps[rows].detach().float()  # [C, K, H, W]
        maps = F.interpolate(maps, (size, size), mode="bilinear")
        cut = maps >= maps.amax((-1, -2), keepdim=True) / 2
        hidden = cut[torch.arange(count, device=images.device), chosen]  # [C, S, S]
        black = self.model.transform.normalise(hidden.new_zeros((size, size), dtype=images.dtype))
        seen = self.model.look(torch.where(hidden[:, None], black, images[rows]), batch["box"][rows])
        covered = (cut & hidden[:, None]).sum((-1, -2)) / cut.sum((-1, -2))  # [C, K]
        places = batch["finding_places"][rows]  # [C, F, K]
        usual = self.model.finding_head.region_mask.isfinite().T  # [F, K]
        places = torch.where(places.any(-1, keepdim=True), places, usual)
        labels = hidden_labels(batch["finding_labels"][rows], places, covered)
        return finding_term(self.model.finding_head(seen.tokens), labels)

    def _reward_term(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Visual tokens [B, Q, D] as the model writes from them by itself, and labels [B, T]."""
        decoder = self.model.decoder
        rows, drawn, advantages = self._draw_reports(tokens, labels)  # [N], [N, U], [N]
        hidden = decoder.hidden_states(tokens[rows], drawn)
        chunk = self.config.vocabulary_chunk
        return reward_term(hidden, *decoder.output_layer(), self._chosen(drawn), advantages, chunk)

    @torch.no_grad()
    def _draw_reports(
        self, tokens: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draws S findings sections of each study that has one.

        Returns:
            which of the batch's studies each draw is of [N]; its ids as labels [N, U], `<findings>` first; and how much
            better it scores than the other draws of its study do on average [N]. Without a study that has a section,
            one row without tokens, so that all processes go the same way.
        """
        model, samples = self.model, self.config.reward_samples
        findings_id = model.tokenizer.convert_tokens_to_ids(FINDINGS_TOKEN)
        reported = (labels == findings_id).any(1).nonzero().squeeze(1)
        if not len(reported):
            return reported.new_zeros(1), labels.new_full((1, 2), IGNORED), tokens.new_zeros(1)
        ids = model.draw_findings(tokens[reported], samples)
        texts = [decode_report(model.tokenizer, row).findings for row in ids.tolist()]
        references = [decode_report(model.tokenizer, row).findings for row in labels[reported].clamp_min(PAD).tolist()]
        repeated = [reference for reference in references for _ in range(samples)]
        config = self.config
        findings = FINDING_NAMES if config.reward_all_findings else CHEXPERT_14
        rewards = report_rewards(
            repeated, texts, config.reward_findings, config.reward_recall, findings, config.reward_unsure,
            config.reward_false,
        )  # fmt: skip
        scores = torch.from_numpy(rewards)
        rows, drawn = reported.repeat_interleave(samples), ids.masked_fill(ids == PAD, IGNORED)
        if self.first_decoder is not None:
            chosen = self._chosen(drawn)
            now, first = (
                self._report_log_likelihoods(one, tokens[rows], drawn, chosen)
                for one in (model.decoder, self.first_decoder)
            )
            scores -= config.reward_distance * (now - first).double().cpu()
        scores = scores.view(-1, samples)
        advantages = (scores - scores.mean(1, keepdim=True)) * samples / (samples - 1)
        return rows, drawn, advantages.flatten().to(tokens)

    def _chosen(self, drawn: torch.Tensor) -> torch.Tensor:
        """Labels [N, U] of draws, without what the model did not choose itself."""
        chosen = drawn.clone()
        chosen[:, 0] = IGNORED  # <findings> is given
        chosen[:, self.model.generation.findings_tokens :] = IGNORED  # where a section that is too long is closed
        return chosen

    def _report_log_likelihoods(
        self, decoder: TextDecoder, tokens: torch.Tensor, drawn: torch.Tensor, chosen: torch.Tensor
    ) -> torch.Tensor:
        """How likely the decoder has the chosen tokens of each draw [N, U] from `tokens` [N, Q, D]: [N] in nats."""
        training = decoder.training
        decoder.eval()
        states, known = decoder.hidden_states(tokens, drawn).flatten(0, 1), known_tokens(chosen)
        decoder.train(training)
        per_token = tokens.new_zeros(chosen.numel(), dtype=torch.float32)
        for places in known.split(self.config.vocabulary_chunk):
            targets = chosen.flatten()[places]
            per_token[places] = _log_likelihoods(states[places], *decoder.output_layer(), targets)
        return per_token.view_as(chosen).sum(1)

    def _alignment_term(self, visual: VisualTokens, labels: torch.Tensor) -> torch.Tensor:
        # The tokens' embeddings, not the decoder's states: these have looked at the image, and would give it away.
        known = (labels != IGNORED)[..., None]
        words = self.model.decoder.bart.model.shared(labels.masked_fill(labels == IGNORED, PAD))  # [B, T, D]
        text = (words * known).sum(1) / known.sum(1).clamp_min(1)
        return alignment_term(
            self.image_embedding(visual.tokens.mean(1)), self.text_embedding(text), self.config.alignment_temperature
        )


def vocabulary_sums(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    labels: torch.Tensor,
    label_smoothing: float,
    gamma: float,
    chunk: int,
) -> torch.Tensor:
    """The three terms over the vocabulary, from one set of logits that is never held whole.

    Logits of `chunk` tokens at a time are computed, used and dropped, and computed again in the backward pass.

    Args:
        hidden: [P, B, T, D] the decoder's last states, of one pass or of two under different dropout.
        weight, bias: [V, D] and [V], the output layer.
        labels: [B, T], IGNORED where padded.

    Returns:
        [3] float32 sums over the M tokens, mean over passes: cross-entropy with label smoothing, as F.cross_entropy has
        it; focal loss (1 - p)^gamma * cross-entropy (Lin et al., ICCV 2017); and the symmetric Kullback-Leibler
        divergence of the two passes, half the sum of both directions (R-Drop, Wu et al., NeurIPS 2021), 0 for one pass.
    """
    known = known_tokens(labels)
    states, targets = hidden.flatten(1, 2)[:, known], labels.flatten()[known]  # [P, M, D], [M]
    total = states.new_zeros(3, dtype=torch.float32) + 0.0 * states.float().sum()  # a graph for a batch without tokens
    for start in range(0, len(targets), chunk):
        part = slice(start, start + chunk)
        total = total + checkpoint(
            _chunk_sums, states[:, part], weight, bias, targets[part], label_smoothing, gamma, use_reentrant=False
        )
    return total


def reward_term(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    written: torch.Tensor,
    advantages: torch.Tensor,
    chunk: int,
) -> torch.Tensor:
    """The policy gradient of self-critical sequence training (Rennie et al., CVPR 2017), each draw measured against
    the others of its study (Luo, arXiv:2003.09971): minus the mean over drawn tokens of advantage * log p. That the
    draws' rules (see `decoder.SectionRules`) forbid some tokens is not part of p.

    Args:
        hidden: [N, U, D] the decoder's last states on the drawn reports.
        weight, bias: [V, D] and [V], the output layer; logits of `chunk` tokens at a time are held.
        written: [N, U] their ids, IGNORED where padded.
        advantages: [N], of each whole report.
    """
    known = known_tokens(written)
    states, targets = hidden.flatten(0, 1)[known], written.flatten()[known]  # [M, D], [M]
    factors = advantages.float()[:, None].expand(written.shape).flatten()[known]
    total = states.new_zeros((), dtype=torch.float32) + 0.0 * states.float().sum()
    for start in range(0, len(targets), chunk):
        part = slice(start, start + chunk)
        log_p = checkpoint(_log_likelihoods, states[part], weight, bias, targets[part], use_reentrant=False)
        total = total - (factors[part] * log_p).sum()
    return total / _mean_over_processes(torch.tensor(float(len(targets)), device=total.device)).clamp_min(1)


def _log_likelihoods(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    logits = F.linear(states, weight, bias).float()
    return -F.cross_entropy(logits, targets, reduction="none")


def longest_draws(tokens: torch.Tensor, samples: int, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `Objective._draw_reports` gives at most, for a step whose memory is asked for."""
    rows = torch.arange(len(tokens), device=tokens.device).repeat_interleave(samples)
    return rows, rows.new_full((len(rows), length), PAD), tokens.new_zeros(len(rows))


def known_tokens(labels: torch.Tensor) -> torch.Tensor:
    """[M] places in the flattened labels [B*T] that are not padding."""
    return (labels.flatten() != IGNORED).nonzero().squeeze(1)


def _chunk_sums(
    states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float,
    gamma: float,
) -> torch.Tensor:
    log_p = F.linear(states, weight, bias).float().log_softmax(-1)  # [P, m, V]
    right = log_p.gather(-1, targets.expand(len(log_p), -1)[..., None]).squeeze(-1)  # [P, m]
    smoothed = (1 - label_smoothing) * right + label_smoothing * log_p.mean(-1)
    focal = (1 - right.exp()).clamp_min(1e-8) ** gamma * right
    divergence = right.new_zeros(())
    if len(log_p) == 2:
        divergence = 0.5 * ((log_p[0].exp() - log_p[1].exp()) * (log_p[0] - log_p[1])).sum()
    return torch.stack([-smoothed.sum() / len(log_p), -focal.sum() / len(log_p), divergence])


def region_term(weights: torch.Tensor) -> torch.Tensor:
    """Keeps the router from forgetting regions: KL(mean routing || uniform), over all images of all processes.

    An image may rest on one region alone as long as others rest on others; a router that always takes the same one pays
    up to log K.

    Args:
        weights: [B, K], each row summing to 1.
    """
    mean = weights.float().mean(0)
    if _several_processes():
        mean = all_reduce(mean) / torch.distributed.get_world_size()
    return (mean * (mean * len(mean)).clamp_min(1e-12).log()).sum()


def consistency_term(maps: torch.Tensor, priors: torch.Tensor) -> torch.Tensor:
    """Keeps each region's attention with its refined prior: KL(attention || prior), mean over images and regions.

    The prior is the target and gets no gradient as such, so that it is not widened to meet a stray attention.

    Args:
        maps, priors: [B, K, H, W], each map summing to 1; where a prior is 0, in the padding, attention is 0 too.
    """
    maps, priors = maps.float(), priors.detach().float()
    tiny = torch.finfo(torch.float32).tiny
    return (maps * (maps.clamp_min(tiny).log() - priors.clamp_min(tiny).log())).sum((-1, -2)).mean()


def anatomy_term(maps: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Draws each region's attention over its outlined place: KL(target || attention), mean over outlined regions.

    Args:
        maps: [B, K, H, W], each summing to 1.
        targets: the same; NaN where a region is not outlined.
    """
    known = ~targets.isnan().any(-1).any(-1)  # [B, K]
    targets = targets.nan_to_num().float()
    tiny = torch.finfo(torch.float32).tiny
    distance = (targets * (targets.clamp_min(tiny).log() - maps.float().clamp_min(1e-9).log())).sum((-1, -2))
    return (distance * known).sum() / _mean_over_processes(known.sum()).clamp_min(1)


def overlap_term(maps: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cuts each region's attention at half its maximum, softly, and has it cover the outlined place: 1 - intersection
    over union (Rahman and Wang, ISVC 2016), mean over outlined regions. What is shown and measured is this cut.

    Args:
        maps, targets: as in `anatomy_term`.
    """
    known = ~targets.isnan().any(-1).any(-1)  # [B, K]
    cut, covered = maps.float().flatten(2), targets.nan_to_num().float().flatten(2)  # [B, K, N]
    cut = (CUT_SLOPE * (cut / cut.amax(-1, keepdim=True) - 0.5)).sigmoid()
    covered = covered / covered.amax(-1, keepdim=True).clamp_min(1e-9)
    both = (cut * covered).sum(-1)
    missed = 1 - both / (cut.sum(-1) + covered.sum(-1) - both)
    return (missed * known).sum() / _mean_over_processes(known.sum()).clamp_min(1)


def grounding_term(shares: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Has a sentence written from the regions that it speaks of: minus the log of their share, mean over its tokens.

    Args:
        shares: [B, T, K] of the attention behind each token, each row summing to 1.
        regions: [B, T, K] True for the regions that the token's sentence speaks of; no True where it speaks of none.
    """
    known = regions.any(-1)  # [B, T]
    named = (shares.float() * regions).sum(-1).clamp_min(1e-6)
    return -(named.log() * known).sum() / _mean_over_processes(known.sum()).clamp_min(1)


def finding_term(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, mean over the findings that are known.

    Args:
        logits: [B, F].
        labels: [B, F] 1 present, 0 absent, or a probability; NaN not known.
    """
    known = ~labels.isnan()
    total = F.binary_cross_entropy_with_logits(
        logits.float(), labels.nan_to_num(), weight=known.float(), reduction="sum"
    )
    return total / _mean_over_processes(known.sum()).clamp_min(1)


def hidden_labels(labels: torch.Tensor, places: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """What is to be seen of findings where a part of the image is black: one that lies in regions which are black is
    not, and of one that lies in such a region and in others nothing is known.

    Args:
        labels: [B, F] 1 present, 0 absent, NaN not known.
        places: [B, F, K] bool, the regions that each finding lies in.
        covered: [B, K] share of each region that is black.
    """
    gone = (~places | (covered >= COVERED)[:, None]).all(-1)
    touched = (places & (covered >= TOUCHED)[:, None]).any(-1)
    present = labels == 1
    labels = labels.masked_fill(present & touched, torch.nan)
    return labels.masked_fill(present & gone, 0.0)


def alignment_term(images: torch.Tensor, texts: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE in both directions (CLIP, Radford et al., ICML 2021): each image knows its report among all reports.

    Args:
        images, texts: [B, D], row by row of one study; those of other processes are gathered.
    """
    images, texts = (F.normalize(one.float(), dim=-1) for one in (images, texts))
    all_images, all_texts, first = images, texts, 0
    if _several_processes():
        all_images, all_texts = (torch.cat(all_gather(one.contiguous())) for one in (images, texts))
        first = torch.distributed.get_rank() * len(images)
    own = torch.arange(first, first + len(images), device=images.device)
    towards_text = F.cross_entropy(images @ all_texts.T / temperature, own)
    return 0.5 * (towards_text + F.cross_entropy(texts @ all_images.T / temperature, own))


_alone = False


@contextmanager
def on_this_process_alone() -> Iterator[None]:
    """Within, the terms are those of this process's batch: nothing waits for other processes, which may have failed."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def _several_processes() -> bool:
    return not _alone and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


def _mean_over_processes(count: torch.Tensor) -> torch.Tensor:
    """A count's mean over processes: what a sum is divided by where gradients are averaged over them."""
    count = count.detach().float()
    if _several_processes():
        torch.distributed.all_reduce(count)
        count = count / torch.distributed.get_world_size()
    return count


def _check(model: XR2Text, config: LossConfig) -> None:
    haqt, where = model.config.haqt, "training.losses"
    regional = haqt.projection == "haqt_arr"
    needs = {
        "regions": (regional and haqt.use_adaptive_routing, "the router (model.haqt.use_adaptive_routing)"),
        "consistency": (regional and haqt.use_spatial_priors, "spatial priors (model.haqt.use_spatial_priors)"),
        "anatomy": (regional, "regions (model.haqt.projection: haqt_arr)"),
        "overlap": (regional, "regions (model.haqt.projection: haqt_arr)"),
        "grounding": (regional, "regions (model.haqt.projection: haqt_arr)"),
        "findings": (model.finding_head is not None, "findings to predict (model.findings)"),
        "hidden": (regional and model.finding_head is not None, "regions and findings to predict (model.findings)"),
    }
    for name, (there, what) in needs.items():
        if getattr(config, name) and not there:
            raise ConfigError(f"{where}.{name} has a weight, but this model has no {what}")
    if config.grounding and not (config.tokens or config.focal or config.rdrop):
        raise ConfigError(f"{where}.grounding has a weight: it needs one of tokens, focal and rdrop beside it")
    if config.rdrop and not model.config.decoder.dropout:
        raise ConfigError(f"{where}.rdrop has a weight, but model.decoder.dropout is 0: both passes would be the same")
