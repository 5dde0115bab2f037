import pytest
import torch

from xr2text.config import ConfigError, DecoderConfig, ModelConfig
from xr2text.model.decoder import Context, TextDecoder
from xr2text.text.tokenizer import IGNORED

V = 50


def build(width=32, vocab_size=V, **options) -> TextDecoder:
    torch.manual_seed(0)
    config = ModelConfig(width=width, heads=4, decoder=DecoderConfig(layers=2, **options))
    return TextDecoder(config, vocab_size).eval()


def whole(tokens: torch.Tensor) -> Context:
    return Context(tokens, torch.ones(tokens.shape[:2]))


@pytest.fixture
def tokens():
    return whole(torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1)))


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
    assert (decoder(whole(tokens.tokens.flip(0)), labels) - logits).abs().max() > 1e-4


@pytest.mark.parametrize("text_encoder", [False, True])
def test_what_is_masked_is_not_read(tokens, text_encoder):
    decoder, labels = build(use_text_encoder=text_encoder), torch.randint(6, V, (3, 10))
    mask = torch.ones(3, 7)
    mask[:, 5:] = 0
    short = whole(tokens.tokens[:, :5])
    torch.testing.assert_close(decoder(Context(tokens.tokens, mask), labels), decoder(short, labels))


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
    states, attention = decoder.hidden_states_and_attention(tokens, ids)
    torch.testing.assert_close(states, decoder.hidden_states(tokens, ids))
    assert attention.shape == (3, 9, 7)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 9))
    later = ids.clone()
    later[:, 5] = 6
    change = (decoder.hidden_states_and_attention(tokens, later)[1] - attention).abs().amax((0, 2))
    assert (change > 1e-6).tolist() == [False] * 6 + [True] * 3  # the token itself is chosen before it is known


def test_pretrained_weights_come_from_a_bart_with_fewer_words(tmp_path):
    given = build(vocab_size=V - 2, weights="any", use_text_encoder=True)
    given.bart.save_pretrained(tmp_path)
    decoder = build(weights=str(tmp_path), use_text_encoder=True)
    decoder.load_pretrained()
    torch.testing.assert_close(decoder.bart.model.shared.weight[: V - 2], given.bart.model.shared.weight)
    torch.testing.assert_close(
        decoder.bart.model.encoder.layers[1].fc1.weight, given.bart.model.encoder.layers[1].fc1.weight
    )
    assert decoder.bart.lm_head.weight is decoder.bart.model.shared.weight


def test_a_bart_of_other_sizes_or_none_is_refused(tmp_path):
    build().bart.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="differ from the config"):
        build(width=16, weights=str(tmp_path)).load_pretrained()
    with pytest.raises(ConfigError, match=r"model\.decoder\.weights"):
        build(weights=str(tmp_path / "none")).load_pretrained()
