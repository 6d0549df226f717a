"""Table of recommenders, by the names that options and runs show."""

from src.recommenders.acf import ACF
from src.recommenders.baselines import Popularity, RandomFactors
from src.recommenders.cornac_models import FOLDED
from src.recommenders.dvbpr import DVBPR
from src.recommenders.factor_models import AMF, AMR, BPRMF, VBPR, RankAMR
from src.recommenders.lightgcn import LightGCN
from src.recommenders.recommender import Recommender

RECOMMENDERS: dict[str, type[Recommender]] = {
    "Pop": Popularity,
    "Random": RandomFactors,
    "VBPR": VBPR,
    "BPRMF": BPRMF,
    "DVBPR": DVBPR,
    "ACF": ACF,
    "LightGCN": LightGCN,
    "AMR": AMR,
    "RankAMR": RankAMR,
    "AMF": AMF,
    **FOLDED,
}
"""Plain ones stand before those that continue them: that is the order in which they are trained."""
