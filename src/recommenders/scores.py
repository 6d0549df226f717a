"""How a user's row meets an item's row and its features.

The tables are P (users), Q (items) and E (features -> visual factors); f_i are the features of item
i, divided by the largest absolute entry of the matrix. Every form is

    s_ui = latent(P_u) . Q_i + visual(P_u) . (f_i E)

so that training, ranking and the adversary are written once:

- ``shared`` (the form of the published AMR code): latent = visual = P_u, hence
  s_ui = p_u . (q_i + f_i E).
- ``full`` (He and McAuley, "VBPR", AAAI 2016): P_u = [gamma_u, theta_u], Q_i = [gamma_i, b_i] and
  E = [E, beta'], where b_i and beta' meet a constant 1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

ONE_MORE_COLUMN = ((0, 0), (0, 1))


def widths(form: str, factors: int) -> tuple[int, int, int]:
    """Columns of P, Q and E."""
    return (factors,) * 3 if form == "shared" else (2 * factors, factors + 1, factors + 1)


def latent_and_visual(form: str, user_rows: Any, pad: Callable[..., Any]) -> tuple[Any, Any]:
    """What of (n, columns) rows of P meets Q and what meets f E.

    ``pad`` is ``np.pad`` or ``tf.pad``, whichever fits ``user_rows``.
    """
    if form == "shared":
        return user_rows, user_rows
    factors = user_rows.shape[1] // 2
    return (
        pad(user_rows[:, :factors], ONE_MORE_COLUMN, constant_values=1.0),
        pad(user_rows[:, factors:], ONE_MORE_COLUMN, constant_values=1.0),
    )


def fold(
    form: str, tables: dict[str, np.ndarray], features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Two float32 matrices (users, d) and (items, d) whose product is the matrix of scores.

    ``tables``: P, Q and E. ``features``: (items, features), already scaled.
    """
    latent, visual = latent_and_visual(form, tables["P"], np.pad)
    projected = features @ tables["E"]
    if form == "shared":
        return latent, tables["Q"] + projected
    return np.hstack([latent, visual]), np.hstack([tables["Q"], projected])
