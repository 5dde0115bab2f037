import math

import pytest
import torch

from xr2text.anatomy import REGIONS
from xr2text.model.findings import FindingCalibration
from xr2text.model.haqt_arr import VisualTokens
from xr2text.model.lateral import LateralImages
from xr2text.text.tokenizer import pad_labels

K = len(REGIONS)


def test_the_output_names_what_it_holds(make_tiny, tiny, batch):
    output = tiny.model(*batch, pad_labels([[4, 9, 10, 5, 11, 2], [4, 9, 5, 2]]))
    assert output.logits.shape == (2, 6, len(tiny.tokenizer))
    assert output.region_maps.shape == output.region_priors.shape == (2, K, 4, 4)
    assert output.region_weights.shape == (2, K)
    assert output.finding_logits is None and tiny.model(*batch).logits is None
    assert make_tiny(("cardiomegaly", "nodule")).model(*batch).finding_logits.shape == (2, 2)


def test_an_image_without_a_box_fills_its_canvas(tiny, batch):
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, -1)
    model = tiny.model
    torch.testing.assert_close(model.encode_image(batch[0]).tokens, model.encode_image(batch[0], whole).tokens)


def test_the_decoder_reads_the_findings_that_the_head_sees_and_in_training_the_labels(make_tiny):
    model = make_tiny(("cardiomegaly", "pneumothorax")).model
    visual, logits = VisualTokens(torch.randn(3, 16, 32)), torch.full((3, 2), -20.0)
    labels = torch.tensor([[1.0, 0.0], [1.0, math.nan], [0.0, 0.0]])
    predicted, true = model.decoder_context(visual, logits), model.decoder_context(visual, logits, labels)
    assert true.tokens.shape == (3, 18, 32) and torch.equal(true.tokens[:, :16], visual.tokens)
    assert predicted.mask[:, :16].all() and not predicted.mask[:, 16:].any()
    assert true.mask[:, 16:].tolist() == [[1, 0], [1, 0], [0, 0]]


def lateral_of(batch, rows):
    images, box = batch
    return LateralImages(images.flip(-1)[: len(rows)], box[: len(rows)], torch.tensor(rows))


def test_a_lateral_view_changes_its_own_study_alone(make_tiny, batch):
    """Findings and report; a study without a lateral view is read as if the batch had none."""
    model = make_tiny(("cardiomegaly",), lateral_queries=3).model
    labels = torch.tensor([[4, 6, 7], [4, 6, 7]])
    frontal, both = model(*batch, labels), model(*batch, labels, lateral_of(batch, [1]))
    for name in ("finding_logits", "logits"):
        change = (getattr(both, name) - getattr(frontal, name)).abs().flatten(1).amax(1)
        assert change[0] < 1e-5 < 1e-4 < change[1]
    torch.testing.assert_close(both.tokens, frontal.tokens)
    assert both.lateral.map.sum((1, 2)).tolist() == pytest.approx([0, 1])


def test_a_model_of_frontal_views_refuses_a_lateral_one(tiny, batch):
    with pytest.raises(ValueError, match="frontal views alone"):
        tiny.model(*batch, lateral=lateral_of(batch, [0]))


def test_a_report_depends_on_the_thresholds_of_findings(make_tiny, batch):
    model = make_tiny(("cardiomegaly", "pneumothorax")).model
    labels = torch.tensor([[5, 6, 7], [5, 6, 7]])
    before = model(*batch, labels).logits
    model.calibration = FindingCalibration(thresholds={"cardiomegaly": 0.001, "pneumothorax": 0.001})
    assert not torch.allclose(model(*batch, labels).logits, before)


@pytest.mark.parametrize("text", [False, True])
def test_gradient_checkpointing_changes_no_gradient(make_tiny, batch, text):
    labels, gradients = torch.tensor([[4, 6, 7], [4, 6, 7]]), []
    for checkpointing in (False, True):
        model = make_tiny(("nodule",)).model.train()
        model.decoder.bart.model.decoder.dropout = 0.0
        if checkpointing:
            model.enable_gradient_checkpointing(text)
        torch.manual_seed(0)
        model(*batch, labels).logits.square().sum().backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-3, atol=1e-4 * value.abs().max().item() + 1e-6)
