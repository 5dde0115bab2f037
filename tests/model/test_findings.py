"""B = 2 images, 3 global queries, 2 queries per region, D = 32."""

import pytest
import torch

from xr2text.anatomy import REGION_NAMES
from xr2text.config import ConfigError, HaqtConfig, ModelConfig
from xr2text.model.findings import FindingCalibration, FindingHead, FindingTokens
from xr2text.model.haqt_arr import VisualTokens
from xr2text.model.lateral import LateralTokens

K = len(REGION_NAMES)


def make_head(findings, global_queries=3, **haqt):
    """A head in evaluation mode; summaries are 6 wide."""
    config = ModelConfig(width=32, findings=findings, haqt=HaqtConfig(global_queries=global_queries or 1, **haqt))
    head = FindingHead(config, 6).eval()
    head.global_queries = global_queries
    return head


def test_a_finding_is_read_from_the_tokens_of_its_own_regions_alone():
    torch.manual_seed(0)
    head = make_head(["cardiomegaly", "nodule"])
    tokens = torch.randn(2, 3 + K * 2, 32, requires_grad=True)
    visual = VisualTokens(tokens, pooled=torch.randn(2, 6))
    logits = head(visual)
    assert logits.shape == (2, 2)
    for column, regions in ((0, ["heart"]), (1, ["right lung", "left lung"])):
        (gradient,) = torch.autograd.grad(logits[:, column].sum(), tokens, retain_graph=True)
        reached = gradient[:, 3:].unflatten(1, (K, 2)).abs().sum((0, 2, 3)) > 0
        assert [name for name, hit in zip(REGION_NAMES, reached, strict=True) if hit] == regions
        assert gradient[:, :3].abs().sum() == 0
        shares = head.attribution(visual)[:, column, :K]
        torch.testing.assert_close(shares.sum(-1), torch.ones(2))
        assert [name for name, hit in zip(REGION_NAMES, (shares > 0).all(0), strict=True) if hit] == regions


def test_one_token_alone_can_show_a_finding():
    """Asked one by one, a token that shows it is not averaged away by the others of its region."""
    tokens, lung = torch.zeros(1, 4 * K, 32), REGION_NAMES.index("right lung")
    tokens[0, lung * 4, 0] = 8.0
    head = make_head(["right lung nodule"], 0)
    visual = VisualTokens(tokens, pooled=torch.zeros(1, 6))
    torch.nn.init.zeros_(head.classify.weight)
    torch.nn.init.constant_(head.classify.bias, -4.0)
    head.classify.weight.data[0, 0] = 1.0
    assert head.answers(visual)[0][1].item() > 3.9
    assert head.attribution(visual)[0, 0, lung].item() == pytest.approx(1)


def test_the_whole_image_and_the_tokens_answer_alone_and_count_alike():
    head, tokens = make_head(["cardiomegaly", "nodule"]), torch.randn(2, 3 + K * 2, 32)
    visual = VisualTokens(tokens, pooled=torch.randn(2, 6))
    (image, regions), _ = head.answers(visual)
    torch.testing.assert_close(image, head.classify_image(visual.pooled))
    torch.testing.assert_close(regions, head.answers(VisualTokens(tokens, pooled=torch.zeros(2, 6)))[0][1])
    torch.testing.assert_close(head(visual), (image + regions) / 2)


def test_a_lateral_view_counts_where_there_is_one():
    head = make_head(["cardiomegaly", "nodule"], lateral_queries=4)
    tokens, pooled = torch.randn(2, 3 + K * 2, 32), torch.randn(2, 6)
    sides = LateralTokens(torch.randn(2, 4, 32), torch.randn(2, 6), torch.tensor([True, False]), torch.zeros(2, 4, 4))
    frontal, both = VisualTokens(tokens, pooled=pooled), VisualTokens(tokens, pooled=pooled, lateral=sides)
    (image, regions, side), given = head.answers(both)
    torch.testing.assert_close(side[0], head.classify_lateral_image(sides.pooled)[0])
    assert given.tolist() == [[True, True], [True, True], [True, False]]
    torch.testing.assert_close(head(both)[0], (image + regions + side)[0] / 3)
    torch.testing.assert_close(head(both)[1], head(frontal)[1])
    shares = head.attribution(both)
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, 2))
    assert (shares[0, :, K] > 0).all() and (shares[1, :, K] == 0).all()
    torch.testing.assert_close(shares[1], head.attribution(frontal)[1])


def test_an_unknown_finding_is_an_error_that_lists_those_accepted():
    with pytest.raises(ConfigError, match=r"'cardiomegali'; accepted: .*cardiomegaly.*left lung nodule"):
        make_head(["nodule", "cardiomegali"])


def test_a_calibration_says_how_likely_a_finding_is_and_whether_it_is_present():
    calibration = FindingCalibration({"cardiomegaly": [0.5, -1.0]}, {"cardiomegaly": 0.2})
    edge = 2.0 * (torch.tensor(0.2).logit() + 1)
    logits = torch.stack([torch.stack([edge + 0.01, edge]), torch.tensor([torch.inf, -torch.inf])])
    present = calibration.present(logits, ["cardiomegaly", "pneumothorax"])  # 0.5 where no threshold is given
    assert present.tolist() == [[True, False], [True, False]]
    torch.testing.assert_close(calibration.probabilities(edge[None], ["cardiomegaly"]), torch.tensor([0.2]))


def test_the_tokens_of_absent_findings_are_not_read():
    tokens, mask = FindingTokens(3, 32)(torch.tensor([[True, False, True], [False, False, False]]))
    assert tokens.shape == (2, 3, 32) and mask.tolist() == [[1, 0, 1], [0, 0, 0]]
