"""The search's own steps against transformers'."""

from contextlib import nullcontext

import pytest
import torch
from transformers import TopPLogitsWarper

from xr2text.config import DecoderConfig, GenerationConfig
from xr2text.model import decoder as decoder_module
from xr2text.model.decoder import LikeliestTokens, TextDecoder
from xr2text.model.steps import Product, Steps
from xr2text.text.tokenizer import EOS

FINDINGS, IMPRESSION, V = 4, 5, 50


def build(text_encoder: bool) -> TextDecoder:
    torch.manual_seed(0)
    config = DecoderConfig(
        vocab_size=V, layers=2, heads=4, feed_forward=64, max_positions=40, use_text_encoder=text_encoder
    )
    decoder = TextDecoder(config, 32).eval()
    for parameter in decoder.parameters():  # fresh weights are too small for one token to differ from another
        parameter.data.mul_(4)
    return decoder


@pytest.fixture
def tokens():
    return torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("precision, tolerance", [("no", 1e-5), ("bf16", 5e-2)])
@pytest.mark.parametrize("text_encoder", [False, True])
@torch.inference_mode()
def test_steps_give_the_logits_of_the_whole_text(tokens, text_encoder, precision, tolerance):
    decoder = build(text_encoder)
    rows = torch.randint(6, V, (6, 9), generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
        whole = decoder(tokens.repeat_interleave(2, 0), rows)  # what follows EOS and all but the last of `rows`
        steps = Steps(decoder.bart, decoder.read(tokens).last_hidden_state, rows=2, longest=9)
        start = torch.cat([torch.full((6, 1), EOS), rows[:, :1]], 1)
        got = [steps.step(start)] + [steps.step(rows[:, place : place + 1]) for place in range(1, 8)]
    scale = whole.abs().max()
    assert steps.get_seq_length() == 9
    assert ((torch.cat(got, 1) - whole[:, 1:]).abs().max() / scale) < tolerance


@pytest.mark.parametrize("rows", [1, 3, 16])
@torch.inference_mode()
def test_a_product_is_that_of_its_layers(rows):
    torch.manual_seed(5)
    layers, states = [torch.nn.Linear(256, 100) for _ in range(3)], torch.randn(rows, 1, 256)
    product = Product.of(*layers)
    assert product.packed == torch.backends.mkldnn.is_available()
    torch.testing.assert_close(product(states), torch.cat([one(states) for one in layers], -1), rtol=1e-4, atol=1e-5)


def test_products_are_kept_until_the_weights_change(tokens):
    bart = build(False).bart
    kept = bart.products()
    assert bart.products() is kept
    with torch.autocast("cpu", torch.bfloat16):
        assert bart.products() is not kept
    kept = bart.products()
    narrow, states = bart.model.decoder.layers[1].fc2, torch.randn(2, 1, 64)
    with torch.no_grad():
        narrow.weight.mul_(2)
        changed = bart.products()
        assert changed is not kept
        torch.testing.assert_close(changed.layers[1][-1](states), narrow(states), rtol=1e-4, atol=1e-4)
    bart.load_state_dict(bart.state_dict())
    assert bart.products() is not changed
    changed = bart.products()
    bart.train()
    assert bart.products() is not bart.products()  # in training nothing is kept
    bart.eval()
    assert bart.products() is not changed


def test_a_search_goes_by_the_weights_as_they_are(tokens):
    decoder, settings = build(False), GenerationConfig(num_beams=3, max_tokens=20, findings_tokens=12)
    first = decoder.generate(tokens, settings, FINDINGS, IMPRESSION)
    with torch.no_grad():
        for parameter in decoder.bart.model.decoder.layers.parameters():
            parameter.copy_(parameter.flip(0))
    changed = decoder.generate(tokens, settings, FINDINGS, IMPRESSION)
    again = build(False)
    again.load_state_dict(decoder.state_dict())
    assert changed.shape != first.shape or not torch.equal(changed, first)
    assert torch.equal(changed, again.generate(tokens, settings, FINDINGS, IMPRESSION))


@torch.inference_mode()
def test_rows_change_places_within_their_study(tokens):
    decoder = build(False)
    read = decoder.read(tokens).last_hidden_state
    first = torch.randint(6, V, (6, 2), generator=torch.Generator().manual_seed(3))
    places, following = torch.tensor([1, 0, 2, 2, 5, 4]), torch.randint(6, V, (6, 1))
    moved, plain = (Steps(decoder.bart, read, rows=2, longest=5) for _ in range(2))
    moved.step(first)
    moved.reorder_cache(places)
    plain.step(first[places])
    torch.testing.assert_close(moved.step(following), plain.step(following))


@pytest.mark.parametrize("text_encoder", [False, True])
@pytest.mark.parametrize("beams, draws", [(1, 0), (3, 0), (1, 5)])
def test_a_search_finds_what_it_finds_with_transformers_own_cache(tokens, monkeypatch, beams, draws, text_encoder):
    decoder = build(text_encoder)
    settings = GenerationConfig(
        num_beams=beams,
        draws=draws,
        top_p=0.9 if draws else 1.0,
        max_tokens=20,
        findings_tokens=12,
        no_repeat_ngram=1,
    )

    def found():
        if draws:
            return decoder.candidates(tokens, settings, FINDINGS, IMPRESSION, None, [3, 4, 5])[0]
        return decoder.generate(tokens, settings, FINDINGS, IMPRESSION)

    own = found()
    monkeypatch.setattr(decoder_module, "Steps", lambda *_: None)
    assert torch.equal(own, found()) and len(own.unique()) > 10


def test_a_draw_for_the_reward_goes_by_steps_too(tokens):
    settings = GenerationConfig(num_beams=2, max_tokens=20, findings_tokens=12)
    ids = build(False).generate(tokens, settings, FINDINGS, IMPRESSION, samples=4)
    assert len(ids) == 12 and len({tuple(row) for row in ids[:4].tolist()}) > 1


@pytest.mark.parametrize("top_p", [0.0, 0.5, 0.9, 1.0])
def test_the_likeliest_tokens_are_those_of_transformers(top_p):
    scores = torch.randn(6, V, generator=torch.Generator().manual_seed(4)) * 3
    scores[:, 10:20] = -torch.inf
    ids = torch.zeros(6, 1, dtype=torch.long)
    assert torch.equal(LikeliestTokens(top_p)(ids, scores), TopPLogitsWarper(top_p)(ids, scores))
