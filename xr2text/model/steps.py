"""BART's decoder one token after another, as a search calls it: the sums of transformers in fewer calls and copies.

Letters: B studies, S rows of a study (beams or draws), R = B*S, n new tokens, t tokens so far, T the most, Q visual
tokens, A heads, D width.
"""

import functools
import inspect

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BartForConditionalGeneration
from transformers.modeling_outputs import Seq2SeqLMOutput

# What transformers calls a cache among a model's arguments and in its output: another name from version 5.24 on.
CACHE = next(
    name for name in ("cache", "past_key_values")
    if name in inspect.signature(BartForConditionalGeneration.forward).parameters
)  # fmt: skip


class SteppingBart(BartForConditionalGeneration):
    """transformers' BART; a search that hands it `Steps` for a cache goes through these."""

    @functools.wraps(BartForConditionalGeneration.forward)  # generate() reads the names of its arguments
    def forward(self, *args, **options):
        steps = options.get(CACHE)
        if isinstance(steps, Steps):
            return Seq2SeqLMOutput(logits=steps.step(options["decoder_input_ids"]), **{CACHE: steps})
        return super().forward(*args, **options)


class Steps:
    """A search's keys and values, and the step that adds to them. For evaluation mode: nothing is dropped.

    Keys and values of the visual tokens are kept once for a study and not for each of its rows, those of the text in
    one block that is allocated once; queries, keys and values come from one product.

    Args:
        bart: whose decoder it is.
        read: [B, Q, D] what the decoder attends to, as `TextDecoder.read` gives it.
        rows: S, of each study, one after the other.
        longest: T, of a text with the token that starts it.
    """

    # Asked by transformers of every cache, the second of each of its layers.
    is_compileable = False
    is_linear = (False,)

    def __init__(self, bart: BartForConditionalGeneration, read: torch.Tensor, rows: int, longest: int):
        self.decoder, self.head, self.head_bias = bart.model.decoder, bart.lm_head.weight, bart.final_logits_bias[0]
        self.heads, self.rows, self.longest, self.length = bart.config.decoder_attention_heads, rows, longest, 0
        self.together, self.seen = [], []
        for layer in self.decoder.layers:
            own, cross = layer.self_attn, layer.encoder_attn
            parts = (own.q_proj, own.k_proj, own.v_proj)
            weight, bias = torch.cat([one.weight for one in parts]), torch.cat([one.bias for one in parts])
            self.together.append((_as_computed(weight), _as_computed(bias)))  # [3D, D], [3D]
            self.seen.append((self._of_heads(cross.k_proj(read)), self._of_heads(cross.v_proj(read))))  # [B, A, Q, D/A]
        self.text: torch.Tensor | None = None  # [layers, 2, R, A, T, D/A] keys and values

    def _of_heads(self, states: torch.Tensor) -> torch.Tensor:
        """[rows, n, D] -> [rows, A, n, D/A]."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def get_seq_length(self) -> int:
        return self.length

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Row i goes on from what was row `beam_idx[i]`, of the same study."""
        so_far = self.text[:, :, :, :, : self.length]
        so_far.copy_(so_far.index_select(2, beam_idx))

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """The next tokens [R, n] of each row -> logits [R, 1, V] of the one after them. More than one token at a time
        only at the start."""
        decoder, start, end = self.decoder, self.length, self.length + ids.shape[1]
        offset = decoder.embed_positions.offset
        states = decoder.embed_tokens(ids) + decoder.embed_positions.weight[start + offset : end + offset]
        states = decoder.layernorm_embedding(states)  # [R, n, D]
        for index, layer in enumerate(decoder.layers):
            states = layer.self_attn_layer_norm(states + self._look_back(states, index, layer.self_attn))
            states = layer.encoder_attn_layer_norm(states + self._look_at_image(states, index, layer.encoder_attn))
            states = layer.final_layer_norm(states + layer.fc2(layer.activation_fn(layer.fc1(states))))
        self.length = end
        return F.linear(states[:, -1:], self.head, self.head_bias)

    def _look_back(self, states: torch.Tensor, index: int, attention: nn.Module) -> torch.Tensor:
        start, end = self.length, self.length + states.shape[1]
        parts = F.linear(states, *self.together[index]).unflatten(-1, (3, self.heads, -1))  # [R, n, 3, A, D/A]
        query, *key_and_value = parts.permute(2, 0, 3, 1, 4)  # 3 of [R, A, n, D/A]
        if self.text is None:
            shape = (len(self.together), 2, *query.shape[:2], self.longest, query.shape[-1])
            self.text = query.new_empty(shape)
        text = self.text[index]
        text[:, :, :, start:end] = torch.stack(key_and_value)
        keys, values = text[:, :, :, :end]
        mixed = F.scaled_dot_product_attention(query, keys, values, is_causal=end - start > 1)
        return attention.out_proj(mixed.transpose(1, 2).flatten(2))

    def _look_at_image(self, states: torch.Tensor, index: int, attention: nn.Module) -> torch.Tensor:
        query = attention.q_proj(states)  # [R, n, D]
        of_study = query.view(-1, self.rows * query.shape[1], query.shape[2])  # [B, S*n, D]
        mixed = F.scaled_dot_product_attention(self._of_heads(of_study), *self.seen[index])
        return attention.out_proj(mixed.transpose(1, 2).reshape(query.shape))


def _as_computed(weight: torch.Tensor) -> torch.Tensor:
    """In autocast's precision where it is on, which casts a parameter once but what is made of several at each call."""
    kind = weight.device.type
    return weight.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else weight
