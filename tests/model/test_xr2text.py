import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from xr2text.anatomy import REGION_NAMES, REGIONS
from xr2text.config import ConfigError, GenerationConfig, LossConfig
from xr2text.model.consensus import consensus
from xr2text.model.decoder import SeededNoise
from xr2text.model.xr2text import CheckpointError, XR2Text
from xr2text.text.sections import ReportText
from xr2text.text.tokenizer import EOS, IGNORED, PAD, encode_report, pad_labels, remember_words

K = len(REGIONS)


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(3)
    return torch.randn(2, 3, 64, 64), torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.1, 0.0, 0.9, 1.0]])


@pytest.fixture
def copy_of(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def test_the_output_names_what_it_holds(tiny_model, batch):
    output = tiny_model(*batch, pad_labels([[4, 9, 10, 5, 11, 2], [4, 9, 5, 2]]))
    assert output.logits.shape == (2, 6, tiny_model.config.decoder.vocab_size)
    assert output.region_maps.shape == output.region_priors.shape == (2, K, 4, 4)
    assert output.region_weights.shape == (2, K)
    assert output.loss == sum(output.losses.values()) and set(output.losses) == {"tokens"}
    without = tiny_model(*batch)
    assert without.loss is None and without.logits is None


def test_the_loss_is_the_mean_over_real_tokens(tiny_model, batch):
    labels = pad_labels([[4, 9, 10, 5, 11, 2], [4, 9, 5, 2]])
    output = tiny_model(*batch, labels)
    log_probabilities = output.logits.log_softmax(-1)
    real = [log_probabilities[b, t, label] for b in range(2) for t, label in enumerate(labels[b]) if label != IGNORED]
    torch.testing.assert_close(output.loss, -torch.stack(real).mean())


def test_label_smoothing_changes_the_loss(tiny_model, batch):
    labels = pad_labels([[4, 9, 2], [4, 9, 2]])
    smoothed = tiny_model(*batch, labels, weights=LossConfig(label_smoothing=0.1)).loss
    assert smoothed != tiny_model(*batch, labels).loss


def test_findings_are_the_mean_over_scales_outside_training(make_tiny, batch):
    findings = {"cardiomegaly": ["heart"], "nodule": ["right lung", "left lung"]}
    plain = make_tiny(findings=findings).eval()
    config = replace(plain.config, finding_scales=[0.8, 1.25])
    model = XR2Text(config, plain.tokenizer, plain.generation, plain.name).eval()
    model.load_state_dict(plain.state_dict())
    views = [batch, *(model.transform.scaled(*batch, one) for one in (0.8, 1.25))]
    with torch.inference_mode():
        each = [plain(*view).finding_logits for view in views]
        assert not torch.allclose(each[0], each[1])
        torch.testing.assert_close(model(*batch).finding_logits, torch.stack(each).mean(0))
        torch.testing.assert_close(model.generate(*batch).finding_logits, torch.stack(each).mean(0))
        assert model.see_findings(model.look(batch[0]), batch[0]).shape == (2, 2)
    model.train()
    seen = model.look(*batch)
    torch.testing.assert_close(model.see_findings(seen, *batch), model.finding_head(seen.tokens))


def test_the_finding_loss_is_the_cross_entropy_of_the_labelled_ones(make_tiny, batch):
    model = make_tiny(findings={"cardiomegaly": ["heart"], "nodule": ["right lung", "left lung"]})
    labels = pad_labels([[4, 9, 2], [4, 9, 2]])
    truth = torch.tensor([[1.0, 0.0], [torch.nan, 1.0]])
    output = model(*batch, labels, truth, LossConfig(tokens=0.5, findings=2.0))
    p = output.finding_logits.sigmoid()
    expected = -((p[0, 0]).log() + (1 - p[0, 1]).log() + p[1, 1].log()) / 3
    torch.testing.assert_close(output.losses["findings"], expected)
    torch.testing.assert_close(output.loss, 0.5 * output.losses["tokens"] + 2 * output.losses["findings"])
    assert set(model(*batch, labels, truth).losses) == {"tokens"}  # its weight is 0 unless given
    unknown = model(*batch, None, torch.full((2, 2), torch.nan), LossConfig(findings=1.0))
    assert unknown.loss == 0


def test_a_checkpoint_is_the_same_model(tiny_model, tiny_checkpoint, batch):
    loaded = XR2Text.from_pretrained(tiny_checkpoint)
    assert not loaded.training and loaded.config == tiny_model.config and loaded.name == "xr2text-tiny"
    assert loaded.generation == tiny_model.generation
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert loaded.generate(*batch).reports == tiny_model.generate(*batch).reports


def test_the_folder_holds_what_is_announced_and_no_pickle(tiny_checkpoint):
    names = {path.name for path in tiny_checkpoint.iterdir()}
    expected = {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"}
    assert expected <= names
    assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl")) for name in names)
    preprocessor = json.loads((tiny_checkpoint / "preprocessor_config.json").read_text())
    assert preprocessor["size"] == 64 and preprocessor["resize"] == "letterbox"


def test_half_precision_halves_the_file(tiny_model, tiny_checkpoint, batch, tmp_path):
    tiny_model.save_pretrained(tmp_path / "half", half_precision=True, card="# A card")
    half, whole = (folder / "model.safetensors" for folder in (tmp_path / "half", tiny_checkpoint))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    assert (tmp_path / "half" / "README.md").read_text() == "# A card"
    loaded = XR2Text.from_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(*batch).region_maps, tiny_model(*batch).region_maps, atol=1e-3, rtol=1e-2)


def test_saving_again_replaces_the_folder_whole(tiny_model, tmp_path):
    for _ in range(2):
        tiny_model.save_pretrained(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_old_checkpoint(tiny_model, copy_of, monkeypatch):
    before = (copy_of / "model.safetensors").read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("xr2text.model.xr2text.save_model", fail)
    with pytest.raises(OSError, match="disk full"):
        tiny_model.save_pretrained(copy_of)
    assert (copy_of / "model.safetensors").read_bytes() == before
    assert [path.name for path in copy_of.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"])
def test_a_missing_file_is_named(copy_of, file):
    (copy_of / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        XR2Text.from_pretrained(copy_of)


def test_weights_load_strictly(copy_of):
    path = copy_of / "model.safetensors"
    state = load_file(path)
    name = "projection.global_queries"
    for changed in (
        {key: value for key, value in state.items() if key != name},
        state | {"extra": torch.zeros(1)},
        state | {name: torch.zeros(3)},
    ):
        save_file(changed, path)
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            XR2Text.from_pretrained(copy_of)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        XR2Text.from_pretrained(copy_of)


@pytest.mark.parametrize(
    ("section", "key", "words"),
    [("model", "dropot", "unknown key"), ("generation", "beams", "unknown key"), (None, "extra", "unknown keys")],
)
def test_an_unknown_config_key_is_an_error(copy_of, section, key, words):
    path = copy_of / "config.json"
    settings = json.loads(path.read_text())
    (settings if section is None else settings[section])[key] = 1
    path.write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=words):
        XR2Text.from_pretrained(copy_of)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b"garbage", b"\xff\xfe\x00"])
def test_a_damaged_file_is_an_error_in_words(copy_of, file, content):
    (copy_of / file).write_bytes(content)
    with pytest.raises((CheckpointError, ConfigError), match=str(copy_of)):
        XR2Text.from_pretrained(copy_of)


def test_a_part_without_a_loss_is_taken_out_of_training(make_tiny):
    model = make_tiny(findings={"cardiomegaly": ["heart"]})
    model.freeze_untrained(LossConfig())
    frozen = {name.split(".")[0] for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {"finding_head"}
    model = make_tiny(findings={"cardiomegaly": ["heart"]})
    model.freeze_untrained(LossConfig(tokens=0, findings=1))
    frozen = {name.split(".")[0] for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {"decoder"}


def test_a_preprocessor_that_disagrees_is_an_error(copy_of):
    path = copy_of / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": 32}))
    with pytest.raises(CheckpointError, match="disagrees"):
        XR2Text.from_pretrained(copy_of)


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./nowhere", "one-word", "checkpoints/mistyped", "someone/never-published-this"]
)
def test_a_checkpoint_that_is_nowhere_is_an_error(name):
    with pytest.raises(CheckpointError):
        XR2Text.from_pretrained(name)


@pytest.mark.parametrize(
    "switch", ["use_spatial_priors", "use_prior_refinement", "use_adaptive_routing", "use_cross_region"]
)
def test_each_switch_changes_the_model_and_is_saved(make_tiny, tiny_model, tmp_path, batch, switch):
    model = make_tiny(**{switch: False})
    assert model.state_dict().keys() < tiny_model.state_dict().keys()
    model.save_pretrained(tmp_path / "model")
    loaded = XR2Text.from_pretrained(tmp_path / "model")
    assert getattr(loaded.config.haqt, switch) is False
    torch.testing.assert_close(loaded.look(*batch).tokens, model.look(*batch).tokens)
    with pytest.raises(CheckpointError, match="does not fit"):
        settings = json.loads((tmp_path / "model" / "config.json").read_text())
        settings["model"]["haqt"][switch] = True
        (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
        XR2Text.from_pretrained(tmp_path / "model")


def test_a_linear_projection_writes_reports_without_regions(make_tiny, batch):
    model = make_tiny(projection="linear")
    written = model.generate(*batch)
    assert len(written.reports) == 2 and written.visual.region_maps is None
    with pytest.raises(ValueError, match="no regions"):
        model.token_regions(written)


def test_a_model_without_a_tokenizer_says_so(tiny_model, batch, tmp_path):
    model = XR2Text(tiny_model.config)
    with pytest.raises(ValueError, match="tokenizer"):
        model.generate(*batch)
    with pytest.raises(ValueError, match="tokenizer"):
        model.save_pretrained(tmp_path / "x")


def test_reports_are_written_from_the_findings_that_the_head_sees(make_tiny):
    """In training mostly from the true ones; what is far below or above its threshold is absent or present."""
    model = make_tiny(findings={"cardiomegaly": ["heart"], "pneumothorax": ["right lung"]}, finding_tokens=True)
    assert model.finding_tokens is not None
    model.config.finding_temperature, model.config.finding_thresholds = 2.0, {"cardiomegaly": 0.2}
    edge = 2.0 * torch.tensor(0.2).logit()
    states = model.finding_states(torch.tensor([[edge, 0.0], [edge + 9, -9.0]]))
    torch.testing.assert_close(states, torch.tensor([[0.5, 0.5], [1.0, 0.0]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.finding_probabilities(edge), torch.tensor(0.2))

    tokens, logits = torch.randn(3, 16, 32), torch.full((3, 2), -20.0)
    labels = torch.tensor([[1.0, 0.0], [1.0, math.nan], [0.0, 0.0]])
    model.config.decoder.predicted_findings = 0.0
    true, own = model.tokens_to_write_from(tokens, logits, labels), model.tokens_to_write_from(tokens, logits)
    assert true.shape == own.shape == (3, 18, 32) and torch.equal(true[:, :16], tokens)
    changed = (true != own).any(-1)[:, 16:]
    assert changed.tolist() == [[True, False], [True, False], [False, False]]
    model.config.decoder.predicted_findings = 1.0
    assert torch.equal(model.tokens_to_write_from(tokens, logits, labels), own)

    pixels = torch.rand(1, 3, 64, 64)
    before = model(pixels, labels=torch.tensor([[5, 6, 7]])).logits
    model.config.finding_thresholds = {"cardiomegaly": 0.999, "pneumothorax": 0.999}
    assert not torch.allclose(model(pixels, labels=torch.tensor([[5, 6, 7]])).logits, before)


def test_a_fitted_calibration_is_kept_with_the_checkpoint(make_tiny, tmp_path):
    model = make_tiny(findings={"cardiomegaly": ["heart"]}, finding_tokens=True)
    model.config.finding_temperature, model.config.finding_thresholds = 1.7, {"cardiomegaly": 0.31}
    model.save_pretrained(tmp_path / "kept")
    config = XR2Text.from_pretrained(tmp_path / "kept").config
    assert (config.finding_temperature, config.finding_thresholds) == (1.7, {"cardiomegaly": 0.31})


@pytest.mark.parametrize("finding_tokens", [False, True])
def test_tokens_know_the_regions_that_they_were_written_from(make_tiny, batch, monkeypatch, finding_tokens):
    """Attention to a region's tokens is the region's, and attention to a finding that of the region it is seen in."""
    model = make_tiny(findings={"cardiomegaly": ["heart"]}, finding_tokens=finding_tokens)
    written = model.generate(*batch)
    weights = model.token_regions(written)
    count = written.token_ids.shape[1]
    assert weights.shape == (len(batch[0]), count, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))

    heart, first = REGION_NAMES.index("heart"), model.config.haqt.global_queries
    places = {first + 2 * heart + 1: heart, first: 0, 0: None}  # the second token of the heart, one of the right lung
    if finding_tokens:
        places[first + 2 * len(REGION_NAMES)] = heart  # of the finding
    for place, region in places.items():
        attention = torch.full((len(batch[0]), count, first + 14 + finding_tokens), 1e-6)
        attention[..., place] = 1.0
        monkeypatch.setattr(model.decoder, "cross_attention", lambda *_, given=attention: given)
        seen = model.token_regions(written)
        assert (seen.argmax(-1) == region).all() if region is not None else (seen < 0.9).all()


def test_no_sentence_stands_twice_in_a_report(make_tiny, batch):
    """A decoder that loves one sentence writes it once."""
    model = make_tiny()
    ids = model.tokenizer.encode(" The lungs are clear.", add_special_tokens=False)
    follows = dict(zip([model.tokenizer.convert_tokens_to_ids("<findings>"), *ids], [*ids, ids[0]], strict=False))
    follows[ids[-1]] = ids[0]

    def love(bart, args, inputs, output):
        for row, last in enumerate(inputs["decoder_input_ids"][:, -1].tolist()):
            if last in follows:
                output.logits[row, -1, follows[last]] += 50

    model.decoder.bart.register_forward_hook(love, with_kwargs=True)
    for report in model.generate(*batch, GenerationConfig(num_beams=1, max_tokens=60, findings_tokens=40)).reports:
        assert report.findings.count("The lungs are clear.") == 1


def test_among_beams_the_one_that_agrees_with_the_finding_head_is_taken(make_tiny, batch, monkeypatch):
    model = make_tiny(findings={"cardiomegaly": ["heart"]})
    texts = (
        "The heart is normal.", "The heart is enlarged.", "The heart is enlarged. The heart is normal in size.",
        "The heart heart is normal.",
    )  # fmt: skip
    rows = [encode_report(model.tokenizer, ReportText(text, "No acute disease."), 60) for text in texts]
    ids = pad_labels(rows).clamp_min(PAD).expand(2, -1, -1)
    scores = torch.tensor([[-0.5, -0.6, -0.4, -0.3]]).expand(2, -1)
    monkeypatch.setattr(model.decoder, "candidates", lambda *_: (ids, scores))
    monkeypatch.setattr(model.finding_head, "forward", lambda tokens: torch.tensor([[9.0], [-9.0]]))
    settings = GenerationConfig(num_beams=3, max_tokens=60, findings_tokens=40, agreement=0.2)
    assert [one.findings for one in model.generate(*batch, settings).reports] == [texts[1], texts[0]]
    monkeypatch.setattr(model.finding_head, "forward", lambda tokens: torch.zeros(2, 1))  # it does not know
    assert {one.findings for one in model.generate(*batch, settings).reports} == {texts[0]}
    remember_words(model.tokenizer, ["The heart is enlarged. No acute disease."] * 2)  # "normal" is none of its words
    assert {one.findings for one in model.generate(*batch, settings).reports} == {texts[1]}
    remember_words(model.tokenizer, ["Normal: the heart."] * 2)  # now it is, but nowhere after "is"
    assert {one.findings for one in model.generate(*batch, settings).reports} == {texts[1]}
    remember_words(model.tokenizer, ["The heart is normal."] * 2)
    assert {one.findings for one in model.generate(*batch, settings).reports} == {texts[0]}
    model.config.findings = {"right lung nodule": ["right lung"]}
    with pytest.raises(ConfigError, match=r"none of model\.findings is read"):
        model.generate(*batch, settings)


DRAWS = GenerationConfig(num_beams=1, draws=6, max_tokens=40, findings_tokens=25)


def test_an_image_gets_the_same_draws_in_any_batch_and_another_image_others(tiny_model, batch):
    ids = tiny_model.generate(*batch, DRAWS).token_ids
    tokens = tiny_model.look(*batch).tokens
    sections = tiny_model.tokenizer.convert_tokens_to_ids(["<findings>", "<impression>"])
    assert tiny_model._image_seeds(batch[0]) == [tiny_model._image_seeds(one[None])[0] for one in batch[0]]
    drafts, scores = tiny_model.decoder.candidates(tokens, DRAWS, *sections, None, [3, 4])
    (alone,), _ = tiny_model.decoder.candidates(tokens[1:], DRAWS, *sections, None, [4])
    assert drafts.shape[:2] == scores.shape == (2, 6)
    for one, other in zip(drafts[1].tolist(), alone.tolist(), strict=True):
        assert [token for token in one if token != PAD] == [token for token in other if token != PAD]
    assert len({tuple(one) for one in drafts[1].tolist()}) > 1
    for one, image, box in zip(ids.tolist(), *batch, strict=True):
        other = tiny_model.generate(image[None], box[None], DRAWS).token_ids[0].tolist()
        assert [token for token in one if token != PAD] == [token for token in other if token != PAD]
    greedy = tiny_model.decoder.generate(tokens, DRAWS.as_search(1), *sections)
    for one, other in zip(drafts[:, 0].tolist(), greedy.tolist(), strict=True):  # the first draw sees no noise
        assert [token for token in one if token != PAD] == [token for token in other if token != PAD]


def test_draws_are_as_likely_as_the_model_has_them():
    scores = torch.tensor([[0.0, 1.0, -torch.inf]]).expand(4000, -1)
    drawn = SeededNoise([7], 4000, impression_id=5)(torch.zeros(4000, 1, dtype=torch.long), scores).argmax(-1)[1:]
    torch.testing.assert_close(drawn.bincount(minlength=3) / 3999, scores[0].softmax(-1), atol=0.03, rtol=0)


def test_an_impression_is_the_likeliest_that_follows_from_its_findings():
    scores, ids = torch.randn(4, 9), torch.tensor([[2, 6], [2, 6], [2, 5], [5, 6]])
    noisy = SeededNoise([7], 4, impression_id=5)(ids, scores)
    assert torch.equal(noisy[[0, 2, 3]], scores[[0, 2, 3]]) and not torch.equal(noisy[1], scores[1])


@pytest.mark.parametrize("change", [{"temperature": 1e-6}, {"top_p": 1e-6}])
def test_draws_at_a_low_temperature_or_of_the_likeliest_token_alone_are_the_greedy_search(tiny_model, batch, change):
    settings = replace(DRAWS, **change)
    sections = tiny_model.tokenizer.convert_tokens_to_ids(["<findings>", "<impression>"])
    tokens = tiny_model.look(*batch).tokens
    drafts, _ = tiny_model.decoder.candidates(tokens, settings, *sections, None, [3, 4])
    assert (drafts == drafts[:, :1]).all()


def test_the_draft_that_the_others_share_most_is_taken(tiny_model, batch, monkeypatch):
    rows = torch.tensor([[2, 10, 11, 12, 1], [2, 10, 11, 13, 1], [2, 20, 21, 22, 1]])
    scores = torch.from_numpy(consensus(rows[:, 1:-1].tolist()))[None].expand(2, -1)
    assert scores[0, 0] == scores[0, 1] > scores[0, 2] == 0
    # One to four tokens: 2 of 3 shared, 1 of 2, none of the two longer kinds; with one of two others.
    assert scores[0, 0] == pytest.approx((2 / 3 + 1 / 2) / 4 / 2)
    monkeypatch.setattr(tiny_model.decoder, "candidates", lambda *_: (rows.flip(0).expand(2, -1, -1), scores.flip(1)))
    assert tiny_model.generate(*batch, DRAWS).token_ids[0].tolist() == rows[1].tolist()
    with pytest.raises(ValueError, match="at least 2 drafts"):
        consensus([[1]])


def test_longer_drafts_are_taken_by_their_length_bonus(tiny_model, batch, monkeypatch):
    tokens = tiny_model.look(*batch).tokens
    sections = tiny_model.tokenizer.convert_tokens_to_ids(["<findings>", "<impression>"])
    rows = torch.tensor([[EOS, 2, *[9] * length, EOS, *[PAD] * (20 - length)] for length in (4, 4, 5, 6, 6, 20)] * 2)
    monkeypatch.setattr(tiny_model.decoder, "_search", lambda *_, **__: SimpleNamespace(sequences=rows))
    ids, plain = tiny_model.decoder.candidates(tokens, DRAWS, *sections, None, [3, 4])
    same, longer = tiny_model.decoder.candidates(tokens, replace(DRAWS, length_bonus=0.1), *sections, None, [3, 4])
    assert torch.equal(ids, same)
    # The median is 5.5: what runs on beyond 1.4 times as many tokens gains no more.
    torch.testing.assert_close(longer - plain, 0.1 * torch.tensor([[4, 4, 5, 6, 6, 5.5 * 1.4]] * 2))


def test_a_draft_that_leaves_less_unsaid_is_taken_where_recall_counts():
    short, long, other = [10, 11, 12], [10, 11, 12, 13, 14, 15], [10, 11, 12, 13, 20, 21]
    even, recall = consensus([short, long, other]), consensus([short, long, other], beta=4)
    assert recall[1] / recall[0] > even[1] / even[0] and recall[1] > recall[0]
    # One token of the three shared, of two: the F-beta is (1 + 4) * 1 / (1 + 4 * 2), for one length of four.
    assert consensus([[1], [1, 2], [3]], beta=2)[0] == pytest.approx(5 / 9 / 4 / 2)


def test_the_first_of_the_beams_is_the_one_that_is_generated(tiny_model, batch):
    settings = GenerationConfig(num_beams=3, max_tokens=40, findings_tokens=25)
    tokens = tiny_model.look(*batch).tokens
    sections = tiny_model.tokenizer.convert_tokens_to_ids(["<findings>", "<impression>"])
    ids, scores = tiny_model.decoder.candidates(tokens, settings, *sections, None)
    assert ids.shape[:2] == (2, 3) and scores.shape == (2, 3) and (scores[:, :-1] >= scores[:, 1:]).all()
    first = tiny_model.decoder.generate(tokens, settings, *sections)
    for row, other in zip(ids[:, 0].tolist(), first.tolist(), strict=True):
        assert [one for one in row if one != PAD] == [one for one in other if one != PAD]
