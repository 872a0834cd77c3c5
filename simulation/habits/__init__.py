"""A law of shoppers, written without a look at the other one, so that no result rests on one author's grammar.

In words. A shop of kitchen, comfort, music, fitness and toys. Shoppers lie in a taste space of eight dimensions, mixtures of twelve
communities that like things together which no name puts together. What they searched lately excites the next search, in its own category
and in neighbouring ones, and fades by a power law, so that several interests live side by side; what is used up comes back after
a period; what their community talks about catches on. Each has brands, needs and habits of writing that show in all categories. They
come by a heavy-tailed rate: most a few times a month. At the home page they take a hint by how near it is to what they are likely to search
next, by liking, by the mood of the visit, and by whether they buy such things elsewhere: the last two leave no trace in any log.

- `phrases`: shelves, phrases, invented names, slips of the hand;  `catalogue`: brands, lines, items;  `wants`: what can be asked, in which words
- `world`: the taste space, categories, communities;  `fashion`: what changes by the day;  `taste`: what a shopper is born with
- `mind`: the law of the next search;  `visit`: pages, searches, clicks;  `law`: the whole
"""

from simulation.habits.law import Habits

__all__ = ["Habits"]
