"""Where a network looks, and whether that is true."""
