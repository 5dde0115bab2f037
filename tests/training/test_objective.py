import pytest
import torch
import torch.nn.functional as F

from xr2text.anatomy import REGION_NAMES
from xr2text.config import TERMS
from xr2text.text.tokenizer import IGNORED


@pytest.mark.parametrize("term", TERMS)
def test_each_term_is_there_alone_and_reaches_the_model(make_objective, batch, term):
    """By its name, unweighted; its weight multiplies the loss; and the image encoder learns from it."""
    objective = make_objective(**{term: 3.0})
    torch.nn.init.normal_(objective.model.projection.router[-1].weight)  # it starts undecided, where its term is 0
    batch["finding_labels"] = batch["finding_labels"].nan_to_num()  # any image may be the occluded one
    output = objective.train()(batch, progress=0.5)
    assert set(output.losses) == {term} and output.losses[term] > 0
    assert output.loss.item() == pytest.approx(3 * output.losses[term].item())
    output.loss.backward()
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in trained), "several processes wait for every gradient"
    gradient = next(parameter.grad for parameter in objective.model.encoder.parameters() if parameter.grad is not None)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_the_ce_term_is_the_cross_entropy_of_the_models_logits(make_tiny, make_objective, batch):
    checkpoint = make_tiny()
    logits = checkpoint.model(batch["pixel_values"], batch["box"], batch["labels"]).logits
    expected = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED)
    term = make_objective(checkpoint, ce=1).eval()(batch, 0.0).losses["ce"]
    torch.testing.assert_close(term, expected)


def test_gamma_of_the_focal_loss_rises_over_the_warm_up(make_tiny, make_objective, batch):
    objective = make_objective(make_tiny(), ce=1, focal=1).eval()
    terms = [objective(batch, progress).losses for progress in (0.0, 0.05, 0.1, 1.0)]
    assert terms[0]["focal"].item() == pytest.approx(terms[0]["ce"].item(), rel=1e-5)
    values = [losses["focal"].item() for losses in terms]
    assert values[0] > values[1] > values[2] == values[3]


def test_copies_with_a_region_in_black_are_encoded_again(make_objective, batch, monkeypatch):
    objective = make_objective(occlusion=1).eval()
    model, encoded = objective.model, []
    encode_image = model.encode_image
    monkeypatch.setattr(
        model, "encode_image", lambda images, *rest: encoded.append(images) or encode_image(images, *rest)
    )
    monkeypatch.setattr(torch, "randperm", lambda count, device: torch.arange(count))
    monkeypatch.setattr(torch, "randint", lambda high, size, device: torch.full(size, REGION_NAMES.index("heart")))
    objective(batch, 0.5)
    whole, copies = encoded
    assert len(copies) == 1  # a quarter
    changed = (copies != whole[:1]).any(1)[0]
    heart = encode_image(batch["pixel_values"], batch["box"]).region_maps[0, REGION_NAMES.index("heart")]
    place = F.interpolate(heart[None, None], (64, 64), mode="bilinear")[0, 0]
    torch.testing.assert_close(changed, place >= place.max() / 2)
    black = model.transform.normalise(torch.zeros(1, 1))[:, 0, 0]
    assert (copies[0].permute(1, 2, 0)[changed] == black).all()


def test_parts_that_no_term_reaches_are_not_trained(make_objective):
    def trained(objective):
        parts = (objective.model.decoder, objective.model.finding_tokens, objective.model.finding_head)
        return [any(parameter.requires_grad for parameter in part.parameters()) for part in parts]

    assert trained(make_objective(findings=1)) == [False, False, True]
    assert trained(make_objective(ce=1)) == [True, True, False]
    assert trained(make_objective(ce=1, occlusion=1)) == [True, True, True]


def test_what_reads_lateral_views_has_a_gradient_in_every_batch(make_tiny, make_objective, batch):
    """Of 0 where no study has one: else several processes would wait for it."""
    objective = make_objective(make_tiny(("cardiomegaly",), lateral_queries=2), ce=1, findings=1).train()
    black = make_objective(make_tiny(("cardiomegaly",), lateral_queries=2), occlusion=1).train()
    side = {"lateral_pixel_values": batch["pixel_values"][:1], "lateral_box": batch["box"][:1]}
    for lateral, moved in (({}, False), (side | {"lateral_rows": torch.tensor([2])}, True)):
        objective.zero_grad()
        objective(batch | lateral, 0.5).loss.backward()
        parts = (objective.model.lateral, objective.model.finding_head)
        gradients = [parameter.grad for part in parts for parameter in part.parameters()]
        assert all(gradient is not None for gradient in gradients)
        assert objective.model.lateral.queries.grad.any() == moved
        black.zero_grad()
        black(batch | lateral, 0.5).loss.backward()
        assert all(parameter.grad is not None for parameter in black.parameters() if parameter.requires_grad)
