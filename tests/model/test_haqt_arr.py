"""B = 3 images, a 6 x 5 grid, C = 20."""

import pytest
import torch

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.config import HaqtConfig, ModelConfig
from xr2text.model.haqt_arr import MAX_SHIFT, HaqtArr, K, LinearProjection, SpatialPriors, patch_coordinates

GRID, WIDTH = (6, 5), 20
FULL = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(3, -1)


def build(**switches) -> HaqtArr:
    torch.manual_seed(0)
    haqt = HaqtConfig(global_queries=3, region_queries=2, **{"cross_region_layers": 1} | switches)
    return HaqtArr(ModelConfig(width=32, heads=4, haqt=haqt), WIDTH, GRID).eval()


@pytest.fixture
def features():
    return torch.randn(3, GRID[0] * GRID[1], WIDTH, generator=torch.Generator().manual_seed(1))


def peak(maps: torch.Tensor, region: str) -> tuple[float, float]:
    """(x, y) of the map's mass centre, in image fractions."""
    one = maps[0, REGION_NAMES.index(region)]
    y = (torch.arange(one.shape[0]) + 0.5) / one.shape[0]
    x = (torch.arange(one.shape[1]) + 0.5) / one.shape[1]
    return (one.sum(0) * x).sum().item(), (one.sum(1) * y).sum().item()


def test_shapes_and_sums(features):
    visual = build()(features, FULL)
    assert visual.tokens.shape == (3, 3 + K * 2, 32)
    assert visual.region_weights.shape == (3, K)
    assert visual.region_maps.shape == visual.region_priors.shape == (3, K, *GRID)
    for values in (visual.region_weights.sum(1), visual.region_maps.sum((2, 3)), visual.region_priors.sum((2, 3))):
        torch.testing.assert_close(values, torch.ones_like(values))


def test_a_new_prior_is_the_gaussian_of_the_anatomy_table():
    """At initialisation the refinement is zero, so the log density is the design's formula at every patch."""
    priors = SpatialPriors(32, refine=True)
    coordinates, _ = patch_coordinates(GRID, FULL)
    density = priors(torch.randn(3, 32), coordinates)
    for k, region in enumerate(REGIONS):
        expected = 0
        for lobe in region.lobes:
            offset = (coordinates - torch.tensor(lobe.centre)) / torch.tensor(lobe.spread)
            expected = expected + (-0.5 * offset.square().sum(-1)).exp()
        torch.testing.assert_close(density[:, k].exp(), expected)


def test_priors_send_each_region_to_its_place(features):
    maps = build()(features, FULL).region_maps
    assert peak(maps, "right lung")[0] < 0.4 < 0.6 < peak(maps, "left lung")[0]
    assert peak(maps, "diaphragm")[1] > peak(maps, "heart")[1] > peak(maps, "mediastinum")[1]


def test_a_stronger_prior_narrows_the_attention(features):
    model = build()
    weak = model(features, FULL).region_maps
    with torch.no_grad():
        model.prior_strength += 2
    strong = model(features, FULL).region_maps
    assert (strong * strong.clamp_min(1e-12).log()).sum() > (weak * weak.clamp_min(1e-12).log()).sum()


def test_refinement_moves_priors_with_the_image_and_within_bounds(features):
    model = build()
    with torch.no_grad():
        for refiner in model.priors.refiners:
            refiner[-1].weight.normal_(std=50)
    before = build()(features, FULL).region_priors
    after = model(features, FULL).region_priors
    assert (after - before).abs().max() > 0.01
    assert (after[0] - after[1]).abs().max() > 0.01  # another image, another prior
    # On a fine grid the highest point of a prior is its centre, and that moves by no more than the bound.
    fine = 200
    coordinates, _ = patch_coordinates((fine, fine), FULL)
    density = model.priors(model.patch_proj(features).mean(1), coordinates)
    for k, region in enumerate(REGIONS[:6]):
        top = coordinates[0, density[:, k].argmax(-1)]  # [B, 2]
        shift = (top - torch.tensor(region.lobes[0].centre)).abs().max()
        assert shift <= MAX_SHIFT + 1 / fine
        assert shift > 0.01


def test_padding_gets_no_attention(features):
    box = torch.tensor([0.2, 0.0, 0.8, 1.0]).expand(3, -1)
    visual = build()(features, box)
    for maps in (visual.region_maps, visual.region_priors):
        assert maps[..., 0].abs().max() == 0 and maps[..., -1].abs().max() == 0
        assert maps[..., 1:-1].sum((2, 3)).sub(1).abs().max() < 1e-5


def test_what_lies_in_the_padding_changes_nothing(features):
    box = torch.tensor([0.2, 0.0, 0.8, 1.0]).expand(3, -1)
    model = build()
    changed = features.view(3, *GRID, WIDTH).clone()
    changed[:, :, [0, -1]] = 7
    torch.testing.assert_close(model(features, box).tokens, model(changed.flatten(1, 2), box).tokens)


def test_equal_routing_leaves_region_tokens_unchanged(features):
    model = build()
    tokens = torch.randn(3, 3 + K * 2, 32)
    mean_patch = torch.randn(3, 32)
    routed, weights = model._route(tokens, mean_patch)
    torch.testing.assert_close(routed, tokens)  # a new router is equal
    with torch.no_grad():
        model.router[-1].weight.normal_()
    routed, weights = model._route(tokens, mean_patch)
    torch.testing.assert_close(routed[:, :3], tokens[:, :3])
    torch.testing.assert_close(routed[:, 3:5], tokens[:, 3:5] * (K * weights[:, 0])[:, None, None])
    assert (weights[0] - weights[1]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("switch", "module"),
    [("use_spatial_priors", "priors"), ("use_adaptive_routing", "router"), ("cross_region_layers", "cross_region")],
)
def test_each_switch_takes_its_piece_out(features, switch, module):
    whole, without = build(), build(**{switch: 0})
    assert getattr(whole, module) is not None and getattr(without, module) is None
    visual = without(features, FULL)
    assert visual.tokens.shape == (3, 3 + K * 2, 32)
    if switch == "use_spatial_priors":
        assert visual.region_priors is None
    if switch == "use_adaptive_routing":
        torch.testing.assert_close(visual.region_weights, torch.full((3, K), 1 / K))


def test_without_refinement_every_image_has_the_same_prior(features):
    model = build(use_prior_refinement=False)
    assert len(build().priors.refiners) == K and len(model.priors.refiners) == 0
    priors = model(features, FULL).region_priors
    torch.testing.assert_close(priors[0], priors[1])


def test_every_parameter_gets_a_gradient(features):
    model = build()
    visual = model(features, FULL)
    (visual.tokens.square().sum() + visual.region_maps.square().sum()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_linear_projection_has_tokens_and_no_regions(features):
    visual = LinearProjection(ModelConfig(width=32), WIDTH, GRID)(features, FULL)
    assert visual.tokens.shape == (3, 30, 32)
    assert visual.region_maps is None and visual.region_weights is None
