"""The commands of `uvmap`, one module each; `flows.cli` assembles them."""
