import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passband.data import SampleOrder, batch_positions, epoch_order


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 40), seed=st.integers(-5, 5), epoch=st.integers(0, 4))
def test_each_epoch_visits_everything_once(length, seed, epoch):
    order = SampleOrder(length, seed)
    seen = [order.index(epoch * length + place) for place in range(length)]
    assert sorted(seen) == list(range(length))
    assert seen == epoch_order(length, seed, epoch).tolist()


def test_epochs_and_seeds_differ():
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_positions_are_uniform():
    # Where sample 0 lands in an epoch, over many seeds: mean (n-1)/2, standard error sqrt((n^2-1)/12/count).
    places = torch.tensor([(epoch_order(10, seed, 0) == 0).nonzero().item() for seed in range(2000)]).double()
    assert abs(places.mean() - 4.5) < 5 * (99 / 12 / 2000) ** 0.5


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 30),
    seed=st.integers(0, 9),
    world_size=st.sampled_from([1, 2, 3, 4]),
    share=st.integers(1, 7),
    restart=st.integers(0, 6),
)
def test_ranks_and_restarts_do_not_change_the_sequence(length, seed, world_size, share, restart):
    batch_size = share * world_size
    single = SampleOrder(length, seed)
    expected = [single.index(position) for position in range(7 * batch_size)]
    ranks = [SampleOrder(length, seed) for _ in range(world_size)]
    seen = []
    for step in range(7):
        if step == restart:
            ranks = [SampleOrder(length, seed) for _ in range(world_size)]
        for rank, order in enumerate(ranks):
            seen += order.batch_indices(step, batch_size, rank, world_size)
    assert seen == expected


def test_a_jump_backwards_is_allowed():
    order = SampleOrder(6, 1)
    late = [order.index(position) for position in range(12, 18)]
    early = [order.index(position) for position in range(6)]
    assert early == epoch_order(6, 1, 0).tolist()
    assert late == epoch_order(6, 1, 2).tolist()


def test_global_random_state_is_untouched():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    SampleOrder(9, 4).index(3)
    assert torch.equal(torch.rand(3), expected)


def test_batches_feed_a_data_loader():
    order = SampleOrder(5, 0)
    loader = torch.utils.data.DataLoader(
        torch.arange(5) * 10, batch_sampler=order.batches(2, 5, batch_size=4, rank=1, world_size=2)
    )
    expected = [[10 * i for i in order.batch_indices(step, 4, 1, 2)] for step in (2, 3, 4)]
    assert [batch.tolist() for batch in loader] == expected


def test_batch_positions_partition_the_batch():
    parts = [batch_positions(3, 8, rank, 4) for rank in range(4)]
    assert [p for part in parts for p in part] == list(range(24, 32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 6, 0, 4), "multiple of the number of processes, got 6 for 4"),
        ((0, 0), "positive multiple"),
        ((-1, 4), "step must be at least 0, got -1"),
        ((0, 4, 2, 2), "got rank 2 of 2"),
        ((0, 4, -1, 2), "got rank -1 of 2"),
        ((0, 4, 0, 0), "got rank 0 of 0"),
    ],
)
def test_bad_batches(arguments, message):
    with pytest.raises(ValueError, match=message):
        batch_positions(*arguments)


def test_bad_orders():
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        SampleOrder(0, 0)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        epoch_order(0, 0, 0)
    with pytest.raises(ValueError, match="epoch must be at least 0, got -1"):
        epoch_order(3, 0, -1)
    with pytest.raises(ValueError, match="position must be at least 0, got -2"):
        SampleOrder(3, 0).index(-2)
