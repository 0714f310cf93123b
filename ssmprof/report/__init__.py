"""Findings to pages: the verdict, the figures, one offline HTML file, and exports.

Needs no torch: a run recorded on a board is read on a laptop.
"""
