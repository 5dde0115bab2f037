"""Report generation: transformers' beam search, held to the layout of a report.

Shapes: B batch, Q context tokens, D width, T report tokens, V vocabulary, F findings.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import GenerationConfig as SearchConfig
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase

from xr2text.config import ConfigError, GenerationConfig
from xr2text.model.decoder import Context
from xr2text.model.haqt_arr import VisualTokens
from xr2text.model.lateral import LateralImages
from xr2text.model.xr2text import XR2Text
from xr2text.text.sections import ReportText
from xr2text.text.tokenizer import BOS, EOS, FINDINGS_TOKEN, IMPRESSION_TOKEN, PAD, UNK, decode_report, sentence_marks

FINDINGS_FRACTION = 0.7  # fraction of max_tokens at which the findings section ends at the latest


@dataclass
class GeneratedReports:
    """The reports of a batch, with what they were written from.

    Attributes:
        reports: B pairs of findings and impression.
        token_ids: [B, T], `<findings>` first, padded by PAD.
        visual: tokens, region weights, maps and priors.
        finding_logits: [B, F] that the decoder read: the head's, infinite where a person set the finding; None without
            a finding head.
        head_logits: [B, F], the head's own.
    """

    reports: list[ReportText]
    token_ids: torch.Tensor
    visual: VisualTokens
    finding_logits: torch.Tensor | None
    head_logits: torch.Tensor | None


class ReportGenerator:
    """Writes reports with a model in evaluation mode. Raises ConfigError where the tokenizer is another model's."""

    def __init__(self, model: XR2Text, tokenizer: PreTrainedTokenizerBase, settings: GenerationConfig):
        vocab_size = model.decoder.bart.config.vocab_size
        if len(tokenizer) != vocab_size:
            raise ConfigError(f"the tokenizer has {len(tokenizer)} entries, the model's vocabulary {vocab_size}")
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.findings_id, self.impression_id = tokenizer.convert_tokens_to_ids([FINDINGS_TOKEN, IMPRESSION_TOKEN])
        sections = self.findings_id, self.impression_id
        longest = int(FINDINGS_FRACTION * settings.max_tokens) if settings.impression else None
        self.rules = LogitsProcessorList([SectionLayout(*sections, longest), NoRepeatedSentence(sections, tokenizer)])

    def generate(
        self,
        pixel_values: torch.Tensor,
        box: torch.Tensor | None = None,
        lateral: LateralImages | None = None,
        max_time: float | None = None,
        findings: Mapping[str, str] | None = None,
    ) -> GeneratedReports:
        """Writes reports from images of both views, given as to `XR2Text.encode_image`; see `write`."""
        with torch.inference_mode():
            visual = self.model.encode_image(pixel_values, box, lateral)
            head_logits = self.model.predict_findings(visual)
        return self.write(visual, head_logits, max_time, findings)

    @torch.inference_mode()
    def write(
        self,
        visual: VisualTokens,
        head_logits: torch.Tensor | None,
        max_time: float | None = None,
        findings: Mapping[str, str] | None = None,
    ) -> GeneratedReports:
        """Writes the reports of encoded studies.

        Args:
            head_logits: the finding head's [B, F]; None without one.
            max_time: seconds after which the search stops at its next step, whatever it has by then.
            findings: those that a person has set, to "present" or else "absent", for every report of the batch.
        """
        logits = head_logits
        if findings:
            names, logits = self.model.config.findings, head_logits.clone()
            for name, state in findings.items():
                logits[:, names.index(name)] = torch.inf if state == "present" else -torch.inf
        ids = self._search(self.model.decoder_context(visual, logits), max_time)
        reports = [decode_report(self.tokenizer, row) for row in ids.tolist()]
        return GeneratedReports(reports, ids, visual, logits, head_logits)

    def _search(self, context: Context, max_time: float | None) -> torch.Tensor:
        """Context -> token ids [B, T] without the start token."""
        search = SearchConfig(
            num_beams=self.settings.num_beams, length_penalty=self.settings.length_penalty, max_time=max_time,
            max_length=self.settings.max_tokens + 1, bos_token_id=BOS, pad_token_id=PAD, eos_token_id=EOS,
            decoder_start_token_id=EOS,
        )  # fmt: skip
        device = context.tokens.device
        start = torch.tensor([[EOS, self.findings_id]], device=device).expand(len(context.tokens), -1)
        with one_thread(device):
            ids = self.model.decoder.bart.generate(
                encoder_outputs=self.model.decoder.encode(context),
                attention_mask=context.mask.long(),
                decoder_input_ids=start,
                generation_config=search,
                logits_processor=self.rules,
            )
        return ids[:, 1:]


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Limits a CPU to one thread: a step of the search is so small that a second one costs more than it saves."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class SectionLayout(LogitsProcessor):
    """Holds a search to `<findings> ... <impression> ... </s>`, with no section empty.

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


class NoRepeatedSentence(LogitsProcessor):
    """Keeps a search from repeating a sentence within a report.

    Args:
        openers: ids of the tokens that open a section.
    """

    def __init__(self, openers: Sequence[int], tokenizer: PreTrainedTokenizerBase):
        self.openers, self.marks = openers, sentence_marks(tokenizer)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Ids so far [B, T] and scores of the next token [B, V] -> scores with what would repeat at -inf."""
        scores = scores.clone()
        for row, ids in enumerate(input_ids.tolist()):
            scores[row, self._repeating(ids)] = -torch.inf
        return scores

    def _repeating(self, ids: list[int]) -> list[int]:
        """The tokens that would close the current sentence as a copy of an earlier one."""
        said, current = set(), []
        for token, following in zip(ids, [*ids[1:], None], strict=True):
            if token in self.openers:
                current = []
                continue
            # A section's first word has no space before it in some tokenizers.
            current.append(token if current else self.marks.spaced.get(token, token))
            if token in self.marks.ends and following not in self.marks.digits:
                said.add(tuple(current))
                current = []
        return [sentence[-1] for sentence in said if len(sentence) > 1 and list(sentence[:-1]) == current]
