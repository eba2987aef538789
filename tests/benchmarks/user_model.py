"""The model of a user, in a file of the user."""

MODEL = """
import torch
from torch import nn
from lstmq import Stream, Subject, Workload

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(64, 256)
        self.out = nn.Linear(256, 10)

    def forward(self, input, hidden=None):
        output, hidden = self.rnn(input, hidden)
        return self.out(output), hidden

def workload():
    torch.manual_seed(0)
    stream = Stream(inputs=torch.rand(500, 1, 64), targets=torch.zeros(500, 1, dtype=torch.int64))
    subject = Subject(model=Model(), stream=stream, origin="a small model")
    return Workload(speed=subject, loss=subject)
"""
