import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from xr2text.anatomy import REGION_NAMES
from xr2text.text.tokenizer import IGNORED
from xr2text.training import losses
from xr2text.training.losses import (
    findings_term,
    load_balance_term,
    mask_kl_term,
    occluded_labels,
    soft_iou_term,
    vocabulary_terms,
)

P, B, T, D, V = 2, 3, 7, 8, 50


def mean(term) -> torch.Tensor:
    total, count = term
    return total / count.clamp_min(1)


@pytest.fixture
def states():
    """Hidden states of two passes, an output layer, and labels with padding."""
    torch.manual_seed(0)
    labels = torch.randint(0, V, (B, T))
    labels[0, 4:] = IGNORED
    return torch.randn(P, B, T, D, requires_grad=True), torch.randn(V, D, requires_grad=True), torch.randn(V), labels


def sums_in_chunks(hidden, weight, bias, labels, smoothing, gamma):
    terms = vocabulary_terms(hidden, weight, bias, labels, smoothing, gamma)
    assert all(count == (labels != IGNORED).sum() for _, count in terms.values())
    return torch.stack([terms[name][0] for name in ("ce", "focal", "rdrop")])


def sums_of_whole_logits(hidden, weight, bias, labels, smoothing, gamma):
    """The same by torch's own functions."""
    known = labels != IGNORED
    logits = [F.linear(states[known], weight, bias) for states in hidden]
    smoothed = sum(F.cross_entropy(each, labels[known], label_smoothing=smoothing, reduction="sum") for each in logits)
    nll = [F.cross_entropy(each, labels[known], reduction="none") for each in logits]
    focal = sum(((1 - (-each).exp()) ** gamma * each).sum() for each in nll)
    p, q = (each.log_softmax(-1) for each in logits)
    both = F.kl_div(q, p, log_target=True, reduction="sum") + F.kl_div(p, q, log_target=True, reduction="sum")
    return torch.stack([smoothed / 2, focal / 2, both / 2])


@pytest.mark.parametrize("chunk", [1, 5, 1000])
@pytest.mark.parametrize(("smoothing", "gamma"), [(0.0, 0.0), (0.1, 2.0)])
def test_chunks_give_the_values_and_gradients_of_whole_logits(states, monkeypatch, chunk, smoothing, gamma):
    monkeypatch.setattr(losses, "VOCABULARY_CHUNK", chunk)
    hidden, weight, bias, labels = states
    factors = torch.tensor([1.0, 0.7, 0.3])
    results = []
    for function in (sums_in_chunks, sums_of_whole_logits):
        sums = function(hidden, weight, bias, labels, smoothing, gamma)
        results.append((sums, *torch.autograd.grad((sums * factors).sum(), (hidden, weight))))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_focal_with_gamma_zero_is_cross_entropy_and_equal_passes_do_not_diverge(states):
    hidden, weight, bias, labels = states
    terms = vocabulary_terms(hidden[:1].expand(2, -1, -1, -1), weight, bias, labels, 0.0, 0.0)
    torch.testing.assert_close(terms["ce"], terms["focal"])
    assert terms["rdrop"][0] == 0
    assert vocabulary_terms(hidden[:1], weight, bias, labels, 0.0, 0.0)["rdrop"][0] == 0  # a single pass


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation gave."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_logits_of_all_tokens_are_never_held(monkeypatch):
    monkeypatch.setattr(losses, "VOCABULARY_CHUNK", 8)
    labels = torch.randint(0, 1000, (4, 32))
    hidden, weight = torch.randn(2, 4, 32, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True)
    with LargestTensor() as largest:
        vocabulary_terms(hidden, weight, torch.zeros(1000), labels, 0.1, 2.0)["ce"][0].backward()
    assert largest.elements == 2 * 8 * 1000  # two passes of a chunk of 8 tokens, not 2 x 128 x 1,000


def test_the_router_may_choose_for_each_image_but_not_forget_a_region():
    assert mean(load_balance_term(torch.eye(7).mean(0))).item() == pytest.approx(0, abs=1e-6)
    assert mean(load_balance_term(torch.eye(7)[0])).item() == pytest.approx(math.log(7))  # always the same one
    logits = torch.tensor([3.0, 0, 0, 0, 0, 0, 0], requires_grad=True)
    mean(load_balance_term(logits.softmax(-1))).backward()
    assert logits.grad[0] > 0 and (logits.grad[1:] < 0).all()  # down for the favourite, up for the rest


def test_attention_is_drawn_over_the_mask_and_unknown_regions_count_for_nothing():
    masks = torch.tensor([0.5, 0.5, 0.0, math.nan, math.nan, math.nan]).view(1, 2, 1, 3)
    scores = torch.zeros(1, 2, 1, 3, requires_grad=True)
    term = mean(mask_kl_term(scores.softmax(-1), masks))
    assert term.item() == pytest.approx(math.log(0.5 / (1 / 3)), abs=1e-5)
    term.backward()
    assert (scores.grad[0, 0, 0, :2] < 0).all() and scores.grad[0, 0, 0, 2] > 0
    assert (scores.grad[0, 1] == 0).all()
    assert mean(mask_kl_term(scores.softmax(-1), torch.full_like(masks, math.nan))) == 0


def test_the_cut_of_a_map_is_to_cover_the_mask():
    mask = torch.zeros(1, 2, 6, 6)
    mask[..., 1:4, 1:4] = 1 / 9
    masks = mask.clone()
    masks[:, 1] = math.nan
    flat = mask + 1e-3
    peaked = flat.clone()
    peaked[..., 2, 2] *= 3
    assert mean(soft_iou_term(flat, masks)) < 0.05 < 0.6 < mean(soft_iou_term(peaked, masks))
    (gradient,) = torch.autograd.grad(mean(soft_iou_term(peaked.requires_grad_(), masks)), peaked)
    assert gradient[0, 0, 2, 2] > 0 > gradient[0, 0, 1, 1] and not gradient[0, 1].any()


def test_unknown_findings_count_for_nothing():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    labels = torch.tensor([[1.0, math.nan], [0.0, math.nan]])
    given = torch.ones(1, 2, dtype=torch.bool)
    term = mean(findings_term(logits[None], given, labels))
    torch.testing.assert_close(term, F.binary_cross_entropy_with_logits(logits[:, 0], labels[:, 0]))
    term.backward()
    assert (logits.grad[:, 1] == 0).all()
    both = torch.tensor([[True, True], [False, False]])  # studies without a lateral view
    torch.testing.assert_close(mean(findings_term(torch.stack([logits, logits + 3]), both, labels)), term)
    assert mean(findings_term(logits[None], given, torch.full((2, 2), math.nan))) == 0
    assert mean(findings_term(logits[None] * math.nan, given, labels)).isnan()  # a fault is seen


def test_a_finding_is_not_seen_where_all_its_regions_are_black():
    heart, lungs, right = (
        torch.tensor([name in names for name in REGION_NAMES])
        for names in (["heart"], ["right lung", "left lung"], ["right lung"])
    )
    regions = torch.stack([heart, lungs, right, heart])[None]
    labels = torch.tensor([[1.0, 1.0, 1.0, math.nan]])
    for covered, expected in (
        (heart.float(), [0.0, 1, 1, math.nan]),
        (right.float(), [1.0, math.nan, 0, math.nan]),
        (0.5 * heart, [math.nan, 1, 1, math.nan]),  # partly seen: nothing is known
    ):
        seen = occluded_labels(labels, regions, covered[None])
        torch.testing.assert_close(seen, torch.tensor([expected]), equal_nan=True)
    assert not occluded_labels(torch.zeros(1, 4), regions, heart.float()[None]).any()  # what is absent stays so
