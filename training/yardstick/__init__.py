"""The yardstick: how often a list holds what a shopper searches next, for every contender alike, with intervals.

    run.py        a market, its cases, contenders and models -> every figure
    lists.py      what contenders say, as numbers; equal counts of candidates
    metrics.py    hits, ranks, categories, similarity, case by case
    groups.py     warm, tail and cold shoppers
    bootstrap.py  95 % intervals, paired, over shoppers
    judges.py     who tells a query's category and how alike two queries are
    ages.py       hits against the age of what was learned
    report.py     table, page and files; plots.py the pictures

docs/yardstick.md defines each figure.
"""
