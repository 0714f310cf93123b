"""The matrix LSTM of xLSTM (arXiv:2405.04517), as xLSTM-7B has it (arXiv:2503.13427)."""
