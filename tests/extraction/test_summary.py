"""What a run says about its captions, counted from the blocks that the writing tasks report."""

import json
from dataclasses import asdict

import pyarrow as pa

from fracray.captions.captioner import SelfTest
from fracray.extraction.summary import CaptionVariety, Counts, ExtractionSummary, FeatureSummary

TEST = SelfTest("Region: hand.", "ok", 40, 2.0, 21, 3_800_000_000, "cuda:0")


def block(hashes: list[int | None], findings: str = "ok", test: SelfTest | None = None) -> pa.Table:
    count = len(hashes)
    tests = [json.dumps(asdict(test)) if test else None] + [None] * (count - 1)
    return pa.table(
        {
            "image_id": pa.array([str(place) for place in range(count)]),
            "captions_status": pa.array(["ok" if value else "failed" for value in hashes], pa.string()),
            "captions_reason": pa.array([None if value else "broken" for value in hashes], pa.string()),
            "captions_findings": pa.array([findings] * count, pa.string()),
            "caption_hash": pa.array(hashes, pa.int64()),
            "self_test": pa.array(tests, pa.string()),
        }
    )


def test_a_captioner_that_repeats_itself_is_called_out() -> None:
    counts = Counts(total=200, on_progress=None)
    for _ in range(10):
        counts.add(block([1, 2] * 5 + [None] * 10))
    assert (counts.variety.written, counts.variety.distinct) == (100, 2)
    assert counts.variety.repeating


def test_a_few_radiographs_or_varied_captions_are_not_called_out() -> None:
    few = Counts(total=10, on_progress=None)
    few.add(block([1] * 10))
    assert not few.variety.repeating
    varied = Counts(total=100, on_progress=None)
    varied.add(block([1 + place % 10 for place in range(100)]))
    assert not varied.variety.repeating


def test_readable_captions_and_self_tests_are_told() -> None:
    counts = Counts(total=5, on_progress=None)
    counts.add(block([1, 2, 3], "ok", TEST))
    counts.add(block([4, None], "unparsed"))
    assert counts.variety.findings == {"ok": 3, "unparsed": 1}
    assert counts.self_tests == [TEST]
    assert "20 per second" in counts.self_tests[0].sentence()
    assert "3.8 GB on cuda:0" in counts.self_tests[0].sentence()


def test_the_rate_of_a_step_counts_the_rows_that_took_it() -> None:
    captions = FeatureSummary("a", 0, 0, {"ok": 30, "failed": 10}, {"broken": 10})
    embeddings = FeatureSummary("b", 60, 0, {"ok": 40}, {})
    busy = {"reading": 2.0, "decoding": 5.0, "captioning": 20.0, "embedding": 4.0, "writing": 0.0}
    variety = CaptionVariety(30, 30, {})
    summary = ExtractionSummary(100, 100, captions, embeddings, variety, (), 50.0, busy)
    assert summary.step_rates == {"reading": 50, "decoding": 20, "captioning": 2, "embedding": 10}
