"""What a network says of photos, and every score that follows from it."""
