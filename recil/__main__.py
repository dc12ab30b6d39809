"""python -m recil"""

from recil.cli import main

main()
