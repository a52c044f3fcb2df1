"""A third party's plugin package: an algorithm, a network, a data set and a suite of its own."""
