import time

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from xr2text.config import ConfigError, GenerationConfig
from xr2text.model.generate import NoRepeatedSentence, ReportGenerator, SectionLayout
from xr2text.text.tokenizer import EOS, PAD, SentenceMarks, train_tokenizer

FINDINGS, IMPRESSION, V = 4, 5, 50


def unpadded(row: torch.Tensor) -> list[int]:
    return [token for token in row.tolist() if token != PAD]


def generator(checkpoint, **settings) -> ReportGenerator:
    return ReportGenerator(checkpoint.model, checkpoint.tokenizer, GenerationConfig(**settings))


@pytest.mark.parametrize("beams", [1, 3])
def test_every_report_has_both_sections(tiny, batch, beams):
    written = generator(tiny, num_beams=beams, max_tokens=20)
    findings_id, impression_id = written.findings_id, written.impression_id
    generated = written.generate(*batch)
    assert generated.token_ids.shape[0] == len(generated.reports) == 2 and generated.token_ids.shape[1] <= 20
    for row in generated.token_ids.tolist():
        assert row[0] == findings_id and row.count(findings_id) == 1
        assert row.count(impression_id) == 1
        start = row.index(impression_id)
        assert 1 < start <= 14 and row[start + 1] not in (EOS, PAD)
        if EOS in row:
            assert row.index(EOS) > start and set(row[row.index(EOS) + 1 :]) <= {PAD}


def test_without_impressions_a_report_is_its_findings(make_tiny, batch):
    checkpoint = make_tiny()
    with torch.no_grad():
        checkpoint.model.decoder.bart.final_logits_bias[0, EOS] = 3  # a random model rarely ends by itself
    written = generator(checkpoint, max_tokens=15, impression=False)
    for row in written.generate(*batch).token_ids.tolist():
        assert row[0] == written.findings_id and written.impression_id not in row and row[1] not in (EOS, PAD)
        assert EOS in row


def test_the_batch_does_not_change_a_report(tiny, batch):
    together = tiny.generator.generate(*batch).token_ids
    for row, image, box in zip(together, *batch, strict=True):
        assert unpadded(row) == unpadded(tiny.generator.generate(image[None], box[None]).token_ids[0])


def test_a_report_is_the_likeliest_of_the_search(tiny, batch):
    """The search with the cache writes what it would without, token by token."""
    written = generator(tiny, num_beams=1, max_tokens=20)
    model, visual = tiny.model, tiny.model.encode_image(*batch)
    context = model.decoder_context(visual, None)
    ids = torch.tensor([[EOS, written.findings_id]]).expand(2, -1)
    encoded = BaseModelOutput(last_hidden_state=context.tokens)
    while ids.shape[1] < 15:
        logits = model.decoder.bart(encoder_outputs=encoded, decoder_input_ids=ids, use_cache=False).logits[:, -1]
        ids = torch.cat([ids, written.rules(ids, logits).argmax(-1, keepdim=True)], dim=1)
    for row, expected in zip(written.generate(*batch).token_ids, ids[:, 1:], strict=True):
        length = min(len(unpadded(row)), 14)
        assert row[:length].tolist() == expected[:length].tolist()


def test_a_deadline_stops_the_search(tiny, batch):
    bart, steps = tiny.model.decoder.bart, []

    def wait(*_):
        steps.append(len(steps))
        time.sleep(0.05)

    handle = bart.register_forward_pre_hook(wait)
    try:
        tiny.generator.generate(*batch, max_time=0.2)
    finally:
        handle.remove()
    assert 0 < len(steps) <= 8


def test_a_tokenizer_of_another_vocabulary_is_refused(tiny):
    with pytest.raises(ConfigError, match="the tokenizer has"):
        ReportGenerator(tiny.model, train_tokenizer(["a"], 300), GenerationConfig())


def test_no_sentence_stands_twice_in_a_report(make_tiny, batch):
    """A decoder that loves one sentence writes it once."""
    checkpoint = make_tiny()
    tokenizer = checkpoint.tokenizer
    ids = tokenizer.encode(" The lungs are clear.", add_special_tokens=False)
    follows = dict(zip([tokenizer.convert_tokens_to_ids("<findings>"), *ids], [*ids, ids[0]], strict=False))
    follows[ids[-1]] = ids[0]

    def love(bart, args, inputs, output):
        for row, last in enumerate(inputs["decoder_input_ids"][:, -1].tolist()):
            if last in follows:
                output.logits[row, -1, follows[last]] += 50

    checkpoint.model.decoder.bart.register_forward_hook(love, with_kwargs=True)
    for report in generator(checkpoint, num_beams=1, max_tokens=60).generate(*batch).reports:
        assert report.findings.count("The lungs are clear.") == 1


def test_no_sentence_is_ended_as_an_earlier_one(tiny):
    end, digit, bare, spaced = 9, 10, 11, 12
    rule = NoRepeatedSentence((FINDINGS, IMPRESSION), tiny.tokenizer)
    rule.marks = SentenceMarks(frozenset({end}), frozenset({digit}), {bare: spaced})
    repeated = [EOS, FINDINGS, 20, 21, end, IMPRESSION, 20, 21]
    unspaced = [EOS, FINDINGS, bare, 21, end, 22, end, spaced, 21]
    another = [EOS, FINDINGS, 20, 21, end, 22, 20, 21]
    decimals = [EOS, FINDINGS, 20, 21, end, digit, 22, 20, 21]
    for ids, forbidden in ((repeated, True), (unspaced, True), (another, False), (decimals, False)):
        scores = rule(torch.tensor([ids]), torch.zeros(1, V))[0]
        assert (scores[end] == -torch.inf) == forbidden and torch.isfinite(scores).sum() == V - forbidden


def test_a_forced_impression_leaves_one_choice():
    layout = SectionLayout(FINDINGS, IMPRESSION, findings_tokens=4)
    scores = layout(torch.tensor([[EOS, FINDINGS, 9, 9, 9]]), torch.zeros(1, V))
    assert scores.argmax() == IMPRESSION and torch.isinf(scores).sum() == V - 1
