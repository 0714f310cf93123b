"""One file per question; every function draws plain data on axes and returns nothing."""
