"""Table of recommenders, by the names that options and runs show."""

from src.recommenders.baselines import Popularity, RandomFactors
from src.recommenders.factor_models import AMF, AMR, BPRMF, VBPR, RankAMR
from src.recommenders.recommender import Recommender

RECOMMENDERS: dict[str, type[Recommender]] = {
    "Pop": Popularity,
    "Random": RandomFactors,
    "VBPR": VBPR,
    "BPRMF": BPRMF,
    "AMR": AMR,
    "RankAMR": RankAMR,
    "AMF": AMF,
}
"""Plain ones stand before those that continue them: that is the order in which they are trained."""
