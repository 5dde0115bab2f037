import pytest
import torch

from xr2text.config import ConfigError, DecoderConfig, GenerationConfig
from xr2text.model.decoder import NoRepeatedSentences, SectionRules, TextDecoder
from xr2text.text.tokenizer import EOS, IGNORED, PAD, SentenceMarks

FINDINGS, IMPRESSION, V = 4, 5, 50


def build(**options) -> TextDecoder:
    torch.manual_seed(0)
    config = DecoderConfig(
        **{"vocab_size": V, "layers": 2, "heads": 4, "feed_forward": 64, "max_positions": 40} | options
    )
    return TextDecoder(config, 32).eval()


@pytest.fixture
def tokens():
    return torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("text_encoder", [False, True])
def test_logits_are_causal_and_depend_on_the_image(tokens, text_encoder):
    decoder = build(use_text_encoder=text_encoder)
    labels = torch.randint(6, V, (3, 10))
    logits = decoder(tokens, labels)
    assert logits.shape == (3, 10, V)
    later = labels.clone()
    later[:, 6] = 6
    torch.testing.assert_close(decoder(tokens, later)[:, :7], logits[:, :7])
    assert (decoder(tokens, later)[:, 7:] - logits[:, 7:]).abs().max() > 1e-4
    assert (decoder(tokens.flip(0), labels) - logits).abs().max() > 1e-4


@pytest.mark.parametrize("text_encoder", [False, True])
def test_no_parameter_is_idle(tokens, text_encoder):
    decoder = build(use_text_encoder=text_encoder)
    decoder(tokens, torch.randint(6, V, (3, 10))).square().sum().backward()
    assert [name for name, value in decoder.named_parameters() if value.grad is None] == []
    has_encoder = any("model.encoder" in name for name, _ in decoder.named_parameters())
    assert has_encoder == text_encoder


def test_padding_of_the_labels_changes_nothing(tokens):
    decoder = build()
    labels = torch.randint(6, V, (3, 8))
    padded = torch.cat([labels, torch.full((3, 4), IGNORED)], dim=1)
    torch.testing.assert_close(decoder(tokens, padded)[:, :8], decoder(tokens, labels))


@pytest.mark.parametrize("text_encoder", [False, True])
def test_cross_attention_is_of_the_step_that_chose_each_token(tokens, text_encoder):
    decoder = build(use_text_encoder=text_encoder)
    ids = torch.randint(6, V, (3, 9))
    attention = decoder.cross_attention(tokens, ids)
    assert attention.shape == (3, 9, 7)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 9))
    later = ids.clone()
    later[:, 5] = 6
    changed = (decoder.cross_attention(tokens, later) - attention).abs().amax((0, 2)) > 1e-6
    assert changed.tolist() == [False] * 6 + [True] * 3  # the token itself is chosen before it is known
    assert decoder.bart.config._attn_implementation == "sdpa"


def test_no_sentence_is_ended_as_an_earlier_one():
    end, digit, bare, spaced = 9, 10, 11, 12
    marks = SentenceMarks(frozenset({end}), frozenset({digit}), {bare: spaced})
    rules = NoRepeatedSentences(frozenset({FINDINGS, IMPRESSION}), marks)
    repeated = [EOS, FINDINGS, 20, 21, end, IMPRESSION, 20, 21]
    unspaced = [EOS, FINDINGS, bare, 21, end, 22, end, spaced, 21]
    another = [EOS, FINDINGS, 20, 21, end, 22, 20, 21]
    decimals = [EOS, FINDINGS, 20, 21, end, digit, 22, 20, 21]
    for ids, forbidden in ((repeated, True), (unspaced, True), (another, False), (decimals, False)):
        scores = rules(torch.tensor([ids]), torch.zeros(1, V))[0]
        assert (scores[end] == -torch.inf) == forbidden and torch.isfinite(scores).sum() == V - forbidden


@pytest.mark.parametrize("text_encoder", [False, True])
@pytest.mark.parametrize("beams", [1, 3])
def test_every_generated_report_has_both_sections(tokens, beams, text_encoder):
    settings = GenerationConfig(num_beams=beams, max_tokens=20, findings_tokens=12)
    ids = build(use_text_encoder=text_encoder).generate(tokens, settings, FINDINGS, IMPRESSION)
    assert ids.shape[0] == 3 and ids.shape[1] <= 20
    for row in ids.tolist():
        assert row[0] == FINDINGS and row.count(FINDINGS) == 1
        assert row.count(IMPRESSION) == 1
        start = row.index(IMPRESSION)
        assert 1 < start <= 12 and row[start + 1] not in (EOS, PAD)
        if EOS in row:
            assert row.index(EOS) > start and set(row[row.index(EOS) + 1 :]) <= {PAD}


def test_without_impressions_a_report_is_its_findings(tokens):
    settings = GenerationConfig(num_beams=2, max_tokens=15, findings_tokens=5, impression=False)
    decoder = build()
    with torch.no_grad():
        decoder.bart.final_logits_bias[0, EOS] = 3  # a random model rarely ends by itself
    ids = decoder.generate(tokens, settings, FINDINGS, IMPRESSION)
    for row in ids.tolist():
        assert row[0] == FINDINGS and IMPRESSION not in row and row[1] not in (EOS, PAD)
        assert EOS in row


def test_the_batch_does_not_change_a_report(tokens):
    decoder, settings = build(), GenerationConfig(num_beams=3, max_tokens=20, findings_tokens=12)
    together = decoder.generate(tokens, settings, FINDINGS, IMPRESSION)
    for row, one in zip(together, tokens, strict=True):
        alone = decoder.generate(one[None], settings, FINDINGS, IMPRESSION)[0]
        assert [t for t in row.tolist() if t != PAD] == [t for t in alone.tolist() if t != PAD]


def test_a_forced_impression_leaves_one_choice():
    rules = SectionRules(FINDINGS, IMPRESSION, findings_tokens=4)
    scores = rules(torch.tensor([[EOS, FINDINGS, 9, 9, 9]]), torch.zeros(1, V))
    assert scores.argmax() == IMPRESSION and torch.isinf(scores).sum() == V - 1


def test_initial_weights_come_from_a_bart_with_fewer_words(tmp_path):
    given = build(vocab_size=V - 2, use_text_encoder=True)
    given.bart.save_pretrained(tmp_path)
    decoder = build(weights=str(tmp_path), use_text_encoder=True)
    decoder.load_initial_weights()
    torch.testing.assert_close(decoder.bart.model.shared.weight[: V - 2], given.bart.model.shared.weight)
    torch.testing.assert_close(
        decoder.bart.model.encoder.layers[1].fc1.weight, given.bart.model.encoder.layers[1].fc1.weight
    )
    assert decoder.bart.lm_head.weight is decoder.bart.model.shared.weight


def test_a_bart_of_other_sizes_is_refused(tmp_path):
    build().bart.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="differ from the config"):
        build(feed_forward=128, weights=str(tmp_path)).load_initial_weights()


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="multiple"):
        build(heads=5)
