"""A network in people's hands: single photos, other programs, a browser."""
