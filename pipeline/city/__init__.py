"""One city: its ground, the job of a run, and the stages that make its product."""
