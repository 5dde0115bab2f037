"""The text decoder: transformers' BART, which reads visual tokens in place of a source text.

Shapes: B batch, Q context tokens (visual, lateral, findings), D width, T report tokens, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.bart.modeling_bart import shift_tokens_right

from xr2text.config import ConfigError, ModelConfig
from xr2text.text.tokenizer import BOS, EOS, IGNORED, PAD


@dataclass
class Context:
    """The tokens that the decoder reads.

    Attributes:
        tokens: [B, Q, D].
        mask: [B, Q], 1 for the tokens to read, 0 for those of a view or a finding that is not there.
    """

    tokens: torch.Tensor
    mask: torch.Tensor


class TextDecoder(nn.Module):
    """BART between context tokens and report tokens.

    With `decoder.use_text_encoder` the context passes through BART's own encoder as its input embeddings; without, that
    encoder is taken out and BART's decoder attends to the context directly. Weights are random, see `load_pretrained`.
    """

    def __init__(self, config: ModelConfig, vocab_size: int):
        super().__init__()
        self.config = config.decoder
        layers, heads, feed_forward = config.decoder.layers, config.heads, 4 * config.width
        self.bart = BartForConditionalGeneration(BartConfig(
            vocab_size=vocab_size, d_model=config.width, max_position_embeddings=config.decoder.max_positions,
            encoder_layers=layers if config.decoder.use_text_encoder else 0, decoder_layers=layers,
            encoder_attention_heads=heads, decoder_attention_heads=heads,
            encoder_ffn_dim=feed_forward, decoder_ffn_dim=feed_forward,
            dropout=config.dropout, attention_dropout=0.0,
            bos_token_id=BOS, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=EOS,
            attn_implementation="eager",  # the only one that returns its attention weights
        ))  # fmt: skip
        if not config.decoder.use_text_encoder:
            self.bart.model.encoder = nn.Identity()  # an encoder without gradients would stop DDP

    def load_pretrained(self) -> None:
        """Loads the BART that `config.weights` names, with its vocabulary extended to ours. Raises ConfigError where
        there is none, or where its sizes differ from the configured ones."""
        if self.config.weights is None:
            return
        try:
            given = BartForConditionalGeneration.from_pretrained(self.config.weights)
        except OSError as error:
            raise ConfigError(f"model.decoder.weights: {error}") from error
        given.resize_token_embeddings(self.bart.config.vocab_size)
        state, ours = given.state_dict(), self.bart.state_dict()
        wrong = [name for name, value in ours.items() if name not in state or state[name].shape != value.shape]
        if wrong:
            raise ConfigError(f"model.decoder.weights {self.config.weights!r} differ from the config in {wrong[:5]}")
        self.bart.load_state_dict({name: state[name] for name in ours})

    def encode(self, context: Context) -> BaseModelOutput:
        """Context -> what BART's decoder attends to, [B, Q, D]."""
        if self.config.use_text_encoder:
            return self.bart.model.encoder(inputs_embeds=context.tokens, attention_mask=context.mask)
        return BaseModelOutput(last_hidden_state=context.tokens)

    def forward(self, context: Context, labels: torch.Tensor) -> torch.Tensor:
        """Teacher forcing: context and labels [B, T] -> logits [B, T, V]."""
        return nn.functional.linear(self.hidden_states(context, labels), *self.output_layer())

    def hidden_states(self, context: Context, labels: torch.Tensor) -> torch.Tensor:
        """Teacher forcing up to the decoder's last states [B, T, D], before the vocabulary."""
        return self._teacher_force(context, labels).last_hidden_state

    def hidden_states_and_attention(self, context: Context, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`hidden_states` [B, T, D], and the cross-attention [B, T, Q] of the step that chose each token: the mean over
        layers and heads, each row summing to 1."""
        output = self._teacher_force(context, labels, output_attentions=True)
        attention = torch.stack(output.cross_attentions).float().mean((0, 2))  # [layers, B, heads, T, Q] -> [B, T, Q]
        return output.last_hidden_state, attention

    def output_layer(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [V, D] and bias [V] that turn states into logits."""
        return self.bart.lm_head.weight, self.bart.final_logits_bias[0]

    def _teacher_force(self, context: Context, labels: torch.Tensor, **options):
        inputs = shift_tokens_right(labels.masked_fill(labels == IGNORED, PAD), PAD, EOS)
        return self.bart.model(
            encoder_outputs=self.encode(context), attention_mask=context.mask, decoder_input_ids=inputs,
            use_cache=False, **options,
        )  # fmt: skip
