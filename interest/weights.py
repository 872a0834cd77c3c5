"""The interest: weights over parts, how a behaviour adds to them, and how far they have moved since the last firing.

An interest is held in three columns, as in `State`: names of the parts between line feeds, a weight each, and for the first
of them their shares at the last firing, the base.
"""

from array import array

from interest.parts import shares
from interest.policy import TriggerPolicy
from interest.state import State

Doubles = array  # of doubles
_REBASE_AFTER = 64
"""Half-lives after which weights get a new reference time: far from overflow (2^1023), rare enough to cost nothing."""


def weigh(
    parts: str,
    weights: Doubles,
    reference_ms: int,
    text: str,
    category: str,
    amount: float,
    time_ms: int,
    policy: TriggerPolicy,
) -> tuple[str, Doubles, int]:
    """Parts, weights and their reference time with one more behaviour that weighs `amount` at its own time.

    Adds to the `weights` it was given, unless they need a new reference.
    """
    exponent = (time_ms - reference_ms) / policy.half_life_ms
    if exponent > _REBASE_AFTER or not weights:
        faded = 2.0**-exponent if weights else 1.0
        weights = array("d", [w * faded for w in weights])
        reference_ms, exponent = time_ms, 0.0
    amount *= 2.0**exponent
    parts = parts or "\n"
    for name, share in shares(text, category, policy.category_share, policy.terms_per_behaviour):
        at = parts.find(name)
        if at < 0:
            parts += name[1:]
            weights.append(amount * share)
        else:
            weights[parts.count("\n", 0, at)] += amount * share
    return parts, weights, reference_ms


def trimmed(parts: str, weights: Doubles, based: int, policy: TriggerPolicy) -> tuple[str, Doubles]:
    """Where too many parts are held, those lighter than the n-th heaviest go; its equals stay with it, unless they are too many.

    One of the first `based` stays with weight 0, for its base: should it come back, it has not moved that far.
    """
    too_many = policy.interests_kept * 4 // 3
    if len(weights) <= too_many or len(weights) - weights.count(0.0) <= too_many:
        return parts, weights
    lightest = sorted(weights, reverse=True)[policy.interests_kept - 1]
    names = parts.split("\n")
    held = array("d", [w if w >= lightest else 0.0 for w in weights[:based]])
    stay = [(name, w) for name, w in zip(names[based + 1 :], weights[based:], strict=False) if w >= lightest]
    if len(held) - held.count(0.0) + len(stay) > too_many:
        return _heaviest_by_name(parts, weights, based, policy.interests_kept)
    held.extend([w for _, w in stay])
    return "\n".join(names[: based + 1] + [name for name, _ in stay] + [""]), held


def _heaviest_by_name(parts: str, weights: Doubles, based: int, most: int) -> tuple[str, Doubles]:
    """The `most` heaviest, equals by name."""
    names = parts.split("\n")[1:-1]
    order = sorted((-w, name) for w, name in zip(weights, names, strict=True))
    held = {name for _, name in order[:most]}
    stay = [place for place, name in enumerate(names) if place < based or name in held]
    parts = "".join([f"{names[place]}\n" for place in stay])
    return f"\n{parts}", array("d", [weights[place] if names[place] in held else 0.0 for place in stay])


def drift(weights: Doubles, base: Doubles) -> float:
    """Share of the interest that moved since `base`: total variation distance, 0 .. 1. Without a base all of it moved."""
    total = sum(weights)
    if not base or not total:
        return 1.0 if total else 0.0
    # What some parts gained others have lost: the gains are half the sum of absolute differences.
    gains = [w - share * total for w, share in zip(weights, base, strict=False) if w > share * total]
    return min(1.0, (sum(gains) + sum(weights[len(base) :])) / total)


def drift_of(state: State) -> float:
    return drift(array("d", state.weights), array("d", state.base))


def reasons(parts: str, weights: Doubles, base: Doubles) -> tuple[str, ...]:
    """The three parts that gained most, for people: `#Laptops +0.41`."""
    total = sum(weights)
    before = base + array("d", bytes(8 * (len(weights) - len(base))))
    names = parts.split("\n")
    gains = [
        (share - w / total, names[place])
        for place, (w, share) in enumerate(zip(weights, before, strict=True), 1)
        if w / total - share >= 0.005
    ]
    return tuple([f"{name} {-loss:+.2f}" for loss, name in sorted(gains)[:3]])


def rebased(parts: str, weights: Doubles) -> tuple[str, Doubles, Doubles]:
    """Parts, weights and base at a firing: the shares now are the base from here on."""
    if 0.0 in weights:
        names = parts.split("\n")[1:-1]
        names = "\n".join([name for name, w in zip(names, weights, strict=True) if w])
        parts, weights = f"\n{names}\n", array("d", [w for w in weights if w])
    total = sum(weights)
    return parts, weights, array("d", [w / total for w in weights])
