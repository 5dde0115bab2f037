"""The report tokenizer: BART's, or a small byte-level one learned from the training reports.

A report is laid out as `<findings> ... <impression> ... </s>`. Both tokenizers share BART's first four ids.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from xr2text.config import ConfigError
from xr2text.text.sections import ReportText, split_sentences

BOS, PAD, EOS, UNK = 0, 1, 2, 3  # ids, as in BART
BASE_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
FINDINGS_TOKEN, IMPRESSION_TOKEN = "<findings>", "<impression>"
IGNORED = -100  # label of a token that the loss ignores
VOCAB_SIZE = 2000  # largest size of a learned vocabulary


def train_tokenizer(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer with at most `vocab_size` entries on report texts."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[*BASE_TOKENS, FINDINGS_TOKEN, IMPRESSION_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=learner,
        bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=[FINDINGS_TOKEN, IMPRESSION_TOKEN],
    )  # fmt: skip


def load_bart_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """BART's tokenizer from a hub id or folder, with the two section tokens added.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except OSError as error:
        raise ConfigError(f"model.decoder.weights: no tokenizer of {name!r}: {error}") from error
    tokenizer.add_special_tokens({"additional_special_tokens": [FINDINGS_TOKEN, IMPRESSION_TOKEN]})
    return tokenizer


def encode_report(
    tokenizer: PreTrainedTokenizerBase, report: ReportText, max_tokens: int, impression: bool = True
) -> list[int]:
    """Token ids of a report, at most `max_tokens`.

    Args:
        impression: reports have an impression. One that lacks it then has no closing token: nothing is known of what
            would follow its findings. Without, only the findings are taken, and closed.
    """
    sections = [(FINDINGS_TOKEN, report.findings)]
    if impression:
        sections.append((IMPRESSION_TOKEN, report.impression))
    ids: list[int] = []
    for token, text in sections:
        if text:
            ids += [tokenizer.convert_tokens_to_ids(token), *tokenizer.encode(text, add_special_tokens=False)]
    if ids and (report.impression or not impression):
        ids.append(EOS)
    return ids[:max_tokens]


def decode_report(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> ReportText:
    """The inverse of `encode_report`; what follows the closing token is ignored."""
    sections = _sections(tokenizer, ids)
    findings, impression = (tokenizer.decode([token for _, token in part]).strip() for part in sections.values())
    return ReportText(findings, impression)


def locate_sentences(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> list[tuple[str, str, list[int]]]:
    """The sentences of the two texts of `decode_report`, each with the places of its tokens.

    Returns:
        (section, sentence, positions in `ids`) in reading order; the section is "findings" or "impression".
    """
    located = []
    for section, part in zip(("findings", "impression"), _sections(tokenizer, ids).values(), strict=True):
        tokens = [token for _, token in part]
        ends = [len(tokenizer.decode(tokens[: count + 1])) for count in range(len(tokens))]
        text, start = tokenizer.decode(tokens), 0
        for sentence in split_sentences(text):
            start = text.index(sentence, start)
            stop = start + len(sentence)
            positions = [
                position
                for (position, _), before, end in zip(part, [0, *ends], ends, strict=False)
                if before < stop and end > start
            ]
            located.append((section, sentence, positions))
            start = stop
    return located


def _sections(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> dict[int, list[tuple[int, int]]]:
    """(position, token) of the tokens of findings and impression, by the id of the token that opens the section."""
    findings_id, impression_id = tokenizer.convert_tokens_to_ids([FINDINGS_TOKEN, IMPRESSION_TOKEN])
    sections: dict[int, list[tuple[int, int]]] = {findings_id: [], impression_id: []}
    current = findings_id
    for position, token in enumerate(ids):
        if token in sections:
            current = token
        elif token == EOS and position > 0:
            break
        elif token > UNK:
            sections[current].append((position, token))
    return sections


class SentenceMarks(NamedTuple):
    """The token ids that mark where sentences end."""

    ends: frozenset[int]  # tokens that close a sentence, unless one of `digits` follows, as in "2.5"
    digits: frozenset[int]  # tokens that begin with a digit, without a space
    spaced: Mapping[int, int]  # tokens without a space before them -> the same with one


def sentence_marks(tokenizer: PreTrainedTokenizerBase) -> SentenceMarks:
    """Finds the marks of a byte-level tokenizer, whose entries have "Ġ" for a space."""
    vocabulary = tokenizer.get_vocab()
    return SentenceMarks(
        frozenset(token for text, token in vocabulary.items() if text.endswith((".", "?", "!"))),
        frozenset(token for text, token in vocabulary.items() if text[:1].isdigit()),
        {token: vocabulary[f"Ġ{text}"] for text, token in vocabulary.items() if f"Ġ{text}" in vocabulary},
    )


def pad_labels(reports: list[list[int]]) -> torch.Tensor:
    """Token id lists -> labels [B, T], padded by `IGNORED`; T is at least 1."""
    rows = [torch.tensor(ids or [IGNORED], dtype=torch.long) for ids in reports]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED)
