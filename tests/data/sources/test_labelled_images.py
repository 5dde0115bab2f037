from xr2text.config import DataConfig
from xr2text.data.sources import load_studies


def test_images_have_labels_without_reports(tmp_path, png):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels.csv").write_text(
        "image,findings,view,patient\na.png,Effusion|Mass,PA,7\nb.png,Infiltration,AP,8\nc.png,No Finding,PA,9\n"
    )
    for name in ("a", "b", "c"):
        (tmp_path / "images" / f"{name}.png").write_bytes(png())
    config = DataConfig(source="phantom", phantoms=4, labelled_images=str(tmp_path))
    studies = {study.id: study for study in load_studies(config)["train"] if study.id.startswith("labelled")}
    assert set(studies) == {"labelled-a", "labelled-b", "labelled-c"}
    assert not any(study.findings for study in studies.values()) and studies["labelled-a"].patient == "labelled-7"
    labels = studies["labelled-a"].labels
    assert {name for name, value in labels.items() if value} == {"pleural effusion", "mass", "lung lesion"}
    assert labels["edema"] == 0
    assert studies["labelled-b"].labels == {}  # the word says nothing certain
    assert studies["labelled-c"].labels and not any(studies["labelled-c"].labels.values())
