"""Claims: what publications say of the methods here, measured again. Each is one file with a `CLAIM`."""

import pkgutil
from importlib import import_module

from latentia.claims.claim import Budget, Claim, Verdict, decide, overall
from latentia.claims.harness import run_claim

__all__ = ["Budget", "Claim", "Verdict", "all_claims", "decide", "overall", "run_claim"]


def all_claims() -> dict[str, Claim]:
    """Every claim by name: the `CLAIM` of each file in this folder that has one."""
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    claims = [module.CLAIM for module in modules if hasattr(module, "CLAIM")]
    return {claim.name: claim for claim in sorted(claims, key=lambda claim: claim.name)}
