"""Faults on real servers under load, and an oracle of its own code that says what they cost.

python -m bench.faults --runs 20            all of them, into docs/results/faults.json
python -m bench.faults --only kill_job      one, to look at
"""
