"""Laws of the pace: slices are whole windows of quick models, and a step or a few of slow ones."""

import pytest
import torch

from lstmq.gate.pace import PROBE_STEPS, Pace, cap_loss, choose_pace
from lstmq.text.streams import Stream
from lstmq.workload.subject import Subject, Workload
from runs import make_subject

WORKLOAD = Workload(speed=make_subject(), loss=make_subject(12, 50, 1))


def choose(workload, bptt, seconds_per_step):
    """Return the pace of a model whose steps seem to take so many seconds."""
    times = iter([0.0, PROBE_STEPS * seconds_per_step])
    return choose_pace(workload, bptt, lambda: next(times))


@pytest.mark.parametrize(("bptt", "steps"), [(1, 25), (7, 28), (25, 25), (35, 35), (1000, 100)])
def test_slice_of_a_quick_model_is_whole_windows_of_at_least_25_steps_or_the_whole_stream(bptt, steps):
    assert choose(WORKLOAD, bptt, 0.001) == Pace(steps=steps)
    assert len(WORKLOAD.speed.stream) == 100


def test_slow_model_reads_less():
    assert choose(WORKLOAD, 25, 0.02) == Pace(steps=PROBE_STEPS, slices=4, loss_steps=500)
    assert choose(WORKLOAD, 25, 0.1) == Pace(steps=1, slices=4, loss_steps=200)
    assert choose(WORKLOAD, 25, 0.6) == Pace(steps=1, slices=1, loss_steps=50)


def test_loss_of_a_slow_model_is_taken_on_its_first_steps():
    capped = cap_loss(WORKLOAD, 20)
    assert capped.speed is WORKLOAD.speed
    assert capped.loss.stream.inputs.equal(WORKLOAD.loss.stream.inputs[:20])
    assert capped.loss.origin.endswith(", the first 20 steps")
    assert cap_loss(WORKLOAD, None) is cap_loss(WORKLOAD, 49) is WORKLOAD


def test_probing_does_not_change_the_state_dict_of_a_model_whose_forward_does():
    class Registers(torch.nn.Linear):
        def forward(self, inputs):
            self.seen = torch.nn.Parameter(inputs[:1])
            return super().forward(inputs)

    stream = Stream(inputs=torch.rand(30, 1, 4), targets=torch.zeros(30, 1, dtype=torch.int64))
    subject = Subject(model=Registers(4, 3).eval(), stream=stream, origin="a test")
    choose(Workload(speed=subject, loss=subject), 25, 0.001)
    assert subject.model.state_dict().keys() == {"weight", "bias"}
