"""A metric's name says what decides whether it may be compared."""

import pytest

from d3gan.evaluation.metric_names import PUBLISHED_FID, metric_label, metric_name, metric_text, metrics_of, one_line

RECORD = {
    "step": 3,
    "features": "efficientnet-lite0",
    "is_efficientnet-lite0": 2.25,
    "is_efficientnet-lite0_deviation": 0.125,
    "kid_efficientnet-lite0_test": 0.001,
    "fid_efficientnet-lite0_test": 12.345,
    "fid_efficientnet-lite0_test_interval": [12.0, 12.5],
    "coverage_efficientnet-lite0_test": 0.5,
    PUBLISHED_FID: 0.25,
}


@pytest.mark.parametrize(
    ("metric", "extractor", "reference", "name", "label"),
    [
        ("fid", "inception", "train", "fid_inception_train", "FID (inception, train)"),
        ("is", "efficientnet-lite0", "", "is_efficientnet-lite0", "IS (efficientnet-lite0)"),
        ("kid", "my_net-12ab", "cifar10:test", "kid_my-net-12ab_cifar10-test", "KID (my-net-12ab, cifar10-test)"),
        ("coverage", "inception", "été 1", "coverage_inception_été-1", "coverage (inception, été-1)"),
    ],
)
def test_names_and_labels(metric: str, extractor: str, reference: str, name: str, label: str) -> None:
    assert metric_name(metric, extractor, reference) == name
    assert metric_label(name) == label


def test_metrics_come_in_the_order_of_tables_and_without_what_describes_them() -> None:
    assert list(metrics_of(RECORD)) == [
        "fid_efficientnet-lite0_test",
        PUBLISHED_FID,
        "is_efficientnet-lite0",
        "kid_efficientnet-lite0_test",
        "coverage_efficientnet-lite0_test",
    ]


def test_text_has_deviation_and_interval() -> None:
    assert metric_text(RECORD, "is_efficientnet-lite0") == "2.250 ± 0.125"
    fid = metric_text(RECORD, "fid_efficientnet-lite0_test")
    assert fid == "12.35  95 % interval 12.00 to 12.50" or fid == "12.34  95 % interval 12.00 to 12.50"
    line = one_line(RECORD)
    assert line.startswith("FID 12.3")
    assert "IS 2.250 ± 0.125, KID 0.00100, coverage 0.500 (efficientnet-lite0, test)" in line
    assert line.endswith("FID as in the D3GAN program (64 features, one batch) 0.25")
    assert one_line({"is_inception": 2.0}) == "IS 2.000 (inception)"
