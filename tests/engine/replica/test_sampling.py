from __future__ import annotations

import numpy as np
import pytest
import torch

from thunderserve.engine.messages import Sampling
from thunderserve.engine.replica.sampling import choose, uniform

LOGITS = torch.log(torch.tensor([[0.5, 0.2, 0.2, 0.1]]))


def shares(sampling: Sampling, draws: int = 4000) -> list[float]:
    found = choose(LOGITS.repeat(draws, 1), [(sampling, place) for place in range(draws)])
    return [float(share) for share in np.bincount(found, minlength=4) / draws]


def test_zero_temperature_is_the_most_likely() -> None:
    assert choose(LOGITS, [(Sampling(1), 0)]) == [0]


def test_tokens_are_drawn_with_their_probabilities() -> None:
    assert shares(Sampling(1, temperature=1.0)) == pytest.approx([0.5, 0.2, 0.2, 0.1], abs=0.03)
    assert shares(Sampling(1, temperature=0.5)) == pytest.approx(np.array([25, 4, 4, 1]) / 34, abs=0.03)


def test_top_k_and_top_p_keep_the_first_and_share_out_the_rest() -> None:
    assert shares(Sampling(1, temperature=1.0, top_k=2))[:2] == pytest.approx([5 / 7, 2 / 7], abs=0.03)
    assert shares(Sampling(1, temperature=1.0, top_p=0.6))[0] == pytest.approx(5 / 7, abs=0.03)
    assert shares(Sampling(1, temperature=1.0, top_p=0.01))[0] == 1.0


def test_a_draw_belongs_to_seed_and_place_alone() -> None:
    assert uniform(3, 5) == uniform(3, 5)
    assert len({uniform(seed, place) for seed in range(20) for place in range(20)}) == 400
    sampling = Sampling(1, temperature=1.0, seed=9)
    together = choose(LOGITS.repeat(8, 1), [(sampling, place) for place in range(8)])
    assert together == [choose(LOGITS, [(sampling, place)])[0] for place in range(8)]


def test_what_is_not_a_number_is_never_a_token() -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        choose(torch.tensor([[0.0, float("nan")]]), [(Sampling(1), 0)])
