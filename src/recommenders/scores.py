"""Forms of scores: how a user's row combines with an item's row and its features.

The tables are P (users), Q (items) and, in visual forms, E (features -> visual factors); f_i are the
features of item i, divided by the largest absolute entry of the matrix. Every form is

    s_ui = latent(P_u) . Q_i + visual(P_u) . (f_i E)

so that training, ranking and the adversaries are written once:

- ``mf`` (BPR-MF; Rendle et al., "BPR", UAI 2009): latent = P_u and no E, hence s_ui = p_u . q_i.
- ``mf_bias``: ``mf`` with an item bias, Q_i = [q_i, b_i], which is multiplied by a constant 1.
- ``shared`` (the form of the published AMR code): latent = visual = P_u, hence
  s_ui = p_u . (q_i + f_i E).
- ``full`` (He and McAuley, "VBPR", AAAI 2016): P_u = [gamma_u, theta_u], Q_i = [gamma_i, b_i] and
  E = [E, beta'], where b_i and beta' are multiplied by a constant 1.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

Form = Literal["mf", "mf_bias", "shared", "full"]
BIASED_FORMS = ("mf_bias", "full")
"""Forms in which the last columns of Q (and of E) are biases."""
ONE_MORE_COLUMN = ((0, 0), (0, 1))


def widths(form: Form, factors: int) -> tuple[int, ...]:
    """Return the numbers of columns of P, Q and, in visual forms, E."""
    return {
        "mf": (factors, factors),
        "mf_bias": (factors, factors + 1),
        "shared": (factors, factors, factors),
        "full": (2 * factors, factors + 1, factors + 1),
    }[form]


def latent_and_visual(
    form: Form, user_rows: Any, pad: Callable[..., Any]
) -> tuple[Any, Any | None]:
    """Return the parts of rows (n, columns) of P that multiply Q and f E, the latter None without E.

    ``pad`` is ``np.pad`` or ``tf.pad``, whichever fits ``user_rows``.
    """
    if form == "mf":
        return user_rows, None
    if form == "mf_bias":
        return pad(user_rows, ONE_MORE_COLUMN, constant_values=1.0), None
    if form == "shared":
        return user_rows, user_rows
    factors = user_rows.shape[1] // 2
    return (
        pad(user_rows[:, :factors], ONE_MORE_COLUMN, constant_values=1.0),
        pad(user_rows[:, factors:], ONE_MORE_COLUMN, constant_values=1.0),
    )


def fold(
    form: Form, tables: dict[str, np.ndarray], features: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 matrices (users, d) and (items, d) whose product is the matrix of scores.

    ``tables`` are P, Q and, in visual forms, E. ``features`` are (items, features), already scaled; other
    forms ignore them.
    """
    latent, visual = latent_and_visual(form, tables["P"], np.pad)
    if visual is None:
        return latent, tables["Q"]
    projected = features @ tables["E"]
    if form == "shared":
        return latent, tables["Q"] + projected
    return np.hstack([latent, visual]), np.hstack([tables["Q"], projected])
