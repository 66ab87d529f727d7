"""Attacks on phf itself: mutated inputs, kills, damaged files, two at once, break-outs. `make attack` runs them all.

An attempt holds if the command ends well with the result that it has when nobody attacks, or exits 2 with one line. A
traceback, a hang, and above all a command that ends well with another result are failures; each is listed with the seed that
repeats it.
"""
