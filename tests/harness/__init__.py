"""Bad and edge inputs, made and tried as users try them: see `harness.run`."""
