"""Statistics of map accuracy: sampling design, estimators, intervals, objects, leakage, report."""
