"""A deployment's next step as tables: (deployment, replica sets, pods) -> sizes."""

import pytest

from lab.ctl import revisions, rollout
from lab.ctl.rollout import bounds, plan, share

CREATED = "2026-01-01T00:00:{:02}Z"


@pytest.fixture
def world(objects):
    return World(objects)


class World:
    """Writes deployments and replica sets by a few numbers."""

    def __init__(self, objects):
        self.objects = objects

    def deployment(self, replicas=3, **spec):
        made = self.objects.deployment(replicas=replicas, **spec)
        made["metadata"] |= {"uid": "d", "generation": 1}
        return made

    def replica_set(self, owner, number, size, available=None, *, image=None, status=None, desired=None):
        """`number` orders by age and revision; with no image it is the set of the deployment's template."""
        template = owner["spec"]["template"]
        if image:
            template = self.objects.template({"app": "web"}, image)
        base = {**owner, "spec": {**owner["spec"], "template": template}}
        made = revisions.new_replica_set(base, [], size, 0)
        made["metadata"] |= {
            "uid": f"r{number}",
            "name": f"web-{number}",
            "creationTimestamp": CREATED.format(number),
            "generation": 1,
        }
        made["metadata"]["annotations"] |= {revisions.REVISION: str(number)}
        if desired is not None:
            made["metadata"]["annotations"][revisions.DESIRED] = str(desired)
        up = size if available is None else available
        made["status"] = {"replicas": size, "availableReplicas": up, "observedGeneration": 1, **(status or {})}
        return made


def sizes(result):
    return {
        one.new["metadata"]["name"]: one.new["spec"]["replicas"]
        for one in result.updates
        if one.new["spec"]["replicas"] != one.old["spec"]["replicas"]
    }


@pytest.mark.parametrize(
    ("value", "whole", "up", "down"),
    [
        (2, 10, 2, 2),
        ("25%", 3, 1, 0),
        ("25%", 4, 1, 1),
        ("100%", 3, 3, 3),
        ("0%", 5, 0, 0),
        ("30%", 10, 3, 3),
        (0, 0, 0, 0),
    ],
)
def test_a_share_is_a_number_or_a_percentage_rounded_as_asked(value, whole, up, down):
    assert (up, down) == (share(value, whole, round_up=True), share(value, whole, round_up=False))


def test_bounds_that_would_let_nothing_move_let_one_pod_go(world):
    assert 1 == bounds(world.deployment(3, strategy=world.objects.rolling(0, 0))).unavailable


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "new", "old", "expected"),
    [
        # (size, available) of the new set, then of the old one
        (3, 1, 0, (0, 0), (3, 3), {"web-9": 1}),
        (3, 1, 0, (1, 0), (3, 3), {}),
        (3, 1, 0, (1, 1), (3, 3), {"web-1": 2}),
        (3, 1, 0, (1, 1), (2, 2), {"web-9": 2}),
        (3, 1, 0, (3, 3), (1, 1), {"web-1": 0}),
        (3, 0, 1, (0, 0), (3, 3), {"web-1": 2}),
        (3, 0, 1, (0, 0), (2, 2), {"web-9": 1}),
        (3, 0, 1, (1, 0), (2, 2), {}),
        (4, "25%", "25%", (1, 0), (4, 4), {"web-1": 3}),
        (4, "100%", 0, (0, 0), (4, 4), {"web-9": 4}),
        (4, "100%", 0, (4, 2), (4, 4), {"web-1": 2}),
        (4, 0, "100%", (0, 0), (4, 4), {"web-1": 0}),
        # pods of the old set that serve nobody go first, and cost no availability
        (3, 1, 0, (0, 0), (3, 0), {"web-9": 1}),
        (3, 1, 1, (1, 0), (3, 1), {"web-1": 2}),
        # a status that lags behind a shrunk old set does not shrink it again
        (3, 1, 0, (1, 1), (2, 3), {"web-9": 2}),
        (3, 1, 0, (2, 1), (2, 3), {}),
        # more of the new set than wanted
        (2, 1, 0, (4, 4), (0, 0), {"web-9": 2}),
        (3, 1, 1, (3, 3), (0, 0), {}),
    ],
)
def test_a_rolling_update_moves_between_its_bounds(world, replicas, surge, unavailable, new, old, expected):
    wanted = world.deployment(replicas, strategy=world.objects.rolling(surge, unavailable))
    sets = [world.replica_set(wanted, 1, *old, image="web:0"), world.replica_set(wanted, 9, *new)]
    assert expected == sizes(plan(wanted, sets, []))


def test_the_first_replica_set_has_full_size_hash_and_owner(world):
    made = plan(world.deployment(3), [], []).create
    letters = made["metadata"]["labels"][revisions.HASH_LABEL]
    assert f"web-{letters}" == made["metadata"]["name"]
    assert {"app": "web", revisions.HASH_LABEL: letters} == made["spec"]["selector"]["matchLabels"]
    assert letters == made["spec"]["template"]["metadata"]["labels"][revisions.HASH_LABEL]
    assert 3 == made["spec"]["replicas"]
    assert "d" == made["metadata"]["ownerReferences"][0]["uid"]
    assert "1" == made["metadata"]["annotations"][revisions.REVISION]


def test_a_further_replica_set_starts_with_the_surge_and_the_next_revision(world):
    wanted = world.deployment(3)
    made = plan(wanted, [world.replica_set(wanted, 4, 3, image="web:0")], []).create
    assert 1 == made["spec"]["replicas"]
    assert "5" == made["metadata"]["annotations"][revisions.REVISION]


def test_a_template_that_comes_back_reuses_its_set_under_a_new_revision(world):
    wanted = world.deployment(3)
    sets = [world.replica_set(wanted, 1, 0), world.replica_set(wanted, 2, 3, image="web:0")]
    result = plan(wanted, sets, [])
    assert result.create is None
    back = result.updates[0].new["metadata"]["annotations"]
    assert ("3", "1") == (back[revisions.REVISION], back[revisions.REVISION_HISTORY])


def test_restarting_makes_another_set(world):
    before = world.deployment(3)
    after = world.deployment(3)
    after["spec"]["template"] = {**after["spec"]["template"]}
    annotated = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    after["spec"]["template"]["metadata"] = {"labels": {"app": "web"}, "annotations": annotated}
    assert plan(after, [world.replica_set(before, 1, 3)], []).create is not None


def test_recreate_ends_the_old_pods_before_it_makes_the_first_new_one(world):
    wanted = world.deployment(3, strategy={"type": "Recreate"})
    old = world.replica_set(wanted, 1, 3, image="web:0")
    assert {"web-1": 0} == sizes(plan(wanted, [old], []))
    emptied = world.replica_set(wanted, 1, 0, image="web:0")
    dying = {
        "metadata": {"name": "p", "deletionTimestamp": "now", "ownerReferences": [{"uid": "r1", "controller": True}]},
        "status": {"phase": "Running"},
    }
    assert plan(wanted, [emptied], [dying]).create is None
    assert 3 == plan(wanted, [emptied], []).create["spec"]["replicas"]


def test_a_paused_deployment_makes_no_new_set(world):
    wanted = world.deployment(3, paused=True)
    result = plan(wanted, [world.replica_set(wanted, 1, 3, image="web:0")], [])
    assert (None, {}) == (result.create, sizes(result))


def test_a_paused_deployment_still_changes_its_size(world):
    wanted = world.deployment(5, paused=True)
    assert {"web-1": 5} == sizes(plan(wanted, [world.replica_set(wanted, 1, 3, desired=3)], []))


def test_a_change_of_size_amid_a_rollout_is_spread_in_proportion(world):
    """Kubernetes' documented example: 10 -> 15 with 8 old and 5 new, surge 3: 3 to the old set, 2 to the new one."""
    wanted = world.deployment(15, strategy=world.objects.rolling(3, 2))
    old = world.replica_set(wanted, 1, 8, image="web:0", desired=10)
    new = world.replica_set(wanted, 9, 5, 0, desired=10)
    assert {"web-1": 11, "web-9": 7} == sizes(plan(wanted, [old, new], []))


def test_scaling_to_nothing_empties_all_sets(world):
    wanted = world.deployment(0)
    sets = [world.replica_set(wanted, 1, 2, image="web:0", desired=3), world.replica_set(wanted, 9, 1, desired=3)]
    assert {"web-1": 0, "web-9": 0} == sizes(plan(wanted, sets, []))


def test_a_wrong_label_on_the_size_does_not_loop(world):
    wanted = world.deployment(3)
    only = world.replica_set(wanted, 1, 3, desired=2)
    step = plan(wanted, [only], [])
    again = plan(wanted, [one.new for one in step.updates], [])
    assert ({}, {}) == (sizes(step), sizes(again))
    assert not revisions.is_resized(wanted, [one.new for one in step.updates])


def test_history_is_cut_only_when_the_rollout_is_through(world):
    wanted = world.deployment(3, revisionHistoryLimit=1)
    old = [world.replica_set(wanted, number, 0, image=f"old:{number}") for number in (3, 1, 2)]
    through = [*old, world.replica_set(wanted, 9, 3)]
    amid = [*old, world.replica_set(wanted, 9, 3, 2)]
    assert ["web-1", "web-2"] == [one["metadata"]["name"] for one in plan(wanted, through, []).remove]
    assert () == plan(wanted, amid, []).remove


def test_a_new_min_ready_time_reaches_the_newest_set(world):
    before = world.deployment(3)
    wanted = world.deployment(3, minReadySeconds=7)
    updates = plan(wanted, [world.replica_set(before, 1, 3)], []).updates
    assert [7] == [one.new["spec"]["minReadySeconds"] for one in updates]


def test_another_collision_count_gives_another_name(world):
    template = revisions.bare_template(world.deployment())
    names = {revisions.template_hash(template, count) for count in range(20)}
    assert 20 == len(names)
    assert all(len(name) == 10 and set(name) <= set(revisions.ALPHABET) for name in names)


def test_any_state_is_left_in_finitely_many_steps_within_the_bounds(world):
    """Play the rollout with pods that become available at once, from many mixtures of sets."""
    for replicas in (0, 1, 3, 7):
        for surge, unavailable in ((1, 0), (0, 1), (2, 2), ("50%", "50%"), ("25%", "25%")):
            wanted = world.deployment(replicas, strategy=world.objects.rolling(surge, unavailable))
            for first, second, third in ((0, 0, 0), (3, 0, 0), (2, 2, 1), (0, 5, 0), (0, 1, 6)):
                sets = [
                    world.replica_set(wanted, 1, first, image="web:0"),
                    world.replica_set(wanted, 2, second, image="web:00"),
                    world.replica_set(wanted, 9, third),
                ]
                _play(wanted, sets)


def _play(wanted, sets):
    held = {one["metadata"]["name"]: one for one in sets}
    limits = bounds(wanted)
    for _ in range(60):
        updates = plan(wanted, list(held.values()), []).updates
        if not updates:
            break
        before = sum(map(rollout.size, held.values()))
        for update in updates:
            size = rollout.size(update.new)
            status = {**update.new["status"], "replicas": size, "availableReplicas": size}
            held[update.new["metadata"]["name"]] = {**update.new, "status": status}
        total = sum(map(rollout.size, held.values()))
        assert total <= max(limits.most, before)
        assert total >= min(limits.least_available, before)
    else:
        raise AssertionError("no end")
    assert [0, 0, wanted["spec"]["replicas"]] == [rollout.size(held[f"web-{number}"]) for number in (1, 2, 9)]
