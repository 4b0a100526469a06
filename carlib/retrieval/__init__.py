"""Photos as points: neighbors, galleries, pairs."""
