import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from xr2text.anatomy import REGION_NAMES
from xr2text.config import ConfigError, LossConfig
from xr2text.text.sections import ReportText
from xr2text.text.tokenizer import IGNORED, PAD, encode_report, pad_labels
from xr2text.training.losses import (
    TERMS,
    Objective,
    alignment_term,
    anatomy_term,
    consistency_term,
    finding_term,
    grounding_term,
    hidden_labels,
    overlap_term,
    region_term,
    reward_term,
    vocabulary_sums,
)

P, B, T, D, V = 2, 3, 7, 8, 50


@pytest.fixture
def states():
    """Hidden states of two passes, an output layer, and labels with padding."""
    torch.manual_seed(0)
    labels = torch.randint(0, V, (B, T))
    labels[0, 4:] = IGNORED
    return torch.randn(P, B, T, D, requires_grad=True), torch.randn(V, D, requires_grad=True), torch.randn(V), labels


def plain_sums(hidden, weight, bias, labels, smoothing, gamma):
    """The same by whole logits and torch's own functions."""
    known = labels != IGNORED
    logits = [F.linear(one[known], weight, bias) for one in hidden]
    smoothed = sum(F.cross_entropy(one, labels[known], label_smoothing=smoothing, reduction="sum") for one in logits)
    nll = [F.cross_entropy(one, labels[known], reduction="none") for one in logits]
    focal = sum(((1 - (-one).exp()) ** gamma * one).sum() for one in nll)
    p, q = (one.log_softmax(-1) for one in logits)
    both = F.kl_div(q, p, log_target=True, reduction="sum") + F.kl_div(p, q, log_target=True, reduction="sum")
    return torch.stack([smoothed / 2, focal / 2, both / 2])


@pytest.mark.parametrize("chunk", [1, 5, 1000])
@pytest.mark.parametrize(("smoothing", "gamma"), [(0.0, 0.0), (0.1, 2.0)])
def test_chunks_give_the_values_and_gradients_of_whole_logits(states, chunk, smoothing, gamma):
    hidden, weight, bias, labels = states
    factors = torch.tensor([1.0, 0.7, 0.3])
    for function, extra in ((vocabulary_sums, (chunk,)), (plain_sums, ())):
        sums = function(hidden, weight, bias, labels, smoothing, gamma, *extra)
        gradients = torch.autograd.grad((sums * factors).sum(), (hidden, weight))
        if function is vocabulary_sums:
            ours = (sums, *gradients)
    for own, expected in zip(ours, (sums, *gradients), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)


def test_focal_with_gamma_zero_is_cross_entropy_and_equal_passes_do_not_diverge(states):
    hidden, weight, bias, labels = states
    same = hidden[:1].expand(2, -1, -1, -1)
    tokens, focal, rdrop = vocabulary_sums(same, weight, bias, labels, 0.0, 0.0, 4)
    torch.testing.assert_close(tokens, focal)
    assert rdrop == 0
    assert vocabulary_sums(hidden[:1], weight, bias, labels, 0.0, 0.0, 4)[2] == 0  # one pass


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation gave."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else (result,):
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return result


def test_logits_of_all_tokens_are_never_held():
    labels = torch.randint(0, 1000, (4, 32))
    hidden, weight = torch.randn(2, 4, 32, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True)
    with LargestTensor() as largest:
        vocabulary_sums(hidden, weight, torch.zeros(1000), labels, 0.1, 2.0, 8).sum().backward()
    assert largest.elements == 2 * 8 * 1000  # two passes of a chunk of 8 tokens, not 2 x 128 x 1,000


def test_the_router_may_choose_for_each_image_but_not_forget_a_region():
    assert region_term(torch.eye(7)).item() == pytest.approx(0, abs=1e-6)  # each image its own region
    assert region_term(torch.full((4, 7), 1 / 7)).item() == pytest.approx(0, abs=1e-6)
    assert region_term(torch.eye(7)[:1].expand(5, -1)).item() == pytest.approx(math.log(7))  # all the same one
    logits = torch.tensor([[3.0, 0, 0, 0, 0, 0, 0]] * 2, requires_grad=True)
    region_term(logits.softmax(-1)).backward()
    assert (logits.grad[:, 0] > 0).all() and (logits.grad[:, 1:] < 0).all()  # down for the favourite, up for the rest


def test_attention_is_drawn_to_its_prior_and_the_prior_is_left_alone():
    prior = torch.tensor([0.7, 0.3, 0.0]).view(1, 1, 1, 3).requires_grad_()
    scores = torch.tensor([0.0, 0.0, -torch.inf]).view(1, 1, 1, 3).requires_grad_()
    term = consistency_term(scores.softmax(-1), prior)
    assert term.item() == pytest.approx(0.5 * math.log(0.5 / 0.7) + 0.5 * math.log(0.5 / 0.3), abs=1e-6)
    term.backward()
    assert scores.grad.flatten()[0] < 0 < scores.grad.flatten()[1] and prior.grad is None
    assert torch.isfinite(scores.grad).all()
    assert consistency_term(prior, prior).item() == pytest.approx(0, abs=1e-7)


def test_attention_is_drawn_over_the_outlined_place_and_unknown_ones_count_for_nothing():
    targets = torch.tensor([0.5, 0.5, 0.0, math.nan, math.nan, math.nan]).view(1, 2, 1, 3)
    scores = torch.zeros(1, 2, 1, 3, requires_grad=True)
    term = anatomy_term(scores.softmax(-1), targets)
    assert term.item() == pytest.approx(math.log(0.5 / (1 / 3)), abs=1e-5)
    term.backward()
    assert (scores.grad[0, 0, 0, :2] < 0).all() and scores.grad[0, 0, 0, 2] > 0
    assert (scores.grad[0, 1] == 0).all()
    assert anatomy_term(scores.softmax(-1), torch.full_like(targets, math.nan)) == 0


def test_grounding_reaches_the_model_beside_the_tokens(make_tiny, batch):
    model = make_tiny(findings={"cardiomegaly": ["heart"]}, finding_tokens=True)
    output = Objective(model, LossConfig(tokens=1, grounding=2)).train()(batch, 0.5)
    assert output.loss.item() == pytest.approx((output.losses["tokens"] + 2 * output.losses["grounding"]).item())
    queries = model.projection.region_queries
    (gradient,) = torch.autograd.grad(output.losses["grounding"], queries)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_a_sentence_is_drawn_to_the_regions_that_it_speaks_of():
    shares = torch.tensor([[[0.5, 0.5, 0.0], [0.2, 0.2, 0.6], [0.1, 0.1, 0.8]]], requires_grad=True)
    regions = torch.tensor([[[True, True, False], [False, False, True], [False, False, False]]])
    term = grounding_term(shares, regions)
    assert term.item() == pytest.approx(-math.log(0.6) / 2)  # the first is all there, the third speaks of none
    (gradient,) = torch.autograd.grad(term, shares)
    assert gradient[0, 1, 2] < 0 and not gradient[0, 1, :2].any() and not gradient[0, 2].any()
    assert grounding_term(shares, torch.zeros_like(regions)) == 0


def test_the_cut_of_a_map_is_to_cover_the_outlined_place():
    mask = torch.zeros(1, 2, 6, 6)
    mask[..., 1:4, 1:4] = 1 / 9
    targets = mask.clone()
    targets[:, 1] = math.nan
    flat = (mask + 1e-3).requires_grad_()
    peaked = flat.detach().clone()
    peaked[..., 2, 2] *= 3
    assert overlap_term(flat, targets) < 0.05 < 0.6 < overlap_term(peaked, targets)
    assert overlap_term(flat, targets) == overlap_term(flat[:, :1], targets[:, :1])
    (gradient,) = torch.autograd.grad(overlap_term(peaked.requires_grad_(), targets), peaked)
    assert gradient[0, 0, 2, 2] > 0 > gradient[0, 0, 1, 1] and not gradient[0, 1].any()


def test_unknown_findings_count_for_nothing():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    labels = torch.tensor([[1.0, math.nan], [0.0, math.nan]])
    term = finding_term(logits, labels)
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], labels[:, 0])
    torch.testing.assert_close(term, expected)
    term.backward()
    assert (logits.grad[:, 1] == 0).all()
    assert finding_term(logits, torch.full((2, 2), math.nan)) == 0


def test_a_finding_is_not_seen_where_all_its_regions_are_black():
    heart, lungs, right = (torch.tensor([name in own for name in REGION_NAMES]) for own in (
        ["heart"], ["right lung", "left lung"], ["right lung"],
    ))  # fmt: skip
    places = torch.stack([heart, lungs, right, heart])[None]
    labels = torch.tensor([[1.0, 1.0, 1.0, math.nan]])
    black = {name: torch.tensor([[float(one == name) for one in REGION_NAMES]]) for name in ("heart", "right lung")}
    torch.testing.assert_close(
        hidden_labels(labels, places, black["heart"]), torch.tensor([[0.0, 1, 1, math.nan]]), equal_nan=True
    )
    torch.testing.assert_close(
        hidden_labels(labels, places, black["right lung"]), torch.tensor([[1.0, math.nan, 0, math.nan]]), equal_nan=True
    )
    half = hidden_labels(labels, places, 0.5 * black["heart"])  # partly seen: nothing is known
    torch.testing.assert_close(half, torch.tensor([[math.nan, 1, 1, math.nan]]), equal_nan=True)
    assert not hidden_labels(torch.zeros(1, 4), places, black["heart"]).any()  # what is absent stays so


def test_copies_with_a_region_in_black_are_read_again(make_tiny, batch, monkeypatch):
    model = make_tiny(findings={"cardiomegaly": ["heart"]})
    looked, look = [], model.look
    monkeypatch.setattr(model, "look", lambda images, box: looked.append(images) or look(images, box))
    maps = look(batch["pixel_values"], batch["box"]).region_maps.detach()
    monkeypatch.setattr(torch, "randperm", lambda count, device: torch.arange(count))
    monkeypatch.setattr(torch, "randint", lambda high, size, device: torch.full(size, REGION_NAMES.index("heart")))
    Objective(model, LossConfig(tokens=0, hidden=1, hidden_share=0.5)).eval()(batch, 0.5)
    whole, copies = looked
    assert len(copies) == 2
    changed = (copies != whole[:2]).any(1)
    for one, own in zip(changed, maps[:, REGION_NAMES.index("heart")], strict=False):
        place = F.interpolate(own[None, None], (64, 64), mode="bilinear")[0, 0]
        torch.testing.assert_close(one, place >= place.max() / 2)
    black = model.transform.normalise(torch.zeros(1, 1))[:, 0, 0]
    assert (copies.permute(0, 2, 3, 1)[changed] == black).all()


def test_matching_pairs_have_the_lower_alignment_term():
    images = torch.eye(4)
    assert alignment_term(images, images, 0.1) < 0.01
    assert alignment_term(images, images.roll(1, 0), 0.1) > 5
    single = alignment_term(images[:1].requires_grad_(), images[1:2], 0.1)  # one study has nothing to be told from
    assert single == 0 and single.requires_grad


@pytest.fixture
def batch(make_tiny):
    torch.manual_seed(1)
    labels = torch.randint(5, 100, (4, 12))
    labels[1, 6:] = IGNORED
    return {
        "pixel_values": torch.rand(4, 3, 64, 64),
        "box": torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 4),
        "labels": labels,
        "finding_labels": torch.tensor([[1.0], [0.0], [0.0], [math.nan]]),
        "finding_targets": torch.tensor([[1.0], [0.0], [0.0], [math.nan]]),
        "finding_places": torch.zeros(4, 1, 7, dtype=torch.bool),
        "region_targets": torch.full((4, 7, 4, 4), 1 / 16),
        "token_regions": torch.eye(7, dtype=torch.bool)[2].expand(4, 12, 7),
    }


@pytest.mark.parametrize("term", [term for term in TERMS if term not in ("grounding", "reward")])
def test_each_term_is_there_alone_and_reaches_the_model(make_tiny, batch, term):
    """By its name, unweighted; its weight multiplies the loss; and the image encoder learns from it."""
    model = make_tiny(findings={"cardiomegaly": ["heart"]})
    torch.nn.init.normal_(model.projection.router[-1].weight)  # it starts undecided, where its term is 0
    weights = dict.fromkeys(TERMS, 0.0) | {term: 3.0}
    torch.manual_seed(2)
    output = Objective(model, LossConfig(**weights, hidden_share=1.0)).train()(batch, progress=0.5)
    assert set(output.losses) == {term}
    assert output.loss.item() == pytest.approx(3 * output.losses[term].item())
    assert output.losses[term] > 0
    output.loss.backward()
    gradient = next(parameter.grad for parameter in model.encoder.parameters() if parameter.grad is not None)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_drawn_reports_become_as_likely_as_they_score(make_tiny, batch, monkeypatch):
    """Of two draws the one that says what the reference says gains, and a study without a reference moves nothing."""
    model = make_tiny()
    tokenizer, labels = model.tokenizer, []
    for text in ("The heart is enlarged.", "The lungs are clear."):
        labels.append(encode_report(tokenizer, ReportText(text, "No acute disease."), 40))
    batch["labels"] = pad_labels([*labels[:1] * 3, []])
    drawn = pad_labels([row[: row.index(5) + 1] for row in labels] * 4).clamp_min(PAD)
    monkeypatch.setattr(model, "draw_findings", lambda tokens, samples: drawn[: len(tokens) * samples].clone())
    objective = Objective(model, LossConfig(tokens=0, reward=1, reward_samples=2)).train()
    rows, ids, advantages = objective._draw_reports(torch.zeros(4, 1, 32), batch["labels"])
    assert rows.tolist() == [0, 0, 1, 1, 2, 2] and (advantages[0::2] > 0.5).all()
    torch.testing.assert_close(advantages[0::2], -advantages[1::2])

    def likelihoods():
        tokens = model.look(batch["pixel_values"], batch["box"]).tokens.detach()[rows]
        log_p = model.decoder(tokens, ids).log_softmax(-1)
        known = ids != IGNORED
        known[:, 0] = False  # <findings> is given
        return (log_p.gather(-1, ids.clamp_min(0)[..., None])[..., 0] * known).sum(1) / known.sum(1)

    before = likelihoods()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        output = objective(batch, 0.5)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    gained = likelihoods() - before
    assert set(output.losses) == {"reward"} and (gained[0::2] > 0).all() and (gained[1::2] < 0).all()
    unreported = objective(batch | {"labels": torch.full((4, 5), IGNORED)}, 0.5)
    unreported.loss.backward()  # every process goes the same way, and every parameter has its gradient
    assert unreported.losses["reward"] == 0


@pytest.mark.parametrize(
    "weights, reference, other",
    [  # what hedges and what is said beside the reference fall behind the reference's own words
        ({"reward_unsure": 0.0}, "The heart is enlarged.", "The heart is borderline enlarged."),
        ({"reward_false": 0.5}, "The lungs are clear.", "The lungs are clear. Pleural effusion."),
    ],
)
def test_hedging_and_false_findings_cost_a_draw(make_tiny, batch, monkeypatch, weights, reference, other):
    model = make_tiny()
    texts = [encode_report(model.tokenizer, ReportText(one, "No acute disease."), 60) for one in (reference, other)]
    batch["labels"] = pad_labels([texts[0]] * 4)
    drawn = pad_labels([row[: row.index(5) + 1] for row in texts] * 4).clamp_min(PAD)
    monkeypatch.setattr(model, "draw_findings", lambda tokens, samples: drawn.clone())

    def lead(**others):
        config = LossConfig(reward=1, reward_samples=2, reward_findings=1.0, **others)
        return Objective(model, config).train()._draw_reports(torch.zeros(4, 1, 32), batch["labels"])[2][::2]

    assert (lead(**weights) > lead() + 0.4).all()


def test_a_draw_pays_for_being_likelier_than_it_first_was(make_tiny, batch, monkeypatch):
    model = make_tiny()
    text = encode_report(model.tokenizer, ReportText("The heart is enlarged.", "No acute disease."), 40)
    batch["labels"] = pad_labels([text] * 4)
    tokens = torch.randn(4, 2, 32)
    with torch.no_grad():
        drawn = model.draw_findings(tokens, 2)
    monkeypatch.setattr(model, "draw_findings", lambda tokens, samples: drawn.clone())
    free, held = (
        Objective(model, LossConfig(reward=1, reward_samples=2, reward_distance=cost, vocabulary_chunk=7)).train()
        for cost in (0.0, 0.3)
    )
    assert free.first_decoder is None and not any(one.requires_grad for one in held.first_decoder.parameters())
    assert torch.equal(free._draw_reports(tokens, batch["labels"])[2], held._draw_reports(tokens, batch["labels"])[2])
    with torch.no_grad():
        model.decoder.bart.final_logits_bias[:, drawn[0, 1]] += 2.0  # the first draw's first word becomes likelier
    log_p = []
    for decoder in (held.first_decoder, model.decoder):
        decoder.eval()
        ids = drawn.masked_fill(drawn == PAD, IGNORED)
        every = decoder(tokens.repeat_interleave(2, 0), ids).log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
        own = slice(1, model.generation.findings_tokens)  # <findings> is given, and a section too long is closed
        log_p.append((every * (drawn != PAD))[:, own].sum(1))
    likelier = (log_p[1] - log_p[0]).detach().view(4, 2)
    assert likelier[0, 0] > 0
    paid = free._draw_reports(tokens, batch["labels"])[2] - held._draw_reports(tokens, batch["labels"])[2]
    expected = 0.3 * (likelier - likelier.flip(1)).flatten()
    torch.testing.assert_close(paid, expected, rtol=1e-4, atol=1e-5)


def test_the_policy_gradient_is_the_weighted_log_likelihood(states):
    hidden, weight, bias, labels = states
    advantages = torch.tensor([1.0, -2.0, 0.5])
    known = labels != IGNORED
    log_p = F.linear(hidden[0], weight, bias).log_softmax(-1).gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    expected = -(advantages[:, None] * log_p * known).sum() / known.sum()
    for chunk in (4, 1000):
        torch.testing.assert_close(reward_term(hidden[0], weight, bias, labels, advantages, chunk), expected)


def test_draws_differ_and_end_with_their_section(make_tiny, batch):
    model = make_tiny()
    torch.manual_seed(4)
    with torch.no_grad():
        ids = model.draw_findings(model.look(batch["pixel_values"], batch["box"]).tokens, 3)
    findings, impression = model.tokenizer.convert_tokens_to_ids(["<findings>", "<impression>"])
    assert len(ids) == 12 and len({tuple(row) for row in ids.tolist()}) == 12
    assert (ids[:, 0] == findings).all() and not model.training
    for row in ids.tolist():
        written = [token for token in row if token != PAD]
        assert written[-1] == impression and written.count(impression) == 1


def test_gamma_rises_over_the_warm_up(make_tiny, batch):
    objective = Objective(make_tiny(), LossConfig(tokens=1, focal=1, focal_gamma=2, focal_warmup=0.5)).eval()
    terms = [objective(batch, progress).losses for progress in (0.0, 0.25, 0.5, 1.0)]
    assert terms[0]["focal"].item() == pytest.approx(terms[0]["tokens"].item(), rel=1e-5)
    values = [one["focal"].item() for one in terms]
    assert values[0] > values[1] > values[2] == values[3]


def test_the_tokens_term_is_the_models_own_cross_entropy(make_tiny, batch):
    model = make_tiny()
    own = model(batch["pixel_values"], batch["box"], batch["labels"]).losses["tokens"]
    term = Objective(model, LossConfig()).eval()(batch, 0.0).losses["tokens"]
    torch.testing.assert_close(term, own)


@pytest.mark.parametrize(
    ("weights", "switches", "message"),
    [
        ({"findings": 1}, {}, "model.findings"),
        ({"regions": 1}, {"use_adaptive_routing": False}, "use_adaptive_routing"),
        ({"consistency": 1}, {"use_spatial_priors": False}, "use_spatial_priors"),
        ({"regions": 1}, {"projection": "linear"}, "router"),
        ({"tokens": 0, "grounding": 1}, {}, "beside it"),
    ],
)
def test_terms_that_a_model_cannot_have_are_refused(make_tiny, weights, switches, message):
    with pytest.raises(ConfigError, match=message):
        Objective(make_tiny(**switches), LossConfig(**weights))


def test_rdrop_without_dropout_is_refused(make_tiny):
    model = make_tiny()
    model.config.decoder.dropout = 0.0
    with pytest.raises(ConfigError, match="both passes would be the same"):
        Objective(model, LossConfig(rdrop=1))
