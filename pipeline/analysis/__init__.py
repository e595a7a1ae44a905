"""Many cities' products as figures: shares, clustering, building form, villages, SDG 11.1.1, with their uncertainty."""
