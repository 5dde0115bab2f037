"""The lateral view: its features become a few tokens, which stand beside those of the frontal view's regions.

Shapes: B studies, M of them with a lateral radiograph, S image side, C encoder width, P width of its summary, D token
width, H x W patch grid, N = H*W, L lateral queries.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from xr2text.config import ModelConfig


@dataclass
class LateralImages:
    """The lateral radiographs of a batch; some of its studies may have none.

    Attributes:
        pixel_values: [M, 3, S, S].
        box: [M, 4], each radiograph's place on its canvas, see `Geometry.box`.
        rows: [M] which of the studies each is of.
    """

    pixel_values: torch.Tensor
    box: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def of(cls, batch: dict[str, torch.Tensor]) -> "LateralImages | None":
        """Takes them from a batch of `data.dataset.collate`; None where it has none."""
        if "lateral_pixel_values" not in batch:
            return None
        return cls(batch["lateral_pixel_values"], batch["lateral_box"], batch["lateral_rows"])

    def to(self, device: torch.device) -> "LateralImages":
        return LateralImages(self.pixel_values.to(device), self.box.to(device), self.rows.to(device))


@dataclass
class LateralTokens:
    """The encoded lateral views of a batch.

    Attributes:
        tokens: [B, L, D]; zero where a study has no lateral view.
        pooled: [B, P], the encoder's summaries; zero as well; None where it gives none.
        present: [B] bool, the studies with a lateral view.
        map: [B, H, W], the attention's mean over heads and queries; it sums to 1, or to 0 without a view.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None
    present: torch.Tensor
    map: torch.Tensor

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "LateralTokens":
        """Applies `change` to every tensor."""
        return LateralTokens(**{name: value if value is None else change(value) for name, value in vars(self).items()})


class LateralQueries(nn.Module):
    """Learnable queries that attend to a lateral view's patches, without priors: one pre-norm attention block."""

    def __init__(self, config: ModelConfig, encoder_width: int, grid: tuple[int, int]):
        super().__init__()
        width, count = config.width, config.haqt.lateral_queries
        self.grid = grid
        self.patch_proj = nn.Linear(encoder_width, width)
        self.queries = nn.Parameter(torch.randn(count, width) * 0.02)
        self.query_norm, self.patch_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, config.heads, config.dropout, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout, self.token_norm = nn.Dropout(config.dropout), nn.LayerNorm(width)

    def forward(
        self,
        features: torch.Tensor,
        inside: torch.Tensor,
        pooled: torch.Tensor | None,
        rows: torch.Tensor,
        studies: int,
    ) -> LateralTokens:
        """Encodes the lateral views: features [M, N, C], which patches lie in the radiograph [M, N] bool, and summaries
        [M, P]. `rows` as in `LateralImages`. Returns tokens for all B `studies`."""
        patches = self.patch_norm(self.patch_proj(features))  # [M, N, D]
        queries = self.queries.expand(len(features), -1, -1)
        mixed, attention = self.attention(self.query_norm(queries), patches, patches, key_padding_mask=~inside)
        tokens = queries + self.dropout(mixed)
        tokens = self.token_norm(tokens + self.dropout(self.feed_forward(tokens)))  # [M, L, D]
        maps = attention.mean(1).unflatten(-1, self.grid)  # [M, H, W]
        present = torch.zeros(studies, dtype=torch.bool, device=rows.device).index_fill(0, rows, True)

        def spread(values: torch.Tensor) -> torch.Tensor:
            """[M, ...] -> [B, ...], zero where a study has no lateral view."""
            return values.new_zeros(studies, *values.shape[1:]).index_copy(0, rows, values)

        return LateralTokens(spread(tokens), None if pooled is None else spread(pooled), present, spread(maps))
