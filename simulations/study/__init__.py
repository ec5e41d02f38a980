"""Many runs instead of one: policies × scenarios × seeds × eagerness, in as many processes as there are cores."""

from .engines import Engine, Spread, carry_out_all, spread_over
from .figures import Comparison, CostCurve, Paired, compared, cost_at, paired
from .trial import STATIC, Figures, Key, Trial, carry_out, figures_of, figures_of_all

__all__ = [
    "STATIC",
    "Comparison",
    "CostCurve",
    "Engine",
    "Figures",
    "Key",
    "Paired",
    "Spread",
    "Trial",
    "carry_out",
    "carry_out_all",
    "compared",
    "cost_at",
    "figures_of",
    "figures_of_all",
    "paired",
    "spread_over",
]
