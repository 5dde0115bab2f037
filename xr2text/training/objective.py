"""The training objective: the model with the named terms of its loss, each times its weight.

Shapes: B batch, T tokens, Q tokens that the decoder reads, D width, K regions, H x W patch grid, F findings, S image
side, C occluded copies.

Under several processes each term is the mean over all their batches, so that two processes and a single one with the
same studies take the same step.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import distributed, nn
from torch.distributed.nn.functional import all_reduce

from xr2text.anatomy import REGIONS
from xr2text.config import LossConfig
from xr2text.model.decoder import Context
from xr2text.model.haqt_arr import VisualTokens
from xr2text.model.lateral import LateralImages
from xr2text.model.xr2text import XR2Text
from xr2text.training import losses
from xr2text.training.losses import Term

FOCAL_GAMMA, FOCAL_WARMUP = 2.0, 0.1  # gamma of the focal loss, and the fraction of all updates over which it rises
TOKENS_HIDDEN, VISUAL_HIDDEN = 0.3, 0.3  # fraction of visual tokens, and of reports that lose all of them
OCCLUDED = 0.125  # fraction of a batch's images that are copied with a region in black

Batch = dict[str, torch.Tensor]  # as `data.dataset.collate` gives it


@dataclass
class ObjectiveOutput:
    """The weighted sum `loss`, its terms `losses` by name without their weights, and the router's `region_weights` [B,
    K] (None without regions)."""

    loss: torch.Tensor
    losses: dict[str, torch.Tensor]
    region_weights: torch.Tensor | None


class Objective(nn.Module):
    """The model and its loss in one module, so that wrappers for several processes see every parameter in use.

    Parts of the model that no term reaches are taken out of training.

    Args:
        weights: of the terms; one of weight 0 is not computed.
    """

    def __init__(self, model: XR2Text, weights: LossConfig):
        super().__init__()
        self.model, self.weights = model, weights
        self.alone = False  # True: the terms are of this process only, and it does not wait for others
        untrained = []
        if not weights.learn_reports:
            untrained += [self.model.decoder, self.model.finding_tokens]
        if not (weights.findings or weights.occlusion):
            untrained.append(self.model.finding_head)
        for part in untrained:
            if part is not None:
                part.requires_grad_(False)

    def forward(self, batch: Batch, progress: float) -> ObjectiveOutput:
        """The loss of a batch. `progress` is the fraction of all updates done."""
        visual = self.model.encode_image(batch["pixel_values"], batch["box"], LateralImages.of(batch))
        terms = (
            self._text_terms(visual, batch, progress)
            | self._region_terms(visual, batch)
            | self._finding_terms(visual, batch)
        )
        means = self._means(terms)
        loss = sum(getattr(self.weights, name) * mean for name, mean in means.items())
        loss = loss + self._unused(visual)
        return ObjectiveOutput(loss, means, visual.region_weights)

    def _text_terms(self, visual: VisualTokens, batch: Batch, progress: float) -> dict[str, Term]:
        """The terms of the reference report: one teacher-forced pass, or two for R-Drop."""
        weights, decoder, labels = self.weights, self.model.decoder, batch["labels"]
        if not weights.learn_reports:
            return {}
        rows = losses.reported_rows(labels)  # only these go through the decoder
        visual, labels = visual.each(lambda values: values[rows]), labels[rows]
        context = self._context(visual, self.model.predict_findings(visual), batch["reported_findings"][rows])
        passes = torch.stack([decoder.hidden_states(context, labels) for _ in range(2 if weights.rdrop else 1)])
        gamma = FOCAL_GAMMA * min(1.0, progress / FOCAL_WARMUP)
        terms = losses.vocabulary_terms(passes, *decoder.output_layer(), labels, weights.label_smoothing, gamma)
        return {name: term for name, term in terms.items() if getattr(weights, name)}

    def _context(self, visual: VisualTokens, logits: torch.Tensor | None, labels: torch.Tensor) -> Context:
        """The decoder's input, with the true findings. In training visual tokens are hidden at random, and all of them
        for some reports. So the decoder learns to say what the finding tokens say, and does not learn reports by
        heart."""
        context = self.model.decoder_context(visual, logits, labels)
        if logits is None or not self.training:
            return context
        kept = torch.rand_like(context.mask) >= TOKENS_HIDDEN
        kept &= torch.rand_like(context.mask[:, :1]) >= VISUAL_HIDDEN
        kept[:, -logits.shape[1] :] = True
        return Context(context.tokens * kept[..., None], context.mask * kept)

    def _region_terms(self, visual: VisualTokens, batch: Batch) -> dict[str, Term]:
        terms, weights, masks = {}, self.weights, batch["segmentation_targets"]
        if weights.load_balance:
            mean = visual.region_weights.float().mean(0)  # [K]
            mean = all_reduce(mean) / self._processes() if self._processes() > 1 else mean
            terms["load_balance"] = losses.load_balance_term(mean)
        if weights.mask_kl:
            terms["mask_kl"] = losses.mask_kl_term(visual.region_maps, masks)
        if weights.soft_iou:
            terms["soft_iou"] = losses.soft_iou_term(visual.region_maps, masks)
        return terms

    def _finding_terms(self, visual: VisualTokens, batch: Batch) -> dict[str, Term]:
        terms = {}
        if self.weights.findings:
            answers = self.model.finding_head.answers(visual)
            terms["findings"] = losses.findings_term(*answers, batch["finding_labels"])
        if self.weights.occlusion:
            terms["occlusion"] = self._occlusion_term(batch, visual.region_maps.detach().float())
        return terms

    def _occlusion_term(self, batch: Batch, maps: torch.Tensor) -> Term:
        """`findings` on copies of some images in which one region is black: its map [B, K, H, W], cut at half its
        maximum."""
        images, device = batch["pixel_values"], maps.device
        count, side = max(1, round(OCCLUDED * len(images))), images.shape[-1]
        rows = torch.randperm(len(images), device=device)[:count]
        regions = torch.randint(len(REGIONS), (count,), device=device)
        maps = F.interpolate(maps[rows], (side, side), mode="bilinear")  # [C, K, S, S]
        cut = maps >= maps.amax((-1, -2), keepdim=True) / 2
        occluder = cut[torch.arange(count, device=device), regions]  # [C, S, S]
        covered = (cut & occluder[:, None]).sum((-1, -2)) / cut.sum((-1, -2))  # [C, K]
        black = self.model.transform.normalise(occluder.new_zeros((side, side), dtype=images.dtype))
        copies = torch.where(occluder[:, None], black, images[rows])  # [C, 3, S, S]
        visual = self.model.encode_image(copies, batch["box"][rows])
        places, usual = batch["finding_regions"][rows], self.model.finding_head.region_mask.isfinite().T  # [C, F, K]
        places = torch.where(places.any(-1, keepdim=True), places, usual)
        labels = losses.occluded_labels(batch["finding_labels"][rows], places, covered)
        return losses.findings_term(*self.model.finding_head.answers(visual), labels)

    def _unused(self, visual: VisualTokens) -> torch.Tensor | float:
        """0, with a gradient of 0 for parameters that this batch does not use: DDP waits for every parameter's
        gradient."""
        reached = 0.0 * visual.tokens.sum()
        if visual.pooled is not None:
            reached = reached + 0.0 * visual.pooled.sum()
        parts: list[nn.Module | None] = [] if visual.lateral is not None else [self.model.lateral]
        if visual.lateral is not None:
            reached = reached + 0.0 * visual.lateral.tokens.sum()
        if self.model.finding_head is not None and (visual.lateral is None or not self.weights.findings):
            parts += [self.model.finding_head.classify_lateral, self.model.finding_head.classify_lateral_image]
        parameters = [parameter for part in parts if part is not None for parameter in part.parameters()]
        return reached + sum(0.0 * parameter.sum() for parameter in parameters if parameter.requires_grad)

    def _means(self, terms: dict[str, Term]) -> dict[str, torch.Tensor]:
        """Each term's sum divided by its count. The count is averaged over processes, since gradients are averaged
        too."""
        counts = torch.stack([count.detach().float() for _, count in terms.values()])
        if self._processes() > 1:
            distributed.all_reduce(counts)
        counts = counts.clamp_min(1) / self._processes()
        return {name: total / count for (name, (total, _)), count in zip(terms.items(), counts, strict=True)}

    def _processes(self) -> int:
        """The number of processes that share the batch."""
        return distributed.get_world_size() if distributed.is_initialized() and not self.alone else 1
