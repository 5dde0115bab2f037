"""HAQT-ARR: hierarchical anatomical query tokens with adaptive region routing.

Shapes: B batch, C encoder width, D token width, H x W patch grid, N = H*W, K regions, G global queries, R queries per
region, Q = G + K*R, A attention heads, L lobes of a region's prior (Gaussians, at most two).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from xr2text.anatomy import REGIONS
from xr2text.config import ModelConfig
from xr2text.model.lateral import LateralTokens

MAX_SHIFT = 0.1  # largest shift of a prior's centre, in image fractions
MAX_LOG_SCALE = math.log(2)  # largest log factor of a prior's spread
K = len(REGIONS)
L = max(len(region.lobes) for region in REGIONS)


@dataclass
class VisualTokens:
    """The output of the projection: visual tokens, and where in the image they come from.

    Attributes:
        tokens: [B, Q, D] (projection "linear": [B, N, D]).
        region_weights: [B, K], the router's, summing to 1.
        region_maps: [B, K, H, W], attention mean over heads and the region's queries; each map sums to 1.
        region_priors: [B, K, H, W], the refined spatial priors, each summing to 1; None without spatial priors.
        pooled: [B, P], the encoder's summary of the frontal view; None where it gives none.
        lateral: of the lateral views; None where no study has one.

    With projection "linear" there are no regions and what is named after them is None.
    """

    tokens: torch.Tensor
    region_weights: torch.Tensor | None = None
    region_maps: torch.Tensor | None = None
    region_priors: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    lateral: LateralTokens | None = None

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "VisualTokens":
        """Applies `change` to every tensor: a choice of rows, another device, another type."""
        parts = {
            name: value if value is None else value.each(change) if name == "lateral" else change(value)
            for name, value in vars(self).items()
        }
        return VisualTokens(**parts)


def patch_coordinates(grid: tuple[int, int], box: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The centre of each patch in image fractions, for a radiograph that lies at `box` [B, 4] on the canvas, see
    `Geometry.box`.

    Returns:
        [B, N, 2] (x, y) as fractions of the radiograph's width and height, and [B, N] bool, False in its padding.
    """
    height, width = grid
    y = (torch.arange(height, device=box.device, dtype=box.dtype) + 0.5) / height
    x = (torch.arange(width, device=box.device, dtype=box.dtype) + 0.5) / width
    centres = torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1)  # [N, 2]
    coordinates = (centres - box[:, None, :2]) / (box[:, None, 2:] - box[:, None, :2])  # [B, N, 2]
    inside = ((coordinates >= 0) & (coordinates <= 1)).all(-1)
    return coordinates, inside


class SpatialPriors(nn.Module):
    """Learnable Gaussians, one or two per region, shifted for each image within bounds."""

    def __init__(self, width: int, refine: bool):
        super().__init__()
        lobes = [region.lobes + region.lobes[:1] * (L - len(region.lobes)) for region in REGIONS]
        self.centre = nn.Parameter(torch.tensor([[lobe.centre for lobe in pair] for pair in lobes]))  # [K, L, 2]
        self.log_spread = nn.Parameter(torch.tensor([[lobe.spread for lobe in pair] for pair in lobes]).log())
        # Added to each lobe's log density: -inf removes the second lobe of regions that have only one.
        present = torch.tensor([[index < len(region.lobes) for index in range(L)] for region in REGIONS])
        self.register_buffer("lobe_mask", torch.where(present, 0.0, -torch.inf), persistent=False)  # [K, L]
        self.refiners = nn.ModuleList()
        if refine:
            for _ in REGIONS:
                last = nn.Linear(width // 4, L * 4)
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
                self.refiners.append(nn.Sequential(nn.Linear(width, width // 4), nn.GELU(), last))

    def forward(self, mean_patch: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
        """The mean patch feature [B, D] and patch centres [B, N, 2] in image fractions -> log densities [B, K, N] up
        to a constant: log of the sum over lobes of exp(-(x-mu_x)^2 / (2 s_x^2) - (y-mu_y)^2 / (2 s_y^2))."""
        centre, log_spread = self.centre[None], self.log_spread[None]  # [1, K, L, 2]
        if self.refiners:
            change = torch.stack([refine(mean_patch) for refine in self.refiners], dim=1)  # [B, K, L*4]
            change = change.view(-1, K, L, 4).float().tanh()
            centre = centre + MAX_SHIFT * change[..., :2]
            log_spread = log_spread + MAX_LOG_SCALE * change[..., 2:]
        offset = coordinates[:, None, None] - centre[:, :, :, None]  # [B, K, L, N, 2]
        log_density = -0.5 * (offset * (-log_spread[:, :, :, None]).exp()).square().sum(-1)  # [B, K, L, N]
        return (log_density + self.lobe_mask[..., None]).logsumexp(dim=2)


class HaqtArr(nn.Module):
    """Patch features [B, N, C] on a grid (H, W) -> visual tokens [B, Q, D], by region queries with spatial priors,
    routing and cross-region layers; `config.haqt` has the switches of its pieces."""

    def __init__(self, config: ModelConfig, encoder_width: int, grid: tuple[int, int]):
        super().__init__()
        width, heads, dropout = config.width, config.heads, config.dropout
        self.config = config = config.haqt
        self.grid, self.heads = grid, heads
        self.patch_proj = nn.Linear(encoder_width, width)
        self.global_queries = nn.Parameter(torch.randn(config.global_queries, width) * 0.02)
        self.region_queries = nn.Parameter(torch.randn(K, config.region_queries, width) * 0.02)
        self.priors = None
        if config.use_spatial_priors:
            self.priors = SpatialPriors(width, refine=config.use_prior_refinement)
            # softplus of this is lambda, the prior's strength in each head; it starts at 1.
            self.prior_strength = nn.Parameter(torch.full((heads,), math.log(math.e - 1)))
        self.query_norm, self.patch_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_proj, self.key_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.value_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.router = None
        if config.use_adaptive_routing:
            last = nn.Linear(width // 2, 1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.router = nn.Sequential(nn.Linear(2 * width, width // 2), nn.GELU(), last)
        self.cross_region = None
        if config.cross_region_layers:
            layer = nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout, F.gelu, batch_first=True, norm_first=True
            )
            self.cross_region = nn.TransformerEncoder(layer, config.cross_region_layers, enable_nested_tensor=False)
        self.token_proj, self.token_norm = nn.Linear(width, width), nn.LayerNorm(width)

    def prior_parameters(self) -> list[nn.Parameter]:
        """Centres, spreads and strengths of the priors. They are few and in image fractions, so they are learned
        slowly."""
        if self.priors is None:
            return []
        return [self.priors.centre, self.priors.log_spread, self.prior_strength]

    def forward(self, features: torch.Tensor, box: torch.Tensor) -> VisualTokens:
        """Encoder features [B, N, C] and the radiograph's box on the canvas [B, 4] -> VisualTokens."""
        coordinates, inside = patch_coordinates(self.grid, box)
        patches = self.patch_proj(features)  # [B, N, D]
        share = inside.to(patches.dtype) / inside.sum(-1, keepdim=True)
        mean_patch = torch.einsum("bn,bnd->bd", share, patches)
        log_prior = self.priors(mean_patch, coordinates) if self.priors is not None else None  # [B, K, N]

        tokens, attention = self._attend(patches, log_prior, inside)  # [B, Q, D], [B, A, Q, N]
        tokens, weights = self._route(tokens, mean_patch)
        if self.cross_region is not None:
            tokens = self.cross_region(tokens)

        of_regions = attention[:, :, self.config.global_queries :].unflatten(2, (K, -1))  # [B, A, K, R, N]
        maps = of_regions.mean(dim=(1, 3)).unflatten(-1, self.grid)
        if log_prior is not None:
            log_prior = log_prior.masked_fill(~inside[:, None], -torch.inf).softmax(-1).unflatten(-1, self.grid)
        return VisualTokens(self.token_norm(self.token_proj(tokens)), weights, maps, log_prior)

    def _attend(
        self, patches: torch.Tensor, log_prior: torch.Tensor | None, inside: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One pre-norm block: all queries attend to the patches, the region queries with their prior as a bias."""
        batch, heads, shared = len(patches), self.heads, self.config.global_queries
        queries = torch.cat([self.global_queries, self.region_queries.flatten(0, 1)]).expand(batch, -1, -1)
        keys = self.patch_norm(patches)
        projected = self.query_proj(self.query_norm(queries)), self.key_proj(keys), self.value_proj(keys)
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in projected)  # [B, A, Q or N, D/A]
        scores = (q @ k.transpose(-2, -1)).float() / math.sqrt(q.shape[-1])  # [B, A, Q, N]
        if log_prior is not None:
            strength = F.softplus(self.prior_strength).view(1, -1, 1, 1)
            bias = log_prior.repeat_interleave(self.config.region_queries, dim=1)  # [B, K*R, N]
            scores = scores + strength * F.pad(bias, (0, 0, shared, 0))[:, None]
        attention = scores.masked_fill(~inside[:, None, None], -torch.inf).softmax(-1)
        mixed = (self.dropout(attention).to(v.dtype) @ v).transpose(1, 2).flatten(2)  # [B, Q, D]
        tokens = queries + self.out_proj(mixed)
        return tokens + self.dropout(self.feed_forward(tokens)), attention

    def _route(self, tokens: torch.Tensor, mean_patch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scales each region's tokens by K times its weight, so that equal routing leaves them unchanged."""
        shared, regional = tokens.tensor_split([self.config.global_queries], dim=1)
        regional = regional.unflatten(1, (K, -1))  # [B, K, R, D]
        if self.router is None:
            return tokens, tokens.new_full((len(tokens), K), 1 / K)
        summary = torch.cat([mean_patch[:, None].expand(-1, K, -1), regional.mean(2)], dim=-1)  # [B, K, 2D]
        weights = self.router(summary).squeeze(-1).float().softmax(-1)  # [B, K]
        regional = regional * (K * weights)[..., None, None].to(regional.dtype)
        return torch.cat([shared, regional.flatten(1, 2)], dim=1), weights


class LinearProjection(nn.Module):
    """For comparison: every patch is a token and there are no regions. Same input and output as `HaqtArr`."""

    def __init__(self, config: ModelConfig, encoder_width: int, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        self.token_proj, self.token_norm = nn.Linear(encoder_width, config.width), nn.LayerNorm(config.width)

    def prior_parameters(self) -> list[nn.Parameter]:
        return []

    def forward(self, features: torch.Tensor, box: torch.Tensor) -> VisualTokens:
        return VisualTokens(self.token_norm(self.token_proj(features)))
