"""Networks from scratch and pretrained, what of them learns when, and objectives."""
