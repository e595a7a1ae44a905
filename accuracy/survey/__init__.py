"""What is drawn and what interpreters answer: design, draw, strata, labels, pages, agreement, leakage."""
