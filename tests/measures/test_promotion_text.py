"""Tables of promotion for documents."""

import pandas as pd
import pytest

from src.measures.promotion_text import markdown
from tests.measures.test_promotion import APGD, TRANSFERRED, row


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (TRANSFERRED, "rank by apgd on other, 30 steps, 8/255"),
        (f"{APGD.format(8, 30)}_unaware", "rank by apgd without the defence, 30 steps, 8/255"),
        ("square_1_rank_eps8.0_queries99_linf_VBPR-ep4", "rank by square, 99 queries, 8/255"),
    ],
)
def test_how_documents_call_attacks(attack, said):
    shown = {"items": 3, "after": 0.11, "restored": 0.05, "place_before": 9.0, "place_after": 4.0}
    numbers = dict.fromkeys(("low", "high", "net_low", "net_high"), 0.1) | {"reliance": 0.5}
    verdict = {"indicator": "", "verdict": "effect", "weakest_level": "2 extractor trainings"}
    one = row(attack, 0.1) | shown | numbers | verdict
    table = pd.DataFrame([one, one | {"scope": "all"}])
    text = markdown(table)
    assert f"| {said} |" in text and "| effect (2 extractor trainings) |" in text
