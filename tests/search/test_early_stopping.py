from efflab.recipe.search_goal import Bound, Goal
from efflab.search import early_stopping

GOAL = Goal(("macs",), (Bound("error", 0.2, True), Bound("params", 1000, True)))
BOTH = Goal(("error", "macs"), ())


def done(error, macs, rung=None):
    trial = {"state": "done", "values": {"error": error, "quality": 1 - error, "macs": macs, "params": 500}}
    return trial | ({} if rung is None else {"rung": rung})


def test_a_bound_on_cost_that_is_broken_stays_broken():
    said = early_stopping.by_cost(GOAL, {"macs": 5.0, "params": 1001.0}, [])
    assert "params 1,001 before any training, the bound is params <= 1000" in said
    assert not early_stopping.by_cost(GOAL, {"macs": 5.0, "params": 1000.0}, [])


def test_a_trial_that_cannot_win_is_not_trained():
    known = {"macs": 5.0, "params": 10.0}
    assert not early_stopping.by_cost(GOAL, known, [done(0.1, 5.0)])  # it may have less error
    assert "macs 4 is reached already" in early_stopping.by_cost(GOAL, known, [done(0.1, 4.0)])
    assert not early_stopping.by_cost(GOAL, known, [done(0.3, 4.0)])  # that one breaks the bound on error
    assert not early_stopping.by_cost(GOAL, known, [done(0.1, 6.0)])
    assert not early_stopping.by_cost(BOTH, known, [done(0.1, 4.0)])  # it may have less error


def test_a_time_that_noise_may_have_made_longer_is_not_held_against_a_trial():
    goal = Goal(("latency_ms_p50",), ())
    best = [{"state": "done", "values": {"latency_ms_p50": 1.0, "error": 0.1}}]
    assert not early_stopping.by_cost(goal, {"latency_ms_p50": 1.04}, best)
    assert "is reached already" in early_stopping.by_cost(goal, {"latency_ms_p50": 1.06}, best)


def test_the_look_at_a_training_by_hand():
    # the luckiest of four won 0.1 after its look, so 0.125 is believed: 0.33 may come to 0.205, which breaks the bound
    trials = [done(0.10, 9, 0.12), done(0.12, 9, 0.22), done(0.18, 9, 0.20), done(0.19, 9, 0.21)]
    assert "error 0.3300 after a first part of the training, 0.2050 at the best" in early_stopping.by_rung(
        GOAL, {"macs": 5, "params": 5}, 0.33, trials
    )
    assert not early_stopping.by_rung(GOAL, {"macs": 5, "params": 5}, 0.32, trials)
    assert not early_stopping.by_rung(GOAL, {"macs": 5, "params": 5}, 0.9, trials[:3])  # too few to know


def test_a_training_that_another_trial_beats_at_the_best():
    trials = [done(0.10, 9, 0.12), done(0.12, 9, 0.22), done(0.18, 4, 0.20), done(0.19, 9, 0.21)]
    assert "another trial beats" in early_stopping.by_rung(
        BOTH, {"macs": 5}, 0.32, trials
    )  # 0.195 and 5 against 0.18 and 4
    assert not early_stopping.by_rung(BOTH, {"macs": 3}, 0.32, trials)


def test_trainings_that_lose_after_the_look_give_no_hope_and_no_despair():
    trials = [done(0.19, 9, 0.15)] * 4
    assert not early_stopping.by_rung(GOAL, {"macs": 5, "params": 5}, 0.2, trials)
    assert early_stopping.by_rung(GOAL, {"macs": 5, "params": 5}, 0.21, trials)
