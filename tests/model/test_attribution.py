import pytest
import torch

from xr2text.anatomy import REGION_NAMES
from xr2text.model.attribution import attention_by_place, read_tokens, sentence_attribution


@pytest.mark.parametrize("findings", [(), ("cardiomegaly",)])
def test_each_token_is_attributed_to_places(make_tiny, batch, findings):
    checkpoint = make_tiny(findings)
    generated = checkpoint.generator.generate(*batch)
    weights, _ = read_tokens(checkpoint.model, generated)
    assert weights.shape == (2, generated.token_ids.shape[1], 8) and (weights[..., 7] == 0).all()  # no lateral view
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))


@pytest.mark.parametrize("findings", [(), ("cardiomegaly",)])
def test_attention_to_a_finding_is_that_of_the_region_it_is_seen_in(make_tiny, batch, findings):
    model = make_tiny(findings).model
    visual = model.encode_image(*batch)
    heart, first = REGION_NAMES.index("heart"), model.config.haqt.global_queries
    places = {first + 2 * heart + 1: heart, first: 0, 0: None}  # the heart's second token, the right lung's first
    if findings:
        places[first + 2 * len(REGION_NAMES)] = heart  # of the finding
    for place, region in places.items():
        attention = torch.full((2, 5, first + 14 + len(findings)), 1e-6)
        attention[..., place] = 1.0
        weights = attention_by_place(model, attention, visual)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5))
        assert (weights.argmax(-1) == region).all() if region is not None else (weights < 0.9).all()


def test_a_sentence_is_written_from_where_the_head_sees_its_findings(make_tiny, batch):
    checkpoint = make_tiny(("cardiomegaly", "lung opacity"))
    generated = checkpoint.generator.generate(*batch)
    seen = checkpoint.model.finding_head.attribution(generated.visual)  # [B, F, K + 1]
    texts = (
        "The heart is enlarged and the lungs are clear.",
        "The lungs are clear. ",
        "Normal heart, clear lungs.",
        "Fine.",
    )
    report, (of_tokens, _) = [("findings", text, [1, 2]) for text in texts], read_tokens(checkpoint.model, generated)
    written = sentence_attribution(checkpoint.model, generated.visual, of_tokens, [report, report])
    for row, places in enumerate(written):
        expected = [seen[row, 0], seen[row, 1], seen[row].mean(0)]  # what is asserted alone; all that is denied
        expected.append(of_tokens[row, [1, 2]].mean(0))
        torch.testing.assert_close(torch.stack(places), torch.stack(expected))


def test_log_probabilities_are_those_of_the_tokens(make_tiny, batch):
    checkpoint = make_tiny(("cardiomegaly",))
    generated = checkpoint.generator.generate(*batch)
    _, log_p = read_tokens(checkpoint.model, generated)
    expected = checkpoint.model(*batch, generated.token_ids).logits.log_softmax(-1)
    for row, token in ((0, 3), (1, 5)):
        torch.testing.assert_close(log_p[row, token], expected[row, token, generated.token_ids[row, token]])


def test_a_linear_projection_has_no_regions(make_tiny, batch):
    checkpoint = make_tiny(projection="linear")
    generated = checkpoint.generator.generate(*batch)
    assert len(generated.reports) == 2 and generated.visual.region_maps is None
