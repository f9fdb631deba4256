"""python -m training.demo"""

from training.demo.run import main
from training.verb import run

if __name__ == "__main__":
    raise SystemExit(run(main))
