from xr2text.config import layout_config
from xr2text.data.prepare import prepare_images
from xr2text.data.sources import load_studies


def test_what_training_and_evaluation_show_is_prepared_by_shares(tree, tmp_path):
    given = ["data.source=mimic_cxr", f"data.root={tree}", f"data.cache={tmp_path / 'cache'}", "model.image_size=64"]
    config = layout_config(given)
    splits = load_studies(config.data)
    shares = [prepare_images(config, splits, rank, 4, progress=False) for rank in range(4)]
    assert [share.made for share in shares] == [15, 15, 15, 15]  # no lateral image is opened
    damaged = splits["train"][0].images[0].path
    damaged.write_bytes(b"broken")
    again = prepare_images(config, splits, progress=False)
    assert (again.kept, again.made, len(again.errors)) == (59, 0, 1) and str(damaged) in again.errors[0]
