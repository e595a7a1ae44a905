"""The report of an assessment: tables and pages."""
