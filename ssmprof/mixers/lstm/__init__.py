"""The classical recurrent units: LSTM (Hochreiter and Schmidhuber, 1997), GRU (arXiv:1406.1078)."""
