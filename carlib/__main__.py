"""`python -m carlib …`, and so `torchrun -m carlib train …`."""

from carlib.cli import main

main()
