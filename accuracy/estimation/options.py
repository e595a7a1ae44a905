"""How estimates are made: one value that goes through every estimator."""

from __future__ import annotations

from dataclasses import dataclass, field

from accuracy.errors import DesignError
from accuracy.estimation.interpreters import InterpreterPanel
from accuracy.estimation.variance import LonelyRule, PpsVariance, VarianceKind
from accuracy.intervals import IntervalKind, check_level
from accuracy.measures import DEFAULT_MEASURES, MEASURES


@dataclass(frozen=True, kw_only=True)
class FlagRules:
    """Limits of the flags; conventions, not laws.

    Attributes:
        min_points: Below it among the denominator's points: ``few_points``.
        min_psu: Below it in some stratum that is not a certainty: ``few_psu``.
        min_df: Degrees of freedom below it: ``few_psu``. Four cities in a region have 3.
        min_effective_omissions: Below it of Kish's effective number of omission points, n = (sum w)^2 / sum w^2:
            ``few_omissions``, where intervals of recall, F1, IoU and area may cover less than they claim
            (docs/accuracy.md has the study).
        cv_caution: Coefficient of variation above it: ``cv_caution``.
        cv_do_not_quote: Above it: ``cv_do_not_quote``.
    """

    min_points: int = 30
    min_psu: int = 3
    min_df: int = 3
    min_effective_omissions: float = 25.0
    cv_caution: float = 0.15
    cv_do_not_quote: float = 0.30


@dataclass(frozen=True, kw_only=True)
class EstimateOptions:
    """How estimates, their variances and their intervals are made.

    Attributes:
        measures: Names of `accuracy.measures.MEASURES`.
        variance: Which variance, see `accuracy.estimation.variance`. Functions that show several variances, or the one
            that the design calls for, put theirs in its place.
        interval_kind: How intervals are built, see `accuracy.intervals`.
        level: Confidence level in (0, 1).
        lonely_psu: What a single sampled unit of a stratum does: ``fail``, ``certainty``, ``adjust``, ``average``.
        pps: Which approximation serves cities drawn without replacement with unequal probabilities: ``brewer``,
            ``hajek``.
        fpc_in_cells: Finite-population correction of points for ``cities_fixed`` (``two_stage`` always has it).
        flag_rules: Limits of the flags.
        interpreters: Who answered what, so that their variance enters the standard errors; None leaves it out.

    Raises:
        DesignError: A measure is unknown.
        AccuracyError: The level lies outside (0, 1).
    """

    measures: tuple[str, ...] = DEFAULT_MEASURES
    variance: VarianceKind = "two_stage"
    interval_kind: IntervalKind = "logit_t"
    level: float = 0.95
    lonely_psu: LonelyRule = "fail"
    pps: PpsVariance = "brewer"
    fpc_in_cells: bool = False
    flag_rules: FlagRules = field(default_factory=FlagRules)
    interpreters: InterpreterPanel | None = None

    def __post_init__(self) -> None:
        check_level(self.level)
        unknown = [m for m in self.measures if m not in MEASURES]
        if unknown:
            raise DesignError(f"measure {unknown[0]!r} is none of {', '.join(MEASURES)}")
