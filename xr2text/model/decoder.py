"""The BART text model that reads visual tokens.

Letters: B batch, Q visual tokens, D width, T text tokens, V vocabulary.
"""

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
)
from transformers import GenerationConfig as SearchConfig
from transformers.modeling_outputs import BaseModelOutput, ModelOutput
from transformers.models.bart.modeling_bart import shift_tokens_right

from xr2text.config import ConfigError, DecoderConfig, GenerationConfig
from xr2text.model.consensus import consensus
from xr2text.model.steps import CACHE, SteppingBart, Steps
from xr2text.text.tokenizer import BOS, EOS, IGNORED, PAD, UNK, SentenceMarks

# Times as long as the median of a study's drafts: what is longer has lost its way, and gains no more by it.
LONGEST = 1.4


class TextDecoder(nn.Module):
    """BART between visual tokens and report tokens.

    With `config.use_text_encoder` the visual tokens pass through BART's own encoder as its input embeddings; without,
    the encoder is taken out and its decoder attends to them directly.
    """

    def __init__(self, config: DecoderConfig, width: int):
        super().__init__()
        self.config = config
        if width % config.heads:
            raise ConfigError(f"model.haqt.width {width} must be a multiple of model.decoder.heads {config.heads}")
        self.bart = SteppingBart(
            BartConfig(
                vocab_size=config.vocab_size,
                d_model=width,
                encoder_layers=config.layers if config.use_text_encoder else 0,
                decoder_layers=config.layers,
                encoder_attention_heads=config.heads,
                decoder_attention_heads=config.heads,
                encoder_ffn_dim=config.feed_forward,
                decoder_ffn_dim=config.feed_forward,
                max_position_embeddings=config.max_positions,
                dropout=config.dropout,
                attention_dropout=0.0,
                bos_token_id=BOS,
                pad_token_id=PAD,
                eos_token_id=EOS,
                decoder_start_token_id=EOS,
            )
        )
        if not config.use_text_encoder:
            self.bart.model.encoder = nn.Identity()

    def load_initial_weights(self) -> None:
        """Loads the BART that `config.weights` names, its vocabulary widened to `config.vocab_size`.

        Raises:
            ConfigError: its sizes differ from the configured ones.
        """
        if self.config.weights is None:
            return
        try:
            given = BartForConditionalGeneration.from_pretrained(self.config.weights)
        except OSError as error:
            raise ConfigError(f"model.decoder.weights: {error}") from error
        given.resize_token_embeddings(self.config.vocab_size)
        state = given.state_dict()
        own = self.bart.state_dict()
        wrong = [name for name, value in own.items() if name not in state or state[name].shape != value.shape]
        if wrong:
            raise ConfigError(f"model.decoder.weights {self.config.weights!r} differ from the config in {wrong[:5]}")
        self.bart.load_state_dict({name: state[name] for name in own})

    def read(self, tokens: torch.Tensor) -> BaseModelOutput:
        """Visual tokens [B, Q, D] -> what BART's decoder attends to, the same shape."""
        if self.config.use_text_encoder:
            return self.bart.model.encoder(inputs_embeds=tokens)
        return BaseModelOutput(last_hidden_state=tokens)

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Teacher forcing: visual tokens [B, Q, D] and labels [B, T] -> logits [B, T, V]."""
        return nn.functional.linear(self.hidden_states(tokens, labels), *self.output_layer())

    def hidden_states(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Teacher forcing up to the decoder's last states [B, T, D], before the vocabulary."""
        return self._teacher_force(tokens, labels).last_hidden_state

    def hidden_states_and_attention(
        self, tokens: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`hidden_states` [B, T, D] and what each token is written from, [B, T, Q] as `cross_attention` has it, with
        gradients. BART's attention must be "eager", the only one that hands out its weights."""
        output = self._teacher_force(tokens, labels, output_attentions=True)
        attention = torch.stack(output.cross_attentions).float().mean((0, 2))  # [layers, B, heads, T, Q] -> [B, T, Q]
        return output.last_hidden_state, attention

    def _teacher_force(self, tokens: torch.Tensor, labels: torch.Tensor, **options):
        inputs = shift_tokens_right(labels.masked_fill(labels == IGNORED, PAD), PAD, EOS)
        read = self.read(tokens)
        return self.bart.model(encoder_outputs=read, decoder_input_ids=inputs, use_cache=False, **options)

    @torch.inference_mode()
    def cross_attention(self, tokens: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """What each token of finished reports was written from.

        Args:
            tokens: [B, Q, D] that the reports were written from.
            ids: [B, T] as `generate` gives them, `<findings>` first.

        Returns:
            [B, T, Q] attention of the step that chose each token, mean over layers and heads; each row sums to 1.
        """
        before = self.bart.config._attn_implementation
        self.bart.set_attn_implementation("eager")
        try:
            return self.hidden_states_and_attention(tokens, ids)[1]
        finally:
            self.bart.set_attn_implementation(before)

    def output_layer(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight [V, D] and bias [V] that make logits of states."""
        return self.bart.lm_head.weight, self.bart.final_logits_bias[0]

    @torch.inference_mode()
    def generate(
        self,
        tokens: torch.Tensor,
        settings: GenerationConfig,
        findings_id: int,
        impression_id: int,
        marks: SentenceMarks | None = None,
        samples: int | None = None,
    ) -> torch.Tensor:
        """Beam search from visual tokens [B, Q, D] -> token ids [B, T], `<findings>` first, padded by PAD.

        Args:
            marks: of the tokenizer; with them no sentence is written twice in a report.
            samples: draw so many findings sections of each report, as likely as the model has them, in place of the
                search; [B*samples, T], each up to the token that opens its impression or ends it.
        """
        return self._search(tokens, settings, findings_id, impression_id, marks, samples).sequences[:, 1:]

    @torch.inference_mode()
    def candidates(
        self,
        tokens: torch.Tensor,
        settings: GenerationConfig,
        findings_id: int,
        impression_id: int,
        marks: SentenceMarks | None,
        seeds: Sequence[int] = (),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All beams that `generate` takes the first of, or all draws.

        Args:
            seeds: of each study's draws, B of them.

        Returns:
            ids [B, num_beams or draws, T], and the same number of scores [B, ...]: of beams, log-probabilities over
            length to the power of the length penalty; of draws, `consensus` of their findings sections and, for each of
            their tokens, the length bonus.
        """
        if settings.draws:
            return self._draw(tokens, settings, findings_id, impression_id, marks, seeds)
        found = self._search(tokens, settings, findings_id, impression_id, marks, None, settings.num_beams)
        shape = (len(tokens), settings.num_beams)
        return found.sequences[:, 1:].unflatten(0, shape), found.sequences_scores.view(shape)

    def _draw(
        self,
        tokens: torch.Tensor,
        settings: GenerationConfig,
        findings_id: int,
        impression_id: int,
        marks: SentenceMarks | None,
        seeds: Sequence[int],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        drawing = [
            TemperatureLogitsWarper(settings.temperature), LikeliestTokens(settings.top_p),
            SeededNoise(seeds, settings.draws, impression_id),
        ]  # fmt: skip
        found = self._search(tokens, settings, findings_id, impression_id, marks, None, drawing=drawing)
        ids = found.sequences[:, 1:].unflatten(0, (len(tokens), settings.draws))
        ends = {EOS, PAD, impression_id}
        sections = [[list(takewhile(lambda id: id not in ends, one[1:])) for one in rows] for rows in ids.tolist()]
        shared = np.stack([consensus(drafts, settings.consensus_beta) for drafts in sections])
        lengths = np.array([[len(draft) for draft in drafts] for drafts in sections])
        shared += settings.length_bonus * np.minimum(lengths, LONGEST * np.median(lengths, axis=1, keepdims=True))
        return ids, torch.from_numpy(shared).to(tokens)

    def _search(
        self,
        tokens: torch.Tensor,
        settings: GenerationConfig,
        findings_id: int,
        impression_id: int,
        marks: SentenceMarks | None,
        samples: int | None,
        returned: int = 1,
        drawing: Sequence[LogitsProcessor] = (),
    ) -> ModelOutput:
        read = self.read(tokens).last_hidden_state
        rows = samples or (settings.draws if drawing else settings.num_beams)  # of each study
        steps = Steps(self.bart, read, rows, settings.max_tokens + 1)
        if drawing:
            read = read.repeat_interleave(rows, 0)
        start = torch.tensor([[EOS, findings_id]], device=tokens.device).expand(len(read), -1)
        search = SearchConfig(
            num_beams=settings.num_beams if samples is None else 1,
            max_length=settings.max_tokens + 1,
            do_sample=samples is not None,
            num_return_sequences=samples or returned,
            output_scores=returned > 1,
            return_dict_in_generate=True,
            **({} if samples is None else {"top_k": 0}),
            length_penalty=settings.length_penalty,
            no_repeat_ngram_size=settings.no_repeat_ngram,
            early_stopping=settings.num_beams > 1 and samples is None,
            bos_token_id=BOS,
            pad_token_id=PAD,
            eos_token_id=EOS if samples is None else [EOS, impression_id],
            decoder_start_token_id=EOS,
        )
        longest = settings.findings_tokens if settings.impression else None
        rules: list[LogitsProcessor] = [SectionRules(findings_id, impression_id, longest)]
        if marks is not None:
            rules.append(NoRepeatedSentences(frozenset({findings_id, impression_id}), marks))
        rules.extend(drawing)
        return self.bart.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=read),
            attention_mask=torch.ones(read.shape[:2], dtype=torch.long, device=tokens.device),
            decoder_input_ids=start,
            generation_config=search,
            logits_processor=LogitsProcessorList([Together(rules)]),
            **{CACHE: steps},
        )


class Together(LogitsProcessor):
    """Processors one after the other, as one: transformers reads the signature of each at every step."""

    def __init__(self, processors: Sequence[LogitsProcessor]):
        self.processors = processors

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        for processor in self.processors:
            scores = processor(input_ids, scores)
        return scores


class SectionRules(LogitsProcessor):
    """Keeps a search to the layout `<findings> ... <impression> ... </s>`, with no section empty.

    Args:
        findings_tokens: after so many tokens without an impression, it begins; None: reports have no impression.
    """

    def __init__(self, findings_id: int, impression_id: int, findings_tokens: int | None):
        self.findings_id, self.impression_id, self.findings_tokens = findings_id, impression_id, findings_tokens

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Ids so far [B, T] and scores of the next token [B, V] -> scores with what may not follow at -inf."""
        if self.findings_tokens is None:
            concluding = torch.ones(len(input_ids), dtype=torch.bool, device=input_ids.device)
        else:
            concluding = (input_ids == self.impression_id).any(-1)
        opened = (input_ids[:, -1] == self.findings_id) | (input_ids[:, -1] == self.impression_id)
        scores = scores.clone()
        scores[:, [BOS, PAD, UNK, self.findings_id]] = -torch.inf
        scores[:, EOS] = scores[:, EOS].masked_fill(~concluding | opened, -torch.inf)
        scores[:, self.impression_id] = scores[:, self.impression_id].masked_fill(concluding | opened, -torch.inf)
        if self.findings_tokens is not None and input_ids.shape[-1] > self.findings_tokens:
            forced = torch.full_like(scores, -torch.inf)
            forced[:, self.impression_id] = 0
            scores = torch.where(concluding[:, None], scores, forced)
        return scores


class LikeliestTokens(LogitsProcessor):
    """transformers' TopPLogitsWarper by a sort of the scores without their places, which numpy does on a CPU in a
    sixth of the time. Of equal scores at the border all are kept.

    Args:
        top_p: the likeliest tokens that together have this probability are kept.
    """

    def __init__(self, top_p: float):
        self.top_p = top_p

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Ids so far [B, T] and scores of the next token [B, V] -> scores with all but the likeliest at -inf."""
        on_cpu = scores.device.type == "cpu"
        ordered = torch.from_numpy(np.sort(scores.numpy(), axis=-1)) if on_cpu else scores.sort(-1).values
        removed = (ordered.softmax(-1).cumsum(-1) <= 1 - self.top_p).sum(-1, keepdim=True)  # [B, 1]
        least = ordered.gather(-1, removed.clamp_max(scores.shape[-1] - 1))
        return scores.masked_fill(scores < least, -torch.inf)


class SeededNoise(LogitsProcessor):
    """Makes a greedy search draw: Gumbel noise on the scores, whose highest is then a token as likely as the model has
    it (Gumbel, 1954). A study's noise is its seed's, whatever the batch, so that an image always gets the same report.

    Args:
        seeds: of B studies.
        draws: S rows of each study; the first of them sees no noise.
        impression_id: after it a row sees none either. The drafts' findings are weighed against each other, so that an
            odd word among them is outvoted; an impression is what follows from the findings, and must be the likeliest.
    """

    def __init__(self, seeds: Sequence[int], draws: int, impression_id: int):
        self.random, self.draws = [torch.Generator().manual_seed(seed) for seed in seeds], draws
        self.impression_id = impression_id

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Ids so far [B*S, T] and scores of the next token [B*S, V] -> scores with noise."""
        shape = (self.draws, scores.shape[1])
        noise = torch.stack([torch.empty(shape).exponential_(generator=random) for random in self.random])
        noise = noise.log_().neg_()  # [B, S, V]
        noise[:, 0] = 0
        concluding = (input_ids == self.impression_id).any(-1, keepdim=True)  # [B*S, 1]
        return scores + noise.flatten(0, 1).to(scores).masked_fill(concluding, 0)


class NoRepeatedSentences(LogitsProcessor):
    """Keeps a search from ending a sentence as an earlier one of the same report.

    Args:
        openers: ids of the tokens that open a section.
        marks: of the tokenizer.
    """

    def __init__(self, openers: frozenset[int], marks: SentenceMarks):
        self.openers, self.marks = openers, marks

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Ids so far [B, T] and scores of the next token [B, V] -> scores with what would repeat at -inf."""
        scores, marks = scores.clone(), self.marks
        for row, ids in enumerate(input_ids.tolist()):
            said, current = set(), []
            for token, following in zip(ids, [*ids[1:], None], strict=True):
                if token in self.openers:
                    current = []
                    continue
                # A section's first word has no space before it in some tokenizers.
                current.append(token if current else marks.spaced.get(token, token))
                if token in marks.ends and following not in marks.digits:
                    said.add(tuple(current))
                    current = []
            repeats = [one[-1] for one in said if len(one) > 1 and list(one[:-1]) == current]
            scores[row, repeats] = -torch.inf
        return scores
