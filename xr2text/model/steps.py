"""BART's decoder one token after another, as a search calls it: the sums of transformers in fewer calls and copies.

Letters: B studies, S rows of a study (beams or draws), R = B*S, n new tokens, t tokens so far, T the most, Q visual
tokens, A heads, D width.
"""

import functools
import inspect
from weakref import WeakKeyDictionary

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


# Operators that torch.compile itself makes such products of; no public function calls them.
PACKS = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
)


class SteppingBart(BartForConditionalGeneration):
    """transformers' BART; a search that hands it `Steps` for a cache goes through these.

    generate() reads the names of these methods' arguments, so that they must bear those of transformers.
    """

    def train(self, mode: bool = True) -> "SteppingBart":
        _PRODUCTS.pop(self, None)
        return super().train(mode)

    @functools.wraps(BartForConditionalGeneration.prepare_inputs_for_generation)
    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, *args, **options) -> dict:
        steps = options.get(CACHE)
        if isinstance(steps, Steps):  # which need nothing else
            return {"decoder_input_ids": input_ids[:, steps.length :], CACHE: steps}
        return super().prepare_inputs_for_generation(input_ids, *args, **options)

    def products(self) -> "Products":
        """The products of its layers, in evaluation kept from search to search while the weights are the same ones."""
        weights = (*self.model.decoder.layers.parameters(), self.lm_head.weight, self.final_logits_bias)
        made_from = tuple((one.data_ptr(), one.dtype, _version(one)) for one in weights)
        kind = weights[0].device.type
        made_from += (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        known, products = _PRODUCTS.get(self, (None, None))
        if known != made_from:
            products = Products(self)
        if not self.training:
            _PRODUCTS[self] = made_from, products
        return products

    @functools.wraps(BartForConditionalGeneration.forward)
    def forward(self, *args, **options):
        steps = options.get(CACHE)
        if isinstance(steps, Steps):
            return Seq2SeqLMOutput(logits=steps.step(options["decoder_input_ids"]), **{CACHE: steps})
        return super().forward(*args, **options)


class Product:
    """x W^T + b, with weights that stay as they are while it lives. For evaluation: no gradient passes.

    On a CPU in float32 oneDNN gets a copy of the weights in its own order, with which it multiplies a few rows two to
    four times as fast as `F.linear` does.

    Args:
        weight: W, [out, in].
        bias: b, [out].
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        kind = weight.device.type
        if torch.is_autocast_enabled(kind):  # casts a parameter once, but what is made of several at each call
            weight, bias = (one.to(torch.get_autocast_dtype(kind)) for one in (weight, bias))
        self.weight, self.bias = weight, bias
        self.packed = kind == "cpu" and weight.dtype == torch.float32 and PACKS
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight)

    @classmethod
    def of(cls, *layers: nn.Linear) -> "Product":
        """One product in place of those of several layers on the same states, one result after the other."""
        if len(layers) == 1:
            return cls(layers[0].weight, layers[0].bias)
        return cls(torch.cat([one.weight for one in layers]), torch.cat([one.bias for one in layers]))

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(states, self.weight, self.bias, "none", [], "")
        return F.linear(states, self.weight, self.bias)


class Products:
    """Those of a decoder: of each layer, in the order in which `Steps` takes them, and of its head."""

    def __init__(self, bart: BartForConditionalGeneration):
        self.head, self.layers = Product(bart.lm_head.weight, bart.final_logits_bias[0]), []
        for layer in bart.model.decoder.layers:
            own, cross = layer.self_attn, layer.encoder_attn
            rest = (own.out_proj, cross.q_proj, cross.out_proj, layer.fc1, layer.fc2)
            self.layers.append((Product.of(own.q_proj, own.k_proj, own.v_proj), *(Product.of(one) for one in rest)))


# What they were made from, and they. Beside the models, so that neither a copy of one nor its pickle holds them.
_PRODUCTS: WeakKeyDictionary[SteppingBart, tuple[tuple, Products]] = WeakKeyDictionary()


def _version(weight: torch.Tensor) -> int:
    """How often it was changed in place."""
    return 0 if weight.is_inference() else weight._version


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

    def __init__(self, bart: SteppingBart, read: torch.Tensor, rows: int, longest: int):
        self.decoder, self.products = bart.model.decoder, bart.products()
        self.heads, self.rows, self.longest, self.length = bart.config.decoder_attention_heads, rows, longest, 0
        self.seen = []  # keys and values [B, A, Q, D/A] of each layer
        for cross in (layer.encoder_attn for layer in self.decoder.layers):
            self.seen.append((self._of_heads(cross.k_proj(read)), self._of_heads(cross.v_proj(read))))
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
        for index, (layer, products) in enumerate(zip(decoder.layers, self.products.layers, strict=True)):
            together, own_out, query, seen_out, widen, narrow = products
            mixed = self._look_back(together(states), index)
            states = layer.self_attn_layer_norm(states + own_out(mixed))
            mixed = self._look_at_image(query(states), index)
            states = layer.encoder_attn_layer_norm(states + seen_out(mixed))
            states = layer.final_layer_norm(states + narrow(layer.activation_fn(widen(states))))
        self.length = end
        return self.products.head(states[:, -1:])

    def _look_back(self, parts: torch.Tensor, index: int) -> torch.Tensor:
        """Queries, keys and values [R, n, 3D] -> what is seen of the text so far [R, n, D]."""
        start, end = self.length, self.length + parts.shape[1]
        parts = parts.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [3, R, A, n, D/A]
        if self.text is None:
            self.text = parts.new_empty(len(self.seen), 2, *parts.shape[1:3], self.longest, parts.shape[-1])
        text = self.text[index]
        text[:, :, :, start:end] = parts[1:]
        keys, values = text[:, :, :, :end]
        mixed = F.scaled_dot_product_attention(parts[0], keys, values, is_causal=end - start > 1)
        return mixed.transpose(1, 2).flatten(2)

    def _look_at_image(self, query: torch.Tensor, index: int) -> torch.Tensor:
        """Queries [R, n, D] -> what is seen of the visual tokens, the same shape."""
        of_study = query.view(-1, self.rows * query.shape[1], query.shape[2])  # [B, S*n, D]
        mixed = F.scaled_dot_product_attention(self._of_heads(of_study), *self.seen[index])
        return mixed.transpose(1, 2).reshape(query.shape)
