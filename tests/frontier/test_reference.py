import pytest

from efflab.foundation.errors import RequestError
from efflab.frontier.reference import areas, record_file, reference


@pytest.mark.parametrize("area", areas())
def test_every_record_has_a_source_an_error_and_some_compute(area):
    known = reference(area)
    assert known.notes
    assert len({row["model"] + row["input"] for row in known.rows}) == len(known.rows)
    for row in known.rows:
        assert row["model"] and row["source"], row  # noqa: PT018
        assert 0 < float(row["error"]) < 1
        assert 1990 < int(row["year"]) < 2030
        assert row["macs"] or row["training_flop"], row
        # one example's MACs and a whole training's FLOP lie far apart: a mix-up would show
        assert not row["macs"] or 1e6 < float(row["macs"]) < 1e13
        assert not row["training_flop"] or 1e14 < float(row["training_flop"]) < 1e26


def test_the_papers_areas_are_there_and_wrong_rows_have_a_reason():
    assert set(areas()) >= {"imagenet", "coco", "squad11", "conll2003", "wmt14_en_fr", "cifar10"}
    assert all(row["reason"] for area in areas() for row in reference(area).left_out)
    with pytest.raises(RequestError, match="did you mean 'imagenet'"):
        record_file("imagnet")


def test_published_cifar_resnets():
    rows = {row["model"]: row for row in reference("cifar10").rows}
    assert float(rows["ResNet-20"]["error"]) == pytest.approx(0.0740)
    assert float(rows["ResNet-20"]["macs"]) == pytest.approx(40.8e6)
